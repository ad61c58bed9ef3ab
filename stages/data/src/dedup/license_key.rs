//! The rank of a license in the choice among copies of one file.

use crate::license::KEYS;

/// A license as one byte: one of [`KEYS`], another license, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LicenseKey(u8);

impl LicenseKey {
    const OTHER: Self = Self(254);
    const NONE: Self = Self(255);

    /// Parses the license of a row; ignores case and surrounding spaces.
    pub fn of(key: Option<&str>) -> Self {
        match key.map(str::trim).filter(|key| !key.is_empty()) {
            Some(key) => match KEYS.iter().position(|known| known.eq_ignore_ascii_case(key)) {
                Some(index) => Self(index as u8),
                None => Self::OTHER,
            },
            None => Self::NONE,
        }
    }

    /// Returns 0 for permissive, 1 for weak copyleft, 2 for copyleft, 3 for network copyleft, and 4 for another or no license.
    pub fn rank(self) -> u8 {
        match self.key() {
            "mit" | "apache-2.0" | "bsd-2-clause" | "bsd-3-clause" | "isc" | "unlicense" | "cc0-1.0"
            | "artistic-2.0" => 0,
            "lgpl-2.1" | "lgpl-3.0" | "mpl-2.0" | "epl-1.0" => 1,
            "gpl-2.0" | "gpl-3.0" => 2,
            "agpl-3.0" => 3,
            _ => 4,
        }
    }

    /// Returns whether it is one of the permissive keys.
    pub fn is_permissive(self) -> bool {
        self.rank() == 0
    }

    /// Returns the license key, or `other` or `none`.
    pub fn key(self) -> &'static str {
        match KEYS.get(usize::from(self.0)) {
            Some(key) => key,
            None if self == Self::NONE => "none",
            None => "other",
        }
    }

    /// Encodes it as a byte of a scratch file.
    pub fn to_byte(self) -> u8 {
        self.0
    }

    /// Decodes what [`LicenseKey::to_byte`] returned.
    pub fn from_byte(byte: u8) -> Self {
        Self(byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_key_has_a_rank_and_keeps_its_name() {
        for key in KEYS {
            let license = LicenseKey::of(Some(key));
            assert!(license.key() == key && license.rank() < 4, "{key}");
        }
        assert_eq!(LicenseKey::of(Some(" MIT ")).key(), "mit");
        assert_eq!(LicenseKey::of(Some("wtfpl")).key(), "other");
        assert_eq!((LicenseKey::of(None).key(), LicenseKey::of(Some("")).rank()), ("none", 4));
    }
}
