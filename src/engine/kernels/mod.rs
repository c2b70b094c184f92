//! The engine's arithmetic, and the choice of an instruction set for it.

mod elementwise;
pub mod half;
pub mod lanes;
mod product;

use std::ops::Range;

pub use lanes::{HalfRow, SingleRow, WIDTH};
pub use product::Rows;

use super::matrix::Matrix;
use crate::harmonics::Excitation;
use crate::noise::Noise;
use crate::synthesis::HeadRow;

/// What the engine's arithmetic is done with. The results are the same to the last bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InstructionSet {
    /// Plain Rust. On x86-64 it is slow and there to hold the others against; on aarch64 it becomes NEON.
    Plain,
    /// AVX2 with FMA and F16C: Intel from 2013, AMD from 2015.
    Avx2,
    /// AVX-512 F, VL and DQ: Intel servers from 2017, AMD from 2022.
    Avx512,
}

impl InstructionSet {
    /// All of them, the fastest first.
    pub const ALL: [Self; 3] = [Self::Avx512, Self::Avx2, Self::Plain];

    /// Whether this CPU has it.
    pub fn is_available(self) -> bool {
        match self {
            Self::Plain => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                Self::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512dq")
            }
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 | Self::Avx512 => false,
        }
    }

    /// The fastest that this CPU has.
    pub fn best() -> Self {
        Self::ALL.into_iter().find(|set| set.is_available()).unwrap_or(Self::Plain)
    }
}

/// The arithmetic in an instruction set that this CPU has: there is no other way to one of these than
/// [`Kernels::new`].
#[derive(Debug, Clone, Copy)]
pub struct Kernels {
    set: InstructionSet,
}

impl Kernels {
    /// `None` if this CPU lacks the instruction set.
    pub fn new(set: InstructionSet) -> Option<Self> {
        set.is_available().then_some(Self { set })
    }

    /// The fastest there are.
    pub fn best() -> Self {
        Self { set: InstructionSet::best() }
    }

    /// The instruction set.
    pub fn set(self) -> InstructionSet {
        self.set
    }

    /// See [`product::product`].
    pub fn product(self, matrix: &Matrix, panels: Range<usize>, x: Rows, out: &mut [f32]) {
        #[cfg(target_arch = "x86_64")]
        {
            #[target_feature(enable = "avx2,fma,f16c")]
            fn avx2(matrix: &Matrix, panels: Range<usize>, x: Rows, out: &mut [f32]) {
                // SAFETY: this function has the features that `Avx2` needs.
                unsafe { product::product::<lanes::Avx2, 1>(matrix, panels, x, out) }
            }
            #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx2,fma,f16c")]
            fn avx512(matrix: &Matrix, panels: Range<usize>, x: Rows, out: &mut [f32]) {
                // SAFETY: this function has the features that `Avx512` needs.
                unsafe { product::product::<lanes::Avx512, 4>(matrix, panels, x, out) }
            }
            match self.set {
                // SAFETY: `Kernels::new` found these features on this CPU.
                InstructionSet::Avx2 => return unsafe { avx2(matrix, panels, x, out) },
                // SAFETY: as above.
                InstructionSet::Avx512 => return unsafe { avx512(matrix, panels, x, out) },
                InstructionSet::Plain => {}
            }
        }
        // SAFETY: `Plain` needs nothing.
        unsafe { product::product::<lanes::Plain, 1>(matrix, panels, x, out) }
    }
}

/// Compiles functions of [`elementwise`] once for each instruction set.
macro_rules! elementwise {
    ($(fn $name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)?;)*) => {
        impl Kernels {
            $(
                #[doc = concat!("See [`elementwise::", stringify!($name), "`].")]
                pub fn $name(self, $($argument: $type),*) $(-> $result)? {
                    #[cfg(target_arch = "x86_64")]
                    {
                        #[target_feature(enable = "avx2,fma,f16c")]
                        fn avx2($($argument: $type),*) $(-> $result)? {
                            elementwise::$name($($argument),*)
                        }
                        #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx2,fma,f16c")]
                        fn avx512($($argument: $type),*) $(-> $result)? {
                            elementwise::$name($($argument),*)
                        }
                        match self.set {
                            // SAFETY: `Kernels::new` found these features on this CPU.
                            InstructionSet::Avx2 => return unsafe { avx2($($argument),*) },
                            // SAFETY: as above.
                            InstructionSet::Avx512 => return unsafe { avx512($($argument),*) },
                            InstructionSet::Plain => {}
                        }
                    }
                    elementwise::$name($($argument),*)
                }
            )*
        }
    };
}

elementwise! {
    fn depthwise(x: &[f32], step: usize, weights: &[f32], bias: &[f32], out: &mut [f32]);
    fn normalize(x: &mut [f32], channels: usize);
    fn gelu(x: &mut [f32]);
    fn scaled_residual(h: &mut [f32], x: &[f32], gain: &[f32]);
    fn add(sum: &mut [f32], part: &[f32]);
    fn subtract(rest: &mut [f32], part: &[f32]);
    fn argmax(x: &[f32]) -> Option<(f32, usize)>;
    fn weigh(scores: &[f32], most: f32, weights: &mut [u32]) -> u64;
    fn share_out(counts: &mut [u32], share: f64) -> u32;
    fn learned_bins(head: &HeadRow, shares: &[f32], re: &mut [f32], im: &mut [f32]);
    fn voice(voicing: &[f32], excitation: &Excitation, re: &mut [f32], im: &mut [f32]);
    fn lead(head: &HeadRow, re: &mut [f32], im: &mut [f32]);
    fn amplify(log_magnitudes: &[f32], re: &mut [f32], im: &mut [f32]);
    fn noise(noise: &Noise, frame: u64, a: &mut [f32], b: &mut [f32]);
}
