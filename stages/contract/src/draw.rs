//! Random choices from hash(seed, identity of the item), never from a shared stream: they are the same for any order,
//! thread count or restart, and adding an item changes no other choice.

/// The random draws for one purpose.
#[derive(Debug, Clone)]
pub struct Draw(blake3::Hasher);

impl Draw {
    /// Creates the draws of the run's `seed` for a `purpose`. Draws for two purposes are independent, even for the same
    /// item.
    pub fn new(seed: u64, purpose: &str) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("pipeline 2026 draw v1");
        hasher.update(&seed.to_le_bytes());
        hasher.update(&(purpose.len() as u64).to_le_bytes());
        hasher.update(purpose.as_bytes());
        Self(hasher)
    }

    /// Returns 64 uniform bits for the item with this identity.
    pub fn bits(&self, identity: &[u8]) -> u64 {
        let mut hasher = self.0.clone();
        hasher.update(identity);
        let mut bytes = [0; 8];
        hasher.finalize_xof().fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// Returns 32 bytes for the item, to seed a generator.
    pub fn seed(&self, identity: &[u8]) -> [u8; 32] {
        *self.0.clone().update(identity).finalize().as_bytes()
    }

    /// Returns a uniform number in `[0, 1)` for the item: the upper 53 bits of [`Draw::bits`].
    pub fn unit(&self, identity: &[u8]) -> f64 {
        (self.bits(identity) >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_fixed_by_seed_purpose_and_identity() {
        let draw = Draw::new(1, "coin");
        assert_eq!(draw.bits(b"a"), Draw::new(1, "coin").bits(b"a"));
        assert_ne!(draw.bits(b"a"), draw.bits(b"b"));
        assert_ne!(draw.bits(b"a"), Draw::new(2, "coin").bits(b"a"));
        assert_ne!(draw.bits(b"a"), Draw::new(1, "other").bits(b"a"));
    }

    #[test]
    fn the_mean_of_many_draws_is_near_one_half() {
        let draw = Draw::new(1, "coin");
        let mean = (0..10_000u32).map(|i| draw.unit(&i.to_le_bytes())).sum::<f64>() / 10_000.0;
        assert!((mean - 0.5).abs() < 0.01, "{mean}");
    }
}
