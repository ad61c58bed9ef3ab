//! A matrix of weights in the layout that the kernel reads, and its product with rows.
//!
//! A panel is 16 columns of the matrix. Its values are stored in the order in which they are read, so a product reads each weight once from
//! memory and without a copy, whatever the number of rows. The last panel is padded with zeros. A panel is read in slices of 4 KiB, each of
//! which is multiplied with all rows while the next slice is fetched.

use rayon::prelude::*;

use super::tile::{COLUMNS, Columns, ROWS, add_product, prefetch};

/// The number of positions of the inner dimension in a slice.
const SLICE: usize = 64;

/// The number of multiply-adds from which another thread is worthwhile.
const WORTH_A_THREAD: usize = 1 << 17;

/// A matrix `[inputs, outputs]` with a bias.
pub struct Matrix {
    inputs: usize,
    outputs: usize,
    /// One panel after the other, each `[inputs, 16]`.
    panels: Vec<Columns>,
    /// The bias of each panel.
    bias: Vec<Columns>,
}

impl Matrix {
    /// Creates a matrix from its rows `[inputs, outputs]` and its bias `[outputs]`.
    pub fn new(weights: &[f32], bias: &[f32]) -> Self {
        let outputs = bias.len();
        let inputs = weights.len() / outputs.max(1);
        Self::from_fn(inputs, bias, |input, output| weights[input * outputs + output])
    }

    /// Creates a matrix without a bias from its columns: `[outputs, inputs]`, `inputs` values each.
    pub fn of_columns(columns: &[f32], inputs: usize) -> Self {
        Self::from_fn(inputs, &vec![0.0; columns.len() / inputs], |input, output| columns[output * inputs + input])
    }

    fn from_fn(inputs: usize, bias: &[f32], value: impl Fn(usize, usize) -> f32 + Sync) -> Self {
        let outputs = bias.len();
        let mut panels = vec![[0.0; COLUMNS]; outputs.div_ceil(COLUMNS) * inputs];
        panels.par_chunks_mut(inputs).enumerate().for_each(|(panel, rows)| {
            let first = panel * COLUMNS;
            for (input, row) in rows.iter_mut().enumerate() {
                for (column, place) in row.iter_mut().take(outputs - first).enumerate() {
                    *place = value(input, first + column);
                }
            }
        });
        let padded = |bias: &[f32]| {
            let mut columns = [0.0; COLUMNS];
            columns[..bias.len()].copy_from_slice(bias);
            columns
        };
        Self { inputs, outputs, panels, bias: bias.chunks(COLUMNS).map(padded).collect() }
    }

    /// Copies a column to `values` `[inputs]`.
    pub fn column(&self, column: usize, values: &mut [f32]) {
        let panel = &self.panels[column / COLUMNS * self.inputs..][..self.inputs];
        for (value, row) in values.iter_mut().zip(panel) {
            *value = row[column % COLUMNS];
        }
    }

    /// Returns `x` `[rows, inputs]` times the matrix plus the bias, `[rows, outputs]`, after applying `then` to it (in parts).
    pub fn product(&self, x: &[f32], then: impl Fn(&mut [f32]) + Sync) -> Vec<f32> {
        let rows = x.len() / self.inputs;
        let blocks = interleaved(x, self.inputs);
        let mut results = vec![[0.0; COLUMNS]; self.bias.len() * rows];
        let worth = WORTH_A_THREAD / (self.inputs * COLUMNS * rows.max(1));
        results.par_chunks_mut(rows.max(1)).with_min_len(worth.max(1)).enumerate().for_each(|(panel, results)| {
            results.fill(self.bias[panel]);
            let columns = &self.panels[panel * self.inputs..];
            for start in (0..self.inputs).step_by(SLICE) {
                let slice = &columns[start..self.inputs.min(start + SLICE)];
                let next = columns.get(start + SLICE..).unwrap_or_default();
                add_slice(&blocks, start, slice, &next[..next.len().min(SLICE)], results);
            }
            then(results.as_flattened_mut());
        });
        self.by_rows(&results, rows)
    }

    /// Reorders results from `[panels, rows, 16]` to `[rows, outputs]`.
    fn by_rows(&self, results: &[Columns], rows: usize) -> Vec<f32> {
        let mut y = vec![0.0; rows * self.outputs];
        let worth = WORTH_A_THREAD / self.outputs.max(1);
        y.par_chunks_mut(self.outputs).with_min_len(worth.max(1)).enumerate().for_each(|(row, y)| {
            for (y, panel) in y.chunks_mut(COLUMNS).zip(results.chunks(rows)) {
                y.copy_from_slice(&panel[row][..y.len()]);
            }
        });
        y
    }
}

/// Splits rows `[rows, inputs]` into blocks of at most [`ROWS`] rows, as equal as possible, each stored by the inner dimension.
fn interleaved(x: &[f32], inputs: usize) -> Vec<(usize, Vec<f32>)> {
    let rows = x.len() / inputs;
    let blocks = rows.div_ceil(ROWS);
    let block = |block: usize| {
        let (first, end) = (rows * block / blocks, rows * (block + 1) / blocks);
        let count = end - first;
        let mut values = vec![0.0; count * inputs];
        for (row, x) in x[first * inputs..end * inputs].chunks_exact(inputs).enumerate() {
            for (value, x) in values.iter_mut().skip(row).step_by(count).zip(x) {
                *value = *x;
            }
        }
        (count, values)
    };
    (0..blocks).map(block).collect()
}

/// Adds the products of all blocks with a slice of 16 columns from position `start`, and fetches `next` meanwhile.
fn add_slice(
    blocks: &[(usize, Vec<f32>)],
    start: usize,
    slice: &[Columns],
    next: &[Columns],
    mut results: &mut [Columns],
) {
    // With a single block, all time is spent on reading, and the processor prefetches by itself.
    let mut parts = next.chunks(SLICE.div_ceil(blocks.len())).skip(usize::from(blocks.len() == 1));
    for (count, block) in blocks {
        prefetch(parts.next().unwrap_or_default());
        let (of_block, rest) = results.split_at_mut(*count);
        add_block(&block[start * count..], slice, of_block);
        results = rest;
    }
}

/// Adds the product of a block with 16 columns to the results; the block has as many rows as there are results.
fn add_block(block: &[f32], columns: &[Columns], results: &mut [Columns]) {
    fn exact<const R: usize>(block: &[f32], columns: &[Columns], results: &mut [Columns]) {
        if let Some(results) = results.first_chunk_mut::<R>() {
            add_product(block.as_chunks::<R>().0, columns, results);
        }
    }
    match results.len() {
        1 => exact::<1>(block, columns, results),
        2 => exact::<2>(block, columns, results),
        3 => exact::<3>(block, columns, results),
        4 => exact::<4>(block, columns, results),
        5 => exact::<5>(block, columns, results),
        _ => exact::<ROWS>(block, columns, results),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_is_that_of_the_rows_and_columns() {
        let value = |number: usize| ((number * 37 + 11) % 101) as f32 / 50.0 - 1.0;
        for (rows, inputs, outputs) in
            [(1, 3, 5), (2, 16, 16), (7, 20, 33), (13, 1, 47), (36, 64, 64), (5, 63, 16), (16, 131, 40)]
        {
            let x: Vec<f32> = (0..rows * inputs).map(value).collect();
            let weights: Vec<f32> = (0..inputs * outputs).map(|number| value(number + 5)).collect();
            let bias: Vec<f32> = (0..outputs).map(|number| value(number + 9)).collect();
            let expected: Vec<f32> = (0..rows * outputs)
                .map(|place| {
                    let (row, output) = (place / outputs, place % outputs);
                    let products =
                        (0..inputs).map(|input| (x[row * inputs + input], weights[input * outputs + output]));
                    products.fold(bias[output], |sum, (x, weight)| x.mul_add(weight, sum))
                })
                .collect();
            let matrix = Matrix::new(&weights, &bias);
            assert_eq!(matrix.product(&x, |_| {}), expected);
            let doubled: Vec<f32> = expected.iter().map(|value| value * 2.0).collect();
            assert_eq!(matrix.product(&x, |part| part.iter_mut().for_each(|value| *value *= 2.0)), doubled);
            let columns: Vec<f32> =
                (0..outputs).flat_map(|output| weights.iter().skip(output).step_by(outputs).copied()).collect();
            let by_columns = Matrix::of_columns(&columns, inputs);
            let mut last = vec![0.0; inputs];
            by_columns.column(outputs - 1, &mut last);
            assert_eq!(last, columns[(outputs - 1) * inputs..]);
            let without_bias: Vec<f32> = Matrix::new(&weights, &vec![0.0; outputs]).product(&x, |_| {});
            assert_eq!(by_columns.product(&x, |_| {}), without_bias);
        }
    }
}
