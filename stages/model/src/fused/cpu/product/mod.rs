//! Products of `f32` matrices on the CPU.
//!
//! `out = start + left · right`, where `start` is zero, a bias for each column, that and a matrix, or what `out` holds. The result is
//! divided into blocks of at most 528 rows and 256 columns, each computed by one thread: 256 places of the inner dimension at a time, it
//! copies the block's part of `right` to panels of 32 columns (256 KiB, in the second cache), by which it multiplies the rows, 12 at a
//! time (`kernel`). The rows are read where they are: one after the other, or side by side if `left` is transposed (a copy of
//! 12 rows first cost 7 % more).
//!
//! A sum over the inner dimension is one of sums over 256 places each, so its bits depend neither on the processor nor on the
//! number of threads, nor on the other rows and columns.

mod kernel;
mod panels;
mod transpose;

use std::marker::PhantomData;
use std::ops::Range;

use rayon::prelude::*;

use kernel::ROWS;
pub use panels::Panels;

use crate::fused::memory::take;

/// The places of the inner dimension that are summed at a time.
const DEPTH: usize = 256;

/// The maximum rows and columns of a block.
const BLOCK: [usize; 2] = [44 * ROWS, 256];

/// The minimum.
const SMALL: [usize; 2] = [8 * ROWS, 64];

/// The number of multiply-adds that another thread is worth.
const WORTH_A_THREAD: usize = 1 << 18;

/// A matrix in a slice: its value in row `r` and column `c` is `values[r · row + c · column]`.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row: usize,
    column: usize,
}

impl<'a> Matrix<'a> {
    /// Creates a matrix of rows that follow one another.
    ///
    /// # Panics
    /// Panics if there are fewer values.
    pub fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::spaced(values, rows, columns, columns)
    }

    /// Creates a matrix of rows that begin `stride` values apart.
    ///
    /// # Panics
    /// Panics if there are fewer values.
    pub fn spaced(values: &'a [f32], rows: usize, columns: usize, stride: usize) -> Self {
        assert!(rows == 0 || (rows - 1) * stride + columns <= values.len(), "the values of a matrix are incomplete");
        Self { values, rows, columns, row: stride, column: 1 }
    }

    /// Returns the number of rows.
    pub fn rows(self) -> usize {
        self.rows
    }

    /// Returns a row, whose values must follow one another.
    pub fn row(self, row: usize) -> &'a [f32] {
        assert!(self.column == 1 && row < self.rows, "a row is within its matrix");
        &self.values[row * self.row..][..self.columns]
    }

    /// Returns the transposed matrix, in the same memory.
    pub fn transposed(self) -> Self {
        Self { rows: self.columns, columns: self.rows, row: self.column, column: self.row, ..self }
    }

    /// Returns a part of the matrix.
    pub fn part(self, rows: Range<usize>, columns: Range<usize>) -> Self {
        assert!(rows.end <= self.rows && columns.end <= self.columns, "a part is within its matrix");
        let start = (rows.start * self.row + columns.start * self.column).min(self.values.len());
        Self { values: &self.values[start..], rows: rows.len(), columns: columns.len(), ..self }
    }
}

/// Memory for a matrix, of which a part can be written while other threads write others.
#[derive(Debug)]
pub struct Target<'a> {
    start: *mut f32,
    rows: usize,
    columns: usize,
    stride: usize,
    memory: PhantomData<&'a mut [f32]>,
}

// SAFETY: a target stands for a mutable slice, which may be sent.
unsafe impl Send for Target<'_> {}
// SAFETY: memory is accessed by `&mut self`, or by parts, whose makers guarantee that those in use do not overlap.
unsafe impl Sync for Target<'_> {}

impl<'a> Target<'a> {
    /// Creates a target whose rows begin `stride` values apart.
    ///
    /// # Panics
    /// Panics if there is less memory.
    pub fn new(values: &'a mut [f32], rows: usize, columns: usize, stride: usize) -> Self {
        assert!(
            columns <= stride && (rows == 0 || (rows - 1) * stride + columns <= values.len()),
            "a target is incomplete"
        );
        Self { start: values.as_mut_ptr(), rows, columns, stride, memory: PhantomData }
    }

    /// Returns a part of the target.
    ///
    /// # Panics
    /// Panics if the part is not within the target.
    ///
    /// # Safety
    /// What is used at the same time, parts or the whole, must not overlap, and nothing else may use the memory meanwhile.
    pub unsafe fn part(&self, rows: Range<usize>, columns: Range<usize>) -> Self {
        assert!(rows.end <= self.rows && columns.end <= self.columns, "a part is within its target");
        let offset = if rows.is_empty() { 0 } else { rows.start * self.stride + columns.start };
        // SAFETY: the offset is within the target, or at most one past its end.
        let start = unsafe { self.start.add(offset) };
        Self { start, rows: rows.len(), columns: columns.len(), stride: self.stride, memory: PhantomData }
    }

    /// Returns a row.
    fn row(&mut self, row: usize) -> &mut [f32] {
        assert!(row < self.rows, "a row is within its target");
        // SAFETY: the row is within the target, of which `self` has exclusive use.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(row * self.stride), self.columns) }
    }

    /// Writes a row from `values`, as many as there are columns.
    fn write(&mut self, row: usize, values: impl Iterator<Item = f32>) {
        self.row(row).iter_mut().zip(values).for_each(|(place, value)| *place = value);
    }
}

/// What a product is added to.
#[derive(Debug, Clone, Copy)]
pub enum Start<'a> {
    /// Zero.
    Zero,
    /// A value for each column.
    Bias(&'a [f32]),
    /// A value for each column, and a matrix as large as the product.
    Sum(&'a [f32], Matrix<'a>),
}

/// Returns `start + left · right`, row by row.
///
/// # Panics
/// Panics if the sizes do not match.
pub fn product(left: Matrix<'_>, right: Matrix<'_>, start: Start<'_>) -> Vec<f32> {
    let mut values = take(left.rows * right.columns);
    multiply(left, right, Some(start), Target::new(&mut values, left.rows, right.columns, right.columns));
    values
}

/// Adds `left · right` to `sums`, row by row.
///
/// # Panics
/// Panics if the sizes do not match.
pub fn add_product(left: Matrix<'_>, right: Matrix<'_>, sums: &mut [f32]) {
    multiply(left, right, None, Target::new(sums, left.rows, right.columns, right.columns));
}

/// Computes a product in parallel. Without a start, it is added to `out`.
fn multiply(left: Matrix<'_>, right: Matrix<'_>, start: Option<Start<'_>>, out: Target<'_>) {
    assert_eq!(
        (left.columns, left.rows, right.columns),
        (right.rows, out.rows, out.columns),
        "sizes of a product differ"
    );
    let threads = match out.rows * out.columns * left.columns < WORTH_A_THREAD {
        true => 1,
        false => rayon::current_num_threads(),
    };
    let [height, width] = block_size(out.rows, out.columns, threads);
    let (across, down) = (out.columns.div_ceil(width), out.rows.div_ceil(height));
    let block = |scratch: &mut Scratch, number: usize| {
        let (row, column) = (number % down * height, number / down * width);
        let (rows, columns) = (row..out.rows.min(row + height), column..out.columns.min(column + width));
        let (left, right) = (left.part(rows.clone(), 0..left.columns), right.part(0..right.rows, columns.clone()));
        // SAFETY: blocks of different numbers do not overlap.
        let mut out = unsafe { out.part(rows.clone(), columns.clone()) };
        match start {
            Some(Start::Bias(bias)) => {
                (0..out.rows).for_each(|row| out.write(row, bias[columns.clone()].iter().copied()))
            }
            Some(Start::Sum(bias, matrix)) => {
                let matrix = matrix.part(rows, columns.clone());
                for row in 0..out.rows {
                    let more = &matrix.values[row * matrix.row..];
                    out.write(row, bias[columns.clone()].iter().zip(more).map(|(bias, more)| bias + more));
                }
            }
            Some(Start::Zero) if left.columns == 0 => {
                (0..out.rows).for_each(|row| out.write(row, std::iter::repeat(0.0)));
            }
            Some(Start::Zero) | None => {}
        }
        for depth in (0..left.columns).step_by(DEPTH) {
            let places = depth..left.columns.min(depth + DEPTH);
            scratch.panels.pack(right.part(places.clone(), 0..right.columns));
            let add = depth > 0 || !matches!(start, Some(Start::Zero));
            scratch.panels.multiply(left.part(0..left.rows, places), &mut out, add, &mut scratch.rows);
        }
    };
    let blocks = 0..across * down;
    match threads {
        1 => {
            let mut scratch = Scratch::default();
            blocks.for_each(|number| block(&mut scratch, number));
        }
        _ => blocks.into_par_iter().with_max_len(1).for_each_init(Scratch::default, block),
    }
}

/// Returns the rows and columns of a block: as many as possible, because each block copies its part of the right factor, but so few
/// that each thread has two blocks or more. The bits of a product do not depend on it.
fn block_size(rows: usize, columns: usize, threads: usize) -> [usize; 2] {
    // Blocks of equal height, in whole tiles.
    let height = |most: usize| rows.div_ceil(rows.div_ceil(most).max(1)).next_multiple_of(ROWS).max(ROWS);
    let mut most = BLOCK;
    while threads > 1 && most != SMALL && rows.div_ceil(height(most[0])) * columns.div_ceil(most[1]) < 2 * threads {
        // The longer side is halved, or the one that can be.
        let side = usize::from(most[1] > SMALL[1] && (most[1] >= most[0] || most[0] <= SMALL[0]));
        most[side] = (most[side] / 2).next_multiple_of([ROWS, 32][side]).max(SMALL[side]);
    }
    [height(most[0]), most[1]]
}

/// Memory that a thread uses again for each of its blocks.
#[derive(Default)]
struct Scratch {
    panels: Panels,
    rows: Vec<f32>,
}
