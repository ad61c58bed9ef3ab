//! The hash of a key.
//!
//! Every member is framed, so that no bytes can move from one to the next: its name (a field's byte count and bytes, or
//! an item's index), one tag byte, then the value. All counts and integers are 64 bits, little-endian.
//!
//! | tag | value |
//! |---|---|
//! | `o`, `a` | object, array: number of members, then the members |
//! | `n` | null: nothing |
//! | `b` | truth value: one byte, 0 or 1 |
//! | `u`, `i` | unsigned, signed integer |
//! | `f` | float: its IEEE 754 bits |
//! | `t` | text: byte count, UTF-8 bytes |
//! | `d` | digest: 32 bytes |

use contract::Digest;

use super::DOMAIN;
use super::sink::{Name, Scalar, Shape, Sink};

pub(super) struct KeyHash(blake3::Hasher);

impl KeyHash {
    pub(super) fn new() -> Self {
        Self(blake3::Hasher::new_derive_key(DOMAIN))
    }

    pub(super) fn finish(self) -> Digest {
        Digest::from_bytes(*self.0.finalize().as_bytes())
    }

    fn integer(&mut self, value: u64) {
        self.0.update(&value.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.integer(text.len() as u64);
        self.0.update(text.as_bytes());
    }

    fn name(&mut self, name: Name<'_>) {
        match name {
            Name::Field(field) => self.text(field),
            Name::Item(index) => self.integer(index as u64),
        }
    }

    fn tag(&mut self, tag: u8) {
        self.0.update(&[tag]);
    }
}

impl Sink for KeyHash {
    fn open(&mut self, name: Name<'_>, shape: Shape, members: usize) {
        self.name(name);
        self.tag(match shape {
            Shape::Object => b'o',
            Shape::Array => b'a',
        });
        self.integer(members as u64);
    }

    fn close(&mut self) {}

    fn leaf(&mut self, name: Name<'_>, value: Scalar<'_>) {
        self.name(name);
        match value {
            Scalar::Null => self.tag(b'n'),
            Scalar::Bool(value) => {
                self.tag(b'b');
                self.tag(value.into());
            }
            Scalar::Unsigned(value) => {
                self.tag(b'u');
                self.integer(value);
            }
            Scalar::Signed(value) => {
                self.tag(b'i');
                self.integer(value.cast_unsigned());
            }
            Scalar::Float(value) => {
                self.tag(b'f');
                self.integer(value.to_bits());
            }
            Scalar::Text(value) => {
                self.tag(b't');
                self.text(value);
            }
            Scalar::Digest(value) => {
                self.tag(b'd');
                self.0.update(value.as_bytes());
            }
        }
    }

    fn list(&mut self, name: Name<'_>, items: &[Scalar<'_>]) {
        self.open(name, Shape::Array, items.len());
        for (index, item) in items.iter().enumerate() {
            self.leaf(Name::Item(index), *item);
        }
        self.close();
    }
}
