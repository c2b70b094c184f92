//! Matrix products: every output is one chain of fused multiply-adds in the order of its inputs,
//! starting from the bias, whatever is computed beside it.

use std::ops::Range;

use super::lanes::{Lanes, Row, WIDTH};
use crate::engine::matrix::{Matrix, Weights};

/// Rows of the input taken together: each weight is used that often once it is in a register, and there
/// are enough independent chains to hide the latency of a multiply-add.
const ROWS: usize = 4;

/// Rows of numbers in memory: row `r` begins at `r * stride`; rows may overlap.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    /// All of them.
    pub values: &'a [f32],
    /// Distance from a row to the next.
    pub stride: usize,
    /// How many there are.
    pub count: usize,
}

/// Outputs `panels.start * 16 .. panels.end * 16` (as far as there are that many) of
/// `x weights + bias` for each row of `x`, into rows of `out` that are `matrix.outputs()` long.
/// `P` panels are taken together, as many as there are registers for: each input is used that often once
/// it is in one.
///
/// # Safety
/// The CPU has the instruction set of `L`.
#[inline(always)]
pub unsafe fn product<L: Lanes, const P: usize>(
    matrix: &Matrix,
    panels: Range<usize>,
    x: Rows,
    out: &mut [f32],
) {
    match matrix.weights() {
        // SAFETY: the caller's promise.
        Weights::Half(weights) => unsafe { run::<L, _, P>(matrix, weights, panels, x, out) },
        // SAFETY: the caller's promise.
        Weights::Single(weights) => unsafe { run::<L, _, P>(matrix, weights, panels, x, out) },
    }
}

/// # Safety
/// As [`product`].
#[inline(always)]
unsafe fn run<L: Lanes, W: Row, const P: usize>(
    matrix: &Matrix,
    weights: &[W],
    panels: Range<usize>,
    x: Rows,
    out: &mut [f32],
) {
    if x.count == 0 {
        return;
    }
    let (inputs, outputs) = (matrix.inputs(), matrix.outputs());
    // What the tiles below rely on, checked once.
    let values = &x.values[..(x.count - 1) * x.stride + inputs];
    let out = &mut out[..x.count * outputs];
    let mut panel = panels.start;
    // Panels that are full, several at a time.
    while panel + P <= panels.end && (panel + P) * WIDTH <= outputs {
        // SAFETY: the caller's promise, and lengths as checked above.
        unsafe { strip::<L, W, P>(matrix, weights, panel, x, values, out) };
        panel += P;
    }
    while panel < panels.end && (panel + 1) * WIDTH <= outputs {
        // SAFETY: as above.
        unsafe { strip::<L, W, 1>(matrix, weights, panel, x, values, out) };
        panel += 1;
    }
    // A last one that is not.
    if panel < panels.end && panel * WIDTH < outputs {
        let valid = outputs - panel * WIDTH;
        for row in 0..x.count {
            let mut full = [0.0; WIDTH];
            // SAFETY: as above; the tile writes the 16 numbers of `full`.
            unsafe {
                tile::<L, W, 1, 1>(
                    matrix,
                    weights,
                    panel,
                    values.as_ptr().add(row * x.stride),
                    x.stride,
                    full.as_mut_ptr(),
                    outputs,
                );
            }
            out[row * outputs + panel * WIDTH..][..valid].copy_from_slice(&full[..valid]);
        }
    }
}

/// All rows of `P` full panels.
///
/// # Safety
/// As [`product`]; `values` holds every row of `x` and `out` every row of outputs.
#[inline(always)]
unsafe fn strip<L: Lanes, W: Row, const P: usize>(
    matrix: &Matrix,
    weights: &[W],
    panel: usize,
    x: Rows,
    values: &[f32],
    out: &mut [f32],
) {
    let outputs = matrix.outputs();
    let mut row = 0;
    while row < x.count {
        let now = (x.count - row).min(ROWS);
        // SAFETY: rows `row..row + now` are in `values`, and their outputs in `out`.
        unsafe {
            let from = values.as_ptr().add(row * x.stride);
            let to = out.as_mut_ptr().add(row * outputs + panel * WIDTH);
            match now {
                1 => tile::<L, W, 1, P>(matrix, weights, panel, from, x.stride, to, outputs),
                2 => tile::<L, W, 2, P>(matrix, weights, panel, from, x.stride, to, outputs),
                3 => tile::<L, W, 3, P>(matrix, weights, panel, from, x.stride, to, outputs),
                _ => tile::<L, W, ROWS, P>(matrix, weights, panel, from, x.stride, to, outputs),
            }
        }
        row += now;
    }
}

/// `R` rows of `P` panels, kept in registers from the first input to the last.
///
/// # Safety
/// As [`product`]; `from` points to `R` rows of `matrix.inputs()` numbers at a distance of `from_stride`,
/// `to` to `R` rows of `16 P` numbers at a distance of `to_stride`, and `weights` has these panels.
#[inline(always)]
unsafe fn tile<L: Lanes, W: Row, const R: usize, const P: usize>(
    matrix: &Matrix,
    weights: &[W],
    panel: usize,
    from: *const f32,
    from_stride: usize,
    to: *mut f32,
    to_stride: usize,
) {
    let inputs = matrix.inputs();
    let weights = &weights[panel * inputs..(panel + P) * inputs];
    let bias = &matrix.bias()[panel..panel + P];
    // SAFETY: the caller's promises; k is below `inputs`, r below R and p below P.
    unsafe {
        let mut sums = [[L::splat(0.0); P]; R];
        for row in &mut sums {
            for (sum, bias) in row.iter_mut().zip(bias) {
                *sum = L::load(&bias.0);
            }
        }
        for k in 0..inputs {
            let mut w = [L::splat(0.0); P];
            for (p, w) in w.iter_mut().enumerate() {
                *w = weights.get_unchecked(p * inputs + k).lanes();
            }
            for (r, row) in sums.iter_mut().enumerate() {
                let x = L::splat(*from.add(r * from_stride + k));
                for (sum, w) in row.iter_mut().zip(&w) {
                    *sum = x.mul_add(*w, *sum);
                }
            }
        }
        for (r, row) in sums.iter().enumerate() {
            for (p, sum) in row.iter().enumerate() {
                sum.store(&mut *to.add(r * to_stride + p * WIDTH).cast());
            }
        }
    }
}
