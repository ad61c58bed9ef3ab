//! The kernel of all matrix products: a few rows times 16 columns.
//!
//! Each result is one sum over the inner dimension, in order, by fused multiply-adds. So its bits depend on its row and its
//! column alone: not on the number of rows, not on threads, not on the processor. The function is written once, portably, and
//! compiled three times on x86-64: for AVX-512, for AVX2 with FMA, and for any processor.

/// The number of columns of a tile.
pub const COLUMNS: usize = 16;

/// The maximum number of rows of a tile: with 16 columns they fill the 16 registers of AVX2.
pub const ROWS: usize = 6;

/// One number for each column.
pub type Columns = [f32; COLUMNS];

/// Adds the product of `left` (`R` rows, stored by the inner dimension) and `right` to `sums`.
#[inline(always)]
fn portable<const R: usize>(left: &[[f32; R]], right: &[Columns], sums: &mut [Columns; R]) {
    let mut local = *sums;
    for (left, right) in left.iter().zip(right) {
        for (sums, factor) in local.iter_mut().zip(left) {
            for (sum, value) in sums.iter_mut().zip(right) {
                *sum = factor.mul_add(*value, *sum);
            }
        }
    }
    *sums = local;
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx2,fma")]
fn avx512<const R: usize>(left: &[[f32; R]], right: &[Columns], sums: &mut [Columns; R]) {
    portable(left, right, sums);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2<const R: usize>(left: &[[f32; R]], right: &[Columns], sums: &mut [Columns; R]) {
    portable(left, right, sums);
}

/// Adds the product of `R` rows and 16 columns to `sums`: for each position of the inner dimension, `left` has the values of the rows, and
/// `right` those of the columns. The shorter of the two limits the sum.
pub fn add_product<const R: usize>(left: &[[f32; R]], right: &[Columns], sums: &mut [Columns; R]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: the only condition of the variants is that the processor has the features that they name, and
        // each is called only where the standard library reports its features.
        return unsafe {
            match is_x86_feature_detected!("avx512f") {
                true => avx512(left, right, sums),
                false => avx2(left, right, sums),
            }
        };
    }
    portable(left, right, sums);
}

/// Asks the processor to fetch the given values into its cache, if it supports that.
#[inline(always)]
pub fn prefetch(columns: &[Columns]) {
    #[cfg(target_arch = "x86_64")]
    for columns in columns {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch is a hint: it reads and writes nothing that a program can observe, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(columns.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = columns;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_values::values;

    #[test]
    fn a_sum_has_the_same_bits_in_any_number_of_rows_and_any_variant() {
        for inner in [0, 1, 7, 100] {
            let (left, right) = (values(inner * ROWS, 1), values(inner * COLUMNS, 2));
            let (left, right) = (left.as_chunks::<ROWS>().0, right.as_chunks::<COLUMNS>().0);
            let mut expected = [[0.5; COLUMNS]; ROWS];
            for (left, right) in left.iter().zip(right) {
                for (row, factor) in left.iter().enumerate() {
                    for (column, value) in right.iter().enumerate() {
                        expected[row][column] = factor.mul_add(*value, expected[row][column]);
                    }
                }
            }
            let mut together = [[0.5; COLUMNS]; ROWS];
            add_product(left, right, &mut together);
            assert_eq!(together, expected);
            let mut plain = [[0.5; COLUMNS]; ROWS];
            portable(left, right, &mut plain);
            assert_eq!(plain, expected);
            for (row, expected) in expected.iter().enumerate() {
                let alone: Vec<[f32; 1]> = left.iter().map(|left| [left[row]]).collect();
                let mut sums = [[0.5; COLUMNS]];
                add_product(&alone, right, &mut sums);
                assert_eq!(sums[0], *expected);
            }
        }
    }
}
