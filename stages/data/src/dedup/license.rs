//! The license keys of GitHub's BigQuery tables, with their rank when copies of one file compete.

/// The 15 keys, sorted, each with its rank.
const KNOWN: [(&str, u8); 15] = [
    ("agpl-3.0", NETWORK),
    ("apache-2.0", PERMISSIVE),
    ("artistic-2.0", PERMISSIVE),
    ("bsd-2-clause", PERMISSIVE),
    ("bsd-3-clause", PERMISSIVE),
    ("cc0-1.0", PERMISSIVE),
    ("epl-1.0", WEAK),
    ("gpl-2.0", STRONG),
    ("gpl-3.0", STRONG),
    ("isc", PERMISSIVE),
    ("lgpl-2.1", WEAK),
    ("lgpl-3.0", WEAK),
    ("mit", PERMISSIVE),
    ("mpl-2.0", WEAK),
    ("unlicense", PERMISSIVE),
];
const PERMISSIVE: u8 = 0;
const WEAK: u8 = 1;
const STRONG: u8 = 2;
const NETWORK: u8 = 3;
const UNKNOWN: u8 = 4;

/// A license in one byte: one of the 15, another, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct License(u8);

impl License {
    const OTHER: Self = Self(254);
    const NONE: Self = Self(255);

    /// That of a row.
    pub fn of(key: Option<&str>) -> Self {
        match key.filter(|key| !key.is_empty()) {
            Some(key) => match KNOWN.binary_search_by_key(&key, |&(key, _)| key) {
                Ok(index) => Self(index as u8),
                Err(_) => Self::OTHER,
            },
            None => Self::NONE,
        }
    }

    /// 0 permissive, 1 weak copyleft, 2 copyleft, 3 copyleft over a network, 4 another or none.
    pub fn rank(self) -> u8 {
        KNOWN.get(usize::from(self.0)).map_or(UNKNOWN, |&(_, rank)| rank)
    }

    /// Whether it is one of the permissive keys.
    pub fn is_permissive(self) -> bool {
        self.rank() == PERMISSIVE
    }

    /// Its key, or `other` or `none`.
    pub fn key(self) -> &'static str {
        match KNOWN.get(usize::from(self.0)) {
            Some(&(key, _)) => key,
            None if self == Self::NONE => "none",
            None => "other",
        }
    }

    /// As a byte of a scratch file.
    pub fn to_byte(self) -> u8 {
        self.0
    }

    /// What [`License::to_byte`] gave.
    pub fn from_byte(byte: u8) -> Self {
        Self(byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_keys_are_sorted_and_keep_their_names() {
        assert!(KNOWN.is_sorted());
        for (key, rank) in KNOWN {
            let license = License::of(Some(key));
            assert_eq!((license.key(), license.rank()), (key, rank));
        }
        assert_eq!(License::of(Some("wtfpl")).key(), "other");
        assert_eq!((License::of(None).key(), License::of(Some("")).rank()), ("none", UNKNOWN));
    }
}
