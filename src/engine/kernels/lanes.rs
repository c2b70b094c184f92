//! Sixteen numbers at a time, in each instruction set.
//!
//! Only what a matrix product needs is here: everything else is plain Rust over slices, which the
//! compiler turns into vector code for the instruction set it is compiled for. Nothing is ever summed
//! across lanes, so that a lane's result does not depend on how many there are.

use super::half;

/// Numbers in a [`Lanes`], and outputs in a panel of a matrix.
pub const WIDTH: usize = 16;

/// Weights of sixteen outputs for one input, in half precision.
#[derive(Debug, Clone, Copy, Default)]
#[repr(align(32))]
pub struct HalfRow(pub [u16; WIDTH]);

/// Weights of sixteen outputs for one input.
#[derive(Debug, Clone, Copy, Default)]
#[repr(align(64))]
pub struct SingleRow(pub [f32; WIDTH]);

/// Sixteen numbers in registers.
///
/// # Safety
/// The functions of an implementation may be called only where the CPU has its instruction set.
pub unsafe trait Lanes: Copy {
    /// All lanes the same.
    unsafe fn splat(value: f32) -> Self;
    /// From memory.
    unsafe fn load(row: &[f32; WIDTH]) -> Self;
    /// From half precision in memory.
    unsafe fn widen(row: &HalfRow) -> Self;
    /// `self * b + c`, rounded once.
    unsafe fn mul_add(self, b: Self, c: Self) -> Self;
    /// To memory.
    unsafe fn store(self, row: &mut [f32; WIDTH]);
}

/// A row of a panel in memory.
pub trait Row: Copy {
    /// The row in registers.
    ///
    /// # Safety
    /// As for `L`.
    unsafe fn lanes<L: Lanes>(&self) -> L;
}

impl Row for HalfRow {
    #[inline(always)]
    unsafe fn lanes<L: Lanes>(&self) -> L {
        // SAFETY: the caller's promise.
        unsafe { L::widen(self) }
    }
}

impl Row for SingleRow {
    #[inline(always)]
    unsafe fn lanes<L: Lanes>(&self) -> L {
        // SAFETY: the caller's promise.
        unsafe { L::load(&self.0) }
    }
}

/// Plain Rust: what the others are held against, and NEON on aarch64, where a fused multiply-add
/// belongs to every CPU.
#[derive(Clone, Copy)]
pub struct Plain([f32; WIDTH]);

// SAFETY: nothing but Rust.
unsafe impl Lanes for Plain {
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; WIDTH])
    }

    #[inline(always)]
    unsafe fn load(row: &[f32; WIDTH]) -> Self {
        Self(*row)
    }

    #[inline(always)]
    unsafe fn widen(row: &HalfRow) -> Self {
        Self(row.0.map(half::to_f32))
    }

    #[inline(always)]
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        let mut out = c;
        for ((out, a), b) in out.0.iter_mut().zip(&self.0).zip(&b.0) {
            *out = a.mul_add(*b, *out);
        }
        out
    }

    #[inline(always)]
    unsafe fn store(self, row: &mut [f32; WIDTH]) {
        *row = self.0;
    }
}

#[cfg(target_arch = "x86_64")]
pub use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{HalfRow, Lanes, WIDTH};

    /// Two registers of AVX2, with FMA and F16C.
    #[derive(Clone, Copy)]
    pub struct Avx2(__m256, __m256);

    // SAFETY: these intrinsics need AVX, FMA and F16C, which the instruction set `Avx2` stands for.
    unsafe impl Lanes for Avx2 {
        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            // SAFETY: the caller has AVX.
            let v = unsafe { _mm256_set1_ps(value) };
            Self(v, v)
        }

        #[inline(always)]
        unsafe fn load(row: &[f32; WIDTH]) -> Self {
            let p = row.as_ptr();
            // SAFETY: the caller has AVX; both halves of the 16 numbers are in `row`.
            unsafe { Self(_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))) }
        }

        #[inline(always)]
        unsafe fn widen(row: &HalfRow) -> Self {
            let p = row.0.as_ptr().cast::<__m128i>();
            // SAFETY: the caller has F16C; both halves of the 16 numbers are in `row`.
            unsafe {
                Self(
                    _mm256_cvtph_ps(_mm_loadu_si128(p)),
                    _mm256_cvtph_ps(_mm_loadu_si128(p.add(1))),
                )
            }
        }

        #[inline(always)]
        unsafe fn mul_add(self, b: Self, c: Self) -> Self {
            // SAFETY: the caller has FMA.
            unsafe { Self(_mm256_fmadd_ps(self.0, b.0, c.0), _mm256_fmadd_ps(self.1, b.1, c.1)) }
        }

        #[inline(always)]
        unsafe fn store(self, row: &mut [f32; WIDTH]) {
            let p = row.as_mut_ptr();
            // SAFETY: the caller has AVX; both halves fit in `row`.
            unsafe {
                _mm256_storeu_ps(p, self.0);
                _mm256_storeu_ps(p.add(8), self.1);
            }
        }
    }

    /// One register of AVX-512.
    #[derive(Clone, Copy)]
    pub struct Avx512(__m512);

    // SAFETY: these intrinsics need AVX-512F, which the instruction set `Avx512` stands for.
    unsafe impl Lanes for Avx512 {
        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            // SAFETY: the caller has AVX-512F.
            Self(unsafe { _mm512_set1_ps(value) })
        }

        #[inline(always)]
        unsafe fn load(row: &[f32; WIDTH]) -> Self {
            // SAFETY: the caller has AVX-512F; `row` has 16 numbers.
            Self(unsafe { _mm512_loadu_ps(row.as_ptr()) })
        }

        #[inline(always)]
        unsafe fn widen(row: &HalfRow) -> Self {
            // SAFETY: the caller has AVX-512F (and AVX with it); `row` has 16 numbers.
            Self(unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(row.0.as_ptr().cast())) })
        }

        #[inline(always)]
        unsafe fn mul_add(self, b: Self, c: Self) -> Self {
            // SAFETY: the caller has AVX-512F.
            Self(unsafe { _mm512_fmadd_ps(self.0, b.0, c.0) })
        }

        #[inline(always)]
        unsafe fn store(self, row: &mut [f32; WIDTH]) {
            // SAFETY: the caller has AVX-512F; 16 numbers fit in `row`.
            unsafe { _mm512_storeu_ps(row.as_mut_ptr(), self.0) }
        }
    }
}
