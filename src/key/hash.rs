//! The hash of a key.
//!
//! Every member is framed, so that two different keys never have the same encoding. A member consists of its name (a field's byte count and
//! bytes, or an item's index), one tag byte, and the value. All counts and integers are 64 bits, little-endian.
//!
//! | tag | value |
//! |---|---|
//! | `o`, `a` | object, array: number of members, then the members |
//! | `n` | null: no bytes |
//! | `b` | boolean: one byte, 0 or 1 |
//! | `u`, `i` | unsigned, signed integer |
//! | `f` | float: its IEEE 754 bits |
//! | `t` | string: byte count, UTF-8 bytes |
//! | `d` | digest: 32 bytes |

use blake3::Hasher;
use contract::Digest;

use super::canonical::Canonical;

/// The domain of keys (blake3 `derive_key`). A change of the canonical form, or of the format of a [`super::KeyRecord`], requires a new
/// domain, because equal keys must have equal records.
pub const DOMAIN: &str = "pipeline 2026 stage key v1";

/// Hashes the members of a key.
pub(super) fn hash(members: &[(&str, Canonical<'_>)]) -> Digest {
    let mut hasher = Hasher::new_derive_key(DOMAIN);
    fields(&mut hasher, members);
    Digest::from_bytes(*hasher.finalize().as_bytes())
}

fn fields(hasher: &mut Hasher, fields: &[(&str, Canonical<'_>)]) {
    for (name, field) in fields {
        text(hasher, name);
        value(hasher, field);
    }
}

fn value(hasher: &mut Hasher, value: &Canonical<'_>) {
    match value {
        Canonical::Null => {
            hasher.update(b"n");
        }
        Canonical::Bool(value) => {
            hasher.update(&[b'b', u8::from(*value)]);
        }
        Canonical::Unsigned(value) => integer(hasher.update(b"u"), *value),
        Canonical::Signed(value) => integer(hasher.update(b"i"), value.cast_unsigned()),
        Canonical::Float(value) => integer(hasher.update(b"f"), value.to_bits()),
        Canonical::Text(value) => text(hasher.update(b"t"), value),
        Canonical::Digest(value) => {
            hasher.update(b"d").update(value.as_bytes());
        }
        Canonical::Array(items) => {
            integer(hasher.update(b"a"), items.len() as u64);
            for (index, item) in items.iter().enumerate() {
                integer(hasher, index as u64);
                self::value(hasher, item);
            }
        }
        Canonical::Object(members) => {
            integer(hasher.update(b"o"), members.len() as u64);
            fields(hasher, members);
        }
    }
}

fn integer(hasher: &mut Hasher, value: u64) {
    hasher.update(&value.to_le_bytes());
}

fn text(hasher: &mut Hasher, text: &str) {
    integer(hasher, text.len() as u64);
    hasher.update(text.as_bytes());
}
