//! MinHash signatures: the smallest value of each of 256 permutations of the 32-bit token hashes.
//!
//! A permutation is `x -> a * x + b` modulo 2^32 with an odd `a` (multiply-shift, all 32 bits kept). The constants are
//! the first 2,048 bytes of blake3's output for [`CONSTANTS`], little-endian, all `a` (made odd) and then all `b`: fixed
//! by this line for every machine and version. The share of equal values of two signatures estimates the Jaccard
//! similarity of their sets; here signatures only propose pairs, and the sets decide.

use std::sync::LazyLock;

/// The number of values in a signature.
pub const PERMUTATIONS: usize = 256;
const CONSTANTS: &str = "pipeline 2026 minhash permutations v1";
/// The number of permutations that are computed at once: their values stay in vector registers during the pass over the tokens.
const LANES: usize = 64;

/// The smallest value of each permutation.
pub type Signature = [u32; PERMUTATIONS];

struct Permutations {
    a: [u32; PERMUTATIONS],
    b: [u32; PERMUTATIONS],
}

static PERMUTATION: LazyLock<Permutations> = LazyLock::new(|| {
    let mut reader = blake3::Hasher::new_derive_key(CONSTANTS).finalize_xof();
    let mut next = || {
        let mut bytes = [0; 4];
        reader.fill(&mut bytes);
        u32::from_le_bytes(bytes)
    };
    let a = std::array::from_fn(|_| next() | 1);
    let b = std::array::from_fn(|_| next());
    Permutations { a, b }
});

/// Returns the signature of a set of 64-bit token hashes (their lower halves are permuted). The signature of the empty set is all ones.
pub fn signature(tokens: &[u64]) -> Signature {
    let permutations = &*PERMUTATION;
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has AVX-512F, as was just checked; the function is otherwise safe.
            return unsafe { fold_avx512(permutations, tokens) };
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2, as was just checked; the function is otherwise safe.
            return unsafe { fold_avx2(permutations, tokens) };
        }
    }
    fold(permutations, tokens)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn fold_avx512(permutations: &Permutations, tokens: &[u64]) -> Signature {
    fold(permutations, tokens)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn fold_avx2(permutations: &Permutations, tokens: &[u64]) -> Signature {
    fold(permutations, tokens)
}

/// Computes a signature. The source is shared by all processors: it is inlined into each of the functions above and vectorised for its
/// features.
#[inline(always)]
fn fold(permutations: &Permutations, tokens: &[u64]) -> Signature {
    let mut signature = [u32::MAX; PERMUTATIONS];
    let (a, b) = (permutations.a.as_chunks::<LANES>().0, permutations.b.as_chunks::<LANES>().0);
    for ((least, a), b) in signature.as_chunks_mut::<LANES>().0.iter_mut().zip(a).zip(b) {
        let mut values = *least;
        for &token in tokens {
            let token = token as u32;
            for lane in 0..LANES {
                values[lane] = values[lane].min(a[lane].wrapping_mul(token).wrapping_add(b[lane]));
            }
        }
        *least = values;
    }
    signature
}

#[cfg(test)]
mod tests {
    use super::*;
    use xxhash_rust::xxh3::xxh3_64;

    fn set(range: std::ops::Range<u32>) -> Vec<u64> {
        range.map(|i| xxh3_64(&i.to_le_bytes())).collect()
    }

    #[test]
    fn every_processor_gives_the_plain_loops_values() {
        for size in [0, 1, 7, 300] {
            let tokens = set(0..size);
            assert!(signature(&tokens) == fold(&PERMUTATION, &tokens), "{size} tokens");
        }
    }

    #[test]
    fn equal_values_estimate_the_similarity() {
        // 170 of 200 in common: 0.85, give or take three standard errors of a mean over 100 pairs.
        let mut equal = 0;
        for pair in 0..100 {
            let start = pair * 1000;
            let (a, b) = (signature(&set(start..start + 185)), signature(&set(start + 15..start + 200)));
            equal += a.iter().zip(&b).filter(|(a, b)| a == b).count();
        }
        let estimate = equal as f64 / (100.0 * PERMUTATIONS as f64);
        assert!((estimate - 0.85).abs() < 0.01, "{estimate}");
    }
}
