//! The kernel of a product: 12 rows times 32 columns.
//!
//! Each result is the sum over the inner dimension in order, from zero, by fused multiply-adds, which is then written or added to
//! its place. So its bits depend on its row and column alone: not on the processor, and not on what is computed beside it. On
//! x86-64 there are two variants: with AVX-512 the sums fill 24 of 32 registers; with AVX2 the same tile is computed in four
//! parts, whose sums fill 12 of 16.

/// The rows of a tile.
pub const ROWS: usize = 12;

/// The columns of a tile.
pub const COLUMNS: usize = 32;

/// The columns' values at one place of the inner dimension.
pub type Columns = [f32; COLUMNS];

/// The rows of a tile in memory: the value of row `r` at the place `p` is `values[r · row + p · place]`.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    pub values: &'a [f32],
    pub row: usize,
    pub place: usize,
}

/// Multiplies 12 rows by the columns, and writes the products to the rows of `out`, `stride` apart, or adds them.
///
/// # Panics
/// Panics if `rows` has not 12 rows of as many places as `columns`, or `out` no room for 12 rows.
///
/// # Safety
/// `out` must be valid for writes of 32 values at each of the 12 multiples of `stride`, and if `add` for reads of them, which no
/// other thread accesses meanwhile.
pub unsafe fn multiply(rows: Rows<'_>, columns: &[Columns], out: *mut f32, stride: usize, add: bool) {
    let last = (ROWS - 1) * rows.row + columns.len().saturating_sub(1) * rows.place;
    assert!(columns.is_empty() || last < rows.values.len(), "the rows of a tile are incomplete");
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: the processor has the features that the variants name; the assertion above is their condition for `rows`, and
        // that for `out` is the caller's.
        return unsafe {
            match is_x86_feature_detected!("avx512f") {
                true => x86::avx512(rows, columns, out, stride, add),
                false => x86::avx2(rows, columns, out, stride, add),
            }
        };
    }
    // SAFETY: as above.
    unsafe { portable(rows, columns, out, stride, add) }
}

/// The definition of the other variants.
///
/// # Safety
/// See [`multiply`].
unsafe fn portable(rows: Rows<'_>, columns: &[Columns], out: *mut f32, stride: usize, add: bool) {
    // Parts whose sums fit in 16 registers of four values.
    const PART: [usize; 2] = [4, 16];
    for first in (0..ROWS).step_by(PART[0]) {
        for start in (0..COLUMNS).step_by(PART[1]) {
            let mut sums = [[0f32; PART[1]]; PART[0]];
            for (place, columns) in columns.iter().enumerate() {
                for (row, sums) in sums.iter_mut().enumerate() {
                    let factor = rows.values[(first + row) * rows.row + place * rows.place];
                    for (sum, value) in sums.iter_mut().zip(&columns[start..start + PART[1]]) {
                        *sum = factor.mul_add(*value, *sum);
                    }
                }
            }
            for (row, sums) in sums.iter().enumerate() {
                for (column, sum) in sums.iter().enumerate() {
                    // SAFETY: the row and the column are within those of `out`.
                    unsafe {
                        let place = out.add((first + row) * stride + start + column);
                        *place = if add { *place + sum } else { *sum };
                    }
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{COLUMNS, Columns, ROWS, Rows};

    /// # Safety
    /// The processor must have the features; the last value of the last row must be within `rows.values`; see
    /// [`super::multiply`] for `out`.
    #[target_feature(enable = "avx512f,avx2,fma")]
    pub unsafe fn avx512(rows: Rows<'_>, columns: &[Columns], out: *mut f32, stride: usize, add: bool) {
        const PARTS: usize = COLUMNS / 16;
        let mut sums = [[_mm512_setzero_ps(); PARTS]; ROWS];
        let start = rows.values.as_ptr();
        for (place, columns) in columns.iter().enumerate() {
            // SAFETY: a part is 16 of the 32 columns; each place of each row is at most the last one, which is within the values.
            unsafe {
                let columns = [0, 1].map(|part| _mm512_loadu_ps(columns.as_ptr().add(16 * part)));
                // Three rows from each of four pointers leave registers for the addresses.
                for four in 0..ROWS / 3 {
                    let first = start.add(3 * four * rows.row + place * rows.place);
                    for row in 0..3 {
                        let factor = _mm512_set1_ps(*first.add(row * rows.row));
                        for (sum, columns) in sums[3 * four + row].iter_mut().zip(columns) {
                            *sum = _mm512_fmadd_ps(factor, columns, *sum);
                        }
                    }
                }
            }
        }
        for (row, sums) in sums.iter().enumerate() {
            for (part, sum) in sums.iter().enumerate() {
                // SAFETY: the row and the columns are within those of `out`.
                unsafe {
                    let place = out.add(row * stride + 16 * part);
                    let sum = if add { _mm512_add_ps(_mm512_loadu_ps(place), *sum) } else { *sum };
                    _mm512_storeu_ps(place, sum);
                }
            }
        }
    }

    /// # Safety
    /// As for [`avx512`].
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn avx2(rows: Rows<'_>, columns: &[Columns], out: *mut f32, stride: usize, add: bool) {
        for first in [0, ROWS / 2] {
            for half in [0, COLUMNS / 2] {
                let mut sums = [[_mm256_setzero_ps(); 2]; ROWS / 2];
                // SAFETY: the first row is one of the 12.
                let start = unsafe { rows.values.as_ptr().add(first * rows.row) };
                for (place, columns) in columns.iter().enumerate() {
                    // SAFETY: a part is 8 of the 32 columns; each place of each row is within the values, as for AVX-512.
                    unsafe {
                        let columns = [0, 8].map(|part| _mm256_loadu_ps(columns.as_ptr().add(half + part)));
                        for (row, sums) in sums.iter_mut().enumerate() {
                            let factor = _mm256_set1_ps(*start.add(row * rows.row + place * rows.place));
                            for (sum, columns) in sums.iter_mut().zip(columns) {
                                *sum = _mm256_fmadd_ps(factor, columns, *sum);
                            }
                        }
                    }
                }
                for (row, sums) in sums.iter().enumerate() {
                    for (part, sum) in sums.iter().enumerate() {
                        // SAFETY: the row and the columns are within those of `out`.
                        unsafe {
                            let place = out.add((first + row) * stride + half + 8 * part);
                            let sum = if add { _mm256_add_ps(_mm256_loadu_ps(place), *sum) } else { *sum };
                            _mm256_storeu_ps(place, sum);
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_values::values;

    #[test]
    fn all_variants_have_the_same_bits() {
        for inner in [0, 1, 2, 7, 256] {
            let columns = values(inner * COLUMNS, 1);
            let columns = columns.as_chunks::<COLUMNS>().0;
            // Rows one after the other, with a gap, and place by place.
            for (row, place) in [(inner, 1), (inner + 3, 1), (1, ROWS), (1, 20)] {
                let rows = values((ROWS - 1) * row + inner.saturating_sub(1) * place + 1, 2);
                let rows = Rows { values: &rows, row, place };
                for add in [false, true] {
                    let start = values(ROWS * 40, 3);
                    let run = |variant: &dyn Fn(*mut f32)| {
                        let mut out = start.clone();
                        variant(out.as_mut_ptr());
                        out.into_iter().map(f32::to_bits).collect::<Vec<_>>()
                    };
                    // SAFETY: `out` has 12 rows of 40 values, and each variant is called where the processor has its features.
                    let expected = run(&|out| unsafe { portable(rows, columns, out, 40, add) });
                    assert_eq!(run(&|out| unsafe { multiply(rows, columns, out, 40, add) }), expected);
                    #[cfg(target_arch = "x86_64")]
                    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                        assert_eq!(run(&|out| unsafe { x86::avx2(rows, columns, out, 40, add) }), expected, "AVX2");
                        if is_x86_feature_detected!("avx512f") {
                            assert_eq!(
                                run(&|out| unsafe { x86::avx512(rows, columns, out, 40, add) }),
                                expected,
                                "AVX-512"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "the rows of a tile are incomplete")]
    fn incomplete_rows_are_refused() {
        let mut out = [0.0; ROWS * COLUMNS];
        let rows = Rows { values: &[0.0; ROWS * 4 - 1], row: 4, place: 1 };
        // SAFETY: `out` has 12 rows of 32 values.
        unsafe { multiply(rows, &[[0.0; COLUMNS]; 4], out.as_mut_ptr(), COLUMNS, false) };
    }
}
