//! A matrix as the kernel reads it: in panels of 32 columns, each stored by the inner dimension, the last filled with zeros.

use super::kernel::{self, COLUMNS, Columns, ROWS, Rows};
use super::transpose::transpose;
use super::{Matrix, Target};

/// The right factor of products.
#[derive(Debug, Default)]
pub struct Panels {
    inner: usize,
    columns: usize,
    values: Vec<Columns>,
}

impl Panels {
    /// Replaces the panels by those of a matrix `[inner, columns]`.
    pub fn pack(&mut self, matrix: Matrix<'_>) {
        (self.inner, self.columns) = (matrix.rows, matrix.columns);
        // What is left of an earlier matrix is overwritten.
        self.values.resize(matrix.rows * matrix.columns.div_ceil(COLUMNS), [0.0; COLUMNS]);
        if self.values.is_empty() {
            return;
        }
        for (number, panel) in self.values.chunks_exact_mut(matrix.rows).enumerate() {
            let first = number * COLUMNS;
            let matrix = matrix.part(0..matrix.rows, first..matrix.columns.min(first + COLUMNS));
            if matrix.columns < COLUMNS {
                panel.fill([0.0; COLUMNS]);
            }
            if matrix.row == 1 {
                transpose(matrix.values, matrix.column, matrix.columns, panel);
                continue;
            }
            for (place, columns) in panel.iter_mut().enumerate() {
                let values = &matrix.values[place * matrix.row..];
                match matrix.columns == COLUMNS {
                    // A copy of a size that is known needs no loop.
                    true => columns.copy_from_slice(&values[..COLUMNS]),
                    false => columns[..matrix.columns].copy_from_slice(&values[..matrix.columns]),
                }
            }
        }
    }

    /// Multiplies `left` `[rows, at most inner]` by as many places of the matrix and as many of its columns as `out` has, and writes the
    /// product to `out`, or adds it. `scratch` is memory to use.
    ///
    /// # Panics
    /// Panics if the sizes do not match, or the inner one is 0.
    pub fn multiply(&self, left: Matrix<'_>, out: &mut Target<'_>, add: bool, scratch: &mut Vec<f32>) {
        assert!(
            0 < self.inner && left.columns <= self.inner && out.columns <= self.columns && left.rows == out.rows,
            "sizes of a product differ"
        );
        for first in (0..left.rows).step_by(ROWS) {
            let count = ROWS.min(left.rows - first);
            let rows = left.part(first..first + count, 0..left.columns);
            let rows = match count == ROWS && (rows.column == 1 || rows.row == 1) {
                true => Rows { values: rows.values, row: rows.row, place: rows.column },
                false => interleaved(rows, scratch),
            };
            for (number, panel) in self.values.chunks_exact(self.inner).enumerate() {
                let column = number * COLUMNS;
                if column >= out.columns {
                    break;
                }
                let columns = column..out.columns.min(column + COLUMNS);
                let whole = (count, columns.len()) == (ROWS, COLUMNS);
                // SAFETY: `out` is borrowed exclusively, and its other parts are used before or after this one.
                let mut out = unsafe { out.part(first..first + count, columns) };
                let panel = &panel[..left.columns];
                if whole {
                    // SAFETY: the part has 12 rows of 32 values, of which it has exclusive use.
                    unsafe { kernel::multiply(rows, panel, out.start, out.stride, add) };
                    continue;
                }
                let mut tile = [[0f32; COLUMNS]; ROWS];
                // SAFETY: the tile has 12 rows of 32 values.
                unsafe { kernel::multiply(rows, panel, tile.as_mut_ptr().cast(), COLUMNS, false) };
                for (row, tile) in tile.iter().enumerate().take(count) {
                    match add {
                        true => out.row(row).iter_mut().zip(tile).for_each(|(sum, more)| *sum += more),
                        false => out.write(row, tile.iter().copied()),
                    }
                }
            }
        }
    }
}

/// Copies less than 12 rows, or rows without order, to `scratch`, place by place, with zeros for those that are missing.
fn interleaved<'a>(rows: Matrix<'_>, scratch: &'a mut Vec<f32>) -> Rows<'a> {
    scratch.resize(rows.columns * ROWS, 0.0);
    for (place, values) in scratch.as_chunks_mut::<ROWS>().0.iter_mut().enumerate() {
        for (row, value) in values.iter_mut().enumerate() {
            *value = if row < rows.rows { rows.values[row * rows.row + place * rows.column] } else { 0.0 };
        }
    }
    Rows { values: scratch, row: 1, place: ROWS }
}
