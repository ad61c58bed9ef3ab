//! The fixed-width record of a document that the stage keeps after it has read the text.
//!
//! ```text
//! keys of `prefer`   8 bytes each; smaller keys are preferred
//! id                 32
//! number             4   its position in the table: parts by name, rows in order
//! fingerprint        16  equal for exact duplicates
//! set hash           16  equal for equal token sets
//! set                8   the offset of its token set in the file of the sets, in elements,
//!                    4   and its number of elements
//! license            1
//! comparable         1   whether it has enough tokens for near-duplicates
//! buckets            8 bytes per band; zeros if it is not comparable
//! ```
//! Numbers are big-endian, so records sort by preference, then id, then number: the order in which documents are decided.

use super::license_key::LicenseKey;

/// The widths that the settings determine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// The number of keys of `prefer`.
    pub keys: usize,
    /// The number of bands of a signature.
    pub bands: usize,
}

/// A decoded record, without its buckets ([`Layout::buckets`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DocumentRecord {
    /// The id.
    pub id: [u8; 32],
    /// The position in the table.
    pub number: u32,
    /// The fingerprint, equal for exact duplicates.
    pub fingerprint: [u8; 16],
    /// The hash of the token set, equal for equal token sets.
    pub set_hash: [u8; 16],
    /// The location of its token set.
    pub set: SetPlace,
    /// The license.
    pub license: LicenseKey,
    /// Whether it has enough tokens for near-duplicates.
    pub comparable: bool,
}

/// The location of a token set in the file of the sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetPlace {
    /// The first element.
    pub start: u64,
    /// The number of elements.
    pub length: u32,
}

/// The number of bytes from the id to the buckets.
const BODY: usize = 32 + 4 + 16 + 16 + 8 + 4 + 1 + 1;

impl Layout {
    /// Returns the size of a record in bytes.
    pub fn width(self) -> usize {
        8 * self.keys + BODY + 8 * self.bands
    }

    /// Appends a record.
    pub fn write(
        self,
        record: &mut Vec<u8>,
        keys: impl Iterator<Item = u64>,
        document: &DocumentRecord,
        buckets: &[u64],
    ) {
        let end = record.len() + self.width();
        keys.for_each(|key| record.extend_from_slice(&key.to_be_bytes()));
        record.extend_from_slice(&document.id);
        record.extend_from_slice(&document.number.to_be_bytes());
        record.extend_from_slice(&document.fingerprint);
        record.extend_from_slice(&document.set_hash);
        record.extend_from_slice(&document.set.start.to_be_bytes());
        record.extend_from_slice(&document.set.length.to_be_bytes());
        record.extend_from_slice(&[document.license.to_byte(), u8::from(document.comparable)]);
        buckets.iter().for_each(|bucket| record.extend_from_slice(&bucket.to_be_bytes()));
        record.resize(end, 0);
    }

    /// Decodes a record.
    pub fn read(self, record: &[u8]) -> DocumentRecord {
        let mut rest = &record[8 * self.keys..];
        DocumentRecord {
            id: take(&mut rest),
            number: u32::from_be_bytes(take(&mut rest)),
            fingerprint: take(&mut rest),
            set_hash: take(&mut rest),
            set: SetPlace { start: u64::from_be_bytes(take(&mut rest)), length: u32::from_be_bytes(take(&mut rest)) },
            license: LicenseKey::from_byte(take::<1>(&mut rest)[0]),
            comparable: take::<1>(&mut rest)[0] == 1,
        }
    }

    /// Returns the record's buckets, one for each band.
    pub fn buckets(self, record: &[u8]) -> &[[u8; 8]] {
        record[8 * self.keys + BODY..self.width()].as_chunks().0
    }
}

/// Takes the first `N` bytes; the slice must have at least `N`.
pub fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let mut bytes = [0; N];
    let (head, tail) = rest.split_at(N);
    bytes.copy_from_slice(head);
    *rest = tail;
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_as_they_were_written() {
        let layout = Layout { keys: 2, bands: 3 };
        let document = DocumentRecord {
            id: [7; 32],
            number: 5,
            fingerprint: [1; 16],
            set_hash: [2; 16],
            set: SetPlace { start: 1 << 40, length: 9 },
            license: LicenseKey::of(Some("mit")),
            comparable: true,
        };
        let mut record = Vec::new();
        layout.write(&mut record, [4, 6].into_iter(), &document, &[10, 11, 12]);
        assert_eq!(record.len(), layout.width());
        assert_eq!(layout.read(&record), document);
        assert_eq!(layout.buckets(&record), [10u64, 11, 12].map(u64::to_be_bytes));
    }
}
