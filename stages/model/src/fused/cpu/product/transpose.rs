//! Copies of columns that lie in memory one after the other to a panel, 16 x 16 values at a time where the processor has AVX-512.

use super::kernel::{COLUMNS, Columns};

/// The places and columns that are copied at a time.
const SIDE: usize = 16;

/// Copies `count` columns, the first `panel.len()` values of each, to the first columns of a panel. The columns begin `stride` values
/// apart.
///
/// # Panics
/// Panics if there are fewer values, or more than 32 columns.
pub fn transpose(values: &[f32], stride: usize, count: usize, panel: &mut [Columns]) {
    let inner = panel.len();
    if inner == 0 || count == 0 {
        return;
    }
    assert!(count <= COLUMNS && (count - 1) * stride + inner <= values.len(), "the columns of a panel are incomplete");
    let mut whole = (0, 0);
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") {
        whole = (inner / SIDE * SIDE, count / SIDE * SIDE);
        for place in (0..whole.0).step_by(SIDE) {
            for column in (0..whole.1).step_by(SIDE) {
                // SAFETY: the processor has AVX-512; 16 columns from this one on have 16 values from this place on, by the assertion
                // above, and so has the panel places and columns.
                unsafe {
                    let from = values.as_ptr().add(column * stride + place);
                    x86::transpose_square(from, stride, panel[place..].as_mut_ptr().cast::<f32>().add(column));
                }
            }
        }
    }
    portable(values, stride, whole.1..count, 0..whole.0, panel);
    portable(values, stride, 0..count, whole.0..inner, panel);
}

/// Copies some places of some columns.
fn portable(
    values: &[f32],
    stride: usize,
    columns: std::ops::Range<usize>,
    places: std::ops::Range<usize>,
    panel: &mut [Columns],
) {
    // Few places at a time, whose lines stay in the cache.
    for first in places.clone().step_by(SIDE) {
        let panel = &mut panel[first..places.end.min(first + SIDE)];
        for column in columns.clone() {
            let values = &values[column * stride + first..][..panel.len()];
            panel.iter_mut().zip(values).for_each(|(place, value)| place[column] = *value);
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{COLUMNS, SIDE};

    /// Transposes 16 columns of 16 values, `stride` apart, to 16 rows of a panel.
    ///
    /// # Safety
    /// The processor must have AVX-512, `from` 16 times 16 values, and `to` 16 rows of 32 values with 16 from there on.
    #[target_feature(enable = "avx512f")]
    pub unsafe fn transpose_square(from: *const f32, stride: usize, to: *mut f32) {
        let mut columns = [_mm512_setzero_ps(); SIDE];
        for (number, column) in columns.iter_mut().enumerate() {
            // SAFETY: the caller has 16 columns of 16 values.
            *column = unsafe { _mm512_loadu_ps(from.add(number * stride)) };
        }
        // Pairs of columns, by two places: of each four places, the first two and the last two.
        let mut pairs = columns;
        for (pairs, columns) in pairs.as_chunks_mut::<2>().0.iter_mut().zip(columns.as_chunks::<2>().0) {
            *pairs = [_mm512_unpacklo_ps(columns[0], columns[1]), _mm512_unpackhi_ps(columns[0], columns[1])];
        }
        // Four columns, by one place of each four: `fours[4 j + q]` has, in its part `l`, the place `4 l + q` of the columns from `4 j`.
        let mut fours = columns;
        for (fours, pairs) in fours.as_chunks_mut::<4>().0.iter_mut().zip(pairs.as_chunks::<4>().0) {
            let double = |pair: __m512| _mm512_castps_pd(pair);
            let [first, second] = [0, 1].map(|half| (double(pairs[half]), double(pairs[half + 2])));
            *fours = [
                _mm512_castpd_ps(_mm512_unpacklo_pd(first.0, first.1)),
                _mm512_castpd_ps(_mm512_unpackhi_pd(first.0, first.1)),
                _mm512_castpd_ps(_mm512_unpacklo_pd(second.0, second.1)),
                _mm512_castpd_ps(_mm512_unpackhi_pd(second.0, second.1)),
            ];
        }
        for place in 0..4 {
            let [a, b, c, d] = [0, 4, 8, 12].map(|four| fours[four + place]);
            let even = [_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0x88>(c, d)];
            let odd = [_mm512_shuffle_f32x4::<0xDD>(a, b), _mm512_shuffle_f32x4::<0xDD>(c, d)];
            let rows = [
                _mm512_shuffle_f32x4::<0x88>(even[0], even[1]),
                _mm512_shuffle_f32x4::<0x88>(odd[0], odd[1]),
                _mm512_shuffle_f32x4::<0xDD>(even[0], even[1]),
                _mm512_shuffle_f32x4::<0xDD>(odd[0], odd[1]),
            ];
            for (part, row) in rows.into_iter().enumerate() {
                // SAFETY: the caller has room for 16 values in each of 16 rows.
                unsafe { _mm512_storeu_ps(to.add((4 * part + place) * COLUMNS), row) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_comes_to_its_place_and_no_other_is_touched() {
        for inner in [1, 15, 16, 17, 33] {
            for count in [1, 15, 16, 17, 31, 32] {
                let stride = inner + 3;
                let values: Vec<f32> = (0..count * stride - 3).map(|value| value as f32).collect();
                let mut panel = vec![[-1.0; COLUMNS]; inner];
                transpose(&values, stride, count, &mut panel);
                for (place, columns) in panel.iter().enumerate() {
                    for (column, value) in columns.iter().enumerate() {
                        let expected = if column < count { values[column * stride + place] } else { -1.0 };
                        assert_eq!(*value, expected, "{inner} x {count}: {place}, {column}");
                    }
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "the columns of a panel are incomplete")]
    fn incomplete_columns_are_refused() {
        transpose(&[0.0; 31], 16, 2, &mut [[0.0; COLUMNS]; 16]);
    }
}
