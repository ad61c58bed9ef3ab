//! The Jaccard similarity of two sets, computed from integers: |A ∩ B| / |A ∪ B|.
//!
//! A similarity reaches a threshold when the quotient, correctly rounded to `f64`, is at least the threshold's `f64`; so
//! 17 of 20 reaches 0.85. Two empty sets are equal: their similarity is 1.

use std::cmp::Ordering;

/// The sizes of the intersection and the union of two sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overlap {
    /// The number of elements in both sets.
    pub both: u32,
    /// The number of elements in either set.
    pub either: u32,
}

impl Overlap {
    /// Returns the overlap of a set of `size` elements with itself.
    pub fn of_equal(size: u32) -> Self {
        Self { both: size, either: size }
    }

    /// Returns the overlap of two sets, each sorted and without repetitions.
    pub fn of(a: &[u64], b: &[u64]) -> Self {
        Self::counted(a, b, common(a, b, 0).unwrap_or(0))
    }

    /// Returns the overlap of two sets, each sorted and without repetitions, if their similarity reaches `threshold`. Stops as soon as it
    /// cannot.
    pub fn reaching(threshold: f64, a: &[u64], b: &[u64]) -> Option<Self> {
        let need = least_common(threshold, a.len(), b.len())?;
        Some(Self::counted(a, b, common(a, b, need)?))
    }

    fn counted(a: &[u64], b: &[u64], both: usize) -> Self {
        // A set has as many elements as its document has tokens, and a document is under 4 GiB (`read`).
        Self { both: both as u32, either: (a.len() + b.len() - both) as u32 }
    }

    /// Returns the similarity, in [0, 1].
    pub fn jaccard(self) -> f64 {
        if self.either == 0 { 1.0 } else { f64::from(self.both) / f64::from(self.either) }
    }

    /// Compares two similarities exactly.
    pub fn compare(self, other: Self) -> Ordering {
        let fraction = |overlap: Self| if overlap.either == 0 { (1, 1) } else { (overlap.both, overlap.either) };
        let ((a, b), (c, d)) = (fraction(self), fraction(other));
        (u64::from(a) * u64::from(d)).cmp(&(u64::from(c) * u64::from(b)))
    }
}

/// Returns whether two sets of these sizes can reach the threshold at all.
pub fn sizes_allow(threshold: f64, a: usize, b: usize) -> bool {
    let (small, large) = (a.min(b), a.max(b));
    large == 0 || small as f64 / large as f64 >= threshold
}

/// Returns the smallest intersection with which sets of these sizes reach the threshold.
fn least_common(threshold: f64, a: usize, b: usize) -> Option<usize> {
    let reaches = |both: usize| {
        let either = a + b - both;
        either == 0 || both as f64 / either as f64 >= threshold
    };
    let most = a.min(b);
    if !reaches(most) {
        return None;
    }
    // From |A ∩ B| / (|A| + |B| - |A ∩ B|) = t; the estimate is off by at most one, and the quotient above decides.
    let estimate = (threshold * (a + b) as f64 / (1.0 + threshold)) as usize;
    let mut need = estimate.saturating_sub(1).min(most);
    while !reaches(need) {
        need += 1;
    }
    Some(need)
}

/// Returns the number of common elements; `None` as soon as it must stay below `need`.
fn common(a: &[u64], b: &[u64], need: usize) -> Option<usize> {
    if a.len().min(b.len()) < need {
        return None;
    }
    // Strides of 16 steps without a branch on the data, then one check whether the threshold can still be reached.
    let (mut i, mut j, mut both) = (0, 0, 0);
    while i < a.len() && j < b.len() {
        let steps = 16.min(a.len() - i).min(b.len() - j);
        for _ in 0..steps {
            let (x, y) = (a[i], b[j]);
            both += usize::from(x == y);
            i += usize::from(x <= y);
            j += usize::from(y <= x);
        }
        if both + (a.len() - i).min(b.len() - j) < need {
            return None;
        }
    }
    Some(both)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seventeen_of_twenty_reaches_0_85() {
        let a: Vec<u64> = (0..20).collect();
        let b: Vec<u64> = (0..17).collect();
        assert_eq!(Overlap::reaching(0.85, &a, &b), Some(Overlap { both: 17, either: 20 }));
        assert_eq!(Overlap::reaching(0.85, &a, &b[1..]), None);
    }

    #[test]
    fn empty_sets_are_equal_and_an_empty_set_is_like_no_other() {
        assert_eq!(Overlap::of(&[], &[]).jaccard(), 1.0);
        assert_eq!(Overlap::reaching(0.5, &[], &[1]), None);
        assert_eq!(Overlap::of(&[], &[1]).jaccard(), 0.0);
    }
}
