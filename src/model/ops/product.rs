//! Matrix products on the CPU, on slices.

/// A matrix in a slice: values, rows, columns, and the distances between rows and between columns.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// A matrix of contiguous rows of `columns` values each.
    pub fn of_rows(values: &'a [f32], columns: usize) -> Self {
        let rows = values.len() / columns.max(1);
        Self { values, rows, columns, row_stride: columns, column_stride: 1 }
    }

    /// The same with rows for columns.
    pub fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

/// Threads that a product may use.
#[derive(Clone, Copy, PartialEq)]
pub enum Threads {
    /// Only the one it is called on.
    One,
    /// As many as candle uses.
    All,
}

/// `out = a b`, or `out += a b` where `add`; `out` has contiguous rows.
///
/// # Errors
/// Shapes that do not fit together.
pub fn product(
    out: &mut [f32],
    a: Matrix<'_>,
    b: Matrix<'_>,
    add: bool,
    threads: Threads,
) -> candle_core::Result<()> {
    let inside = |m: Matrix<'_>| m.rows * m.columns <= m.values.len();
    if a.columns != b.rows || out.len() != a.rows * b.columns || !inside(a) || !inside(b) {
        candle_core::bail!(
            "matrix product: {}x{} by {}x{} into {} values",
            a.rows,
            a.columns,
            b.rows,
            b.columns,
            out.len()
        );
    }
    let count = candle_core::utils::get_num_threads();
    let parallelism = match threads {
        Threads::All if count > 1 => gemm::Parallelism::Rayon(count),
        _ => gemm::Parallelism::None,
    };
    // SAFETY: `out` has a.rows x b.columns values and, being borrowed mutably, overlaps neither a nor b;
    // both are packed rows, or the transpose of such, that end within their slices.
    unsafe {
        gemm::gemm(
            a.rows,
            b.columns,
            a.columns,
            out.as_mut_ptr(),
            1,
            b.columns as isize,
            add,
            a.values.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.values.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            1.0f32,
            1.0f32,
            false,
            false,
            false,
            parallelism,
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_matrices_and_their_transposes() {
        let a: Vec<f32> = (0..6).map(|v| v as f32).collect(); // 2 x 3
        let b: Vec<f32> = (0..12).map(|v| (v as f32) - 5.0).collect(); // 3 x 4
        let (a, b) = (Matrix::of_rows(&a, 3), Matrix::of_rows(&b, 4));
        let mut out = vec![1.0; 8];
        product(&mut out, a, b, true, Threads::One).unwrap();
        assert_eq!(out, [6.0, 9.0, 12.0, 15.0, -3.0, 9.0, 21.0, 33.0]);
        let mut turned = vec![0.0; 8];
        product(&mut turned, b.transposed(), a.transposed(), false, Threads::All).unwrap();
        assert_eq!(turned, [5.0, -4.0, 8.0, 8.0, 11.0, 20.0, 14.0, 32.0]);
        assert!(product(&mut turned, a, a, false, Threads::One).is_err());
    }
}
