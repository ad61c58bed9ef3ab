//! Numbers for unit tests.

/// Returns values from -1 to below 1, the same for the same seed.
pub fn values(size: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..size).map(|_| next()).collect()
}
