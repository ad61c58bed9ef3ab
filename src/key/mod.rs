//! Floor 1: the key of a stage, the address under which its output is kept.
//!
//! `key(stage)` is the blake3 hash, in the domain [`DOMAIN`], of what determines the output and of nothing else:
//!
//! | in the key | not in the key |
//! |---|---|
//! | format version (in the domain) | stage name, run name |
//! | kind and its revision | upstream stages' keys: only the bytes that they gave count |
//! | settings, canonical, less defaults | settings of `Exec`, threads, memory, device, paths, log level |
//! | the run's seed, where the kind draws | comments, key order, number spelling, defaults written out |
//! | per input port, the content digest of its tree | file names, times and order of sources |
//! | digests of external files, sorted | host, user, working folder, clock |
//!
//! `docs/keys.md` holds the same table with the reason of each line.
//!
//! One traversal ([`KeyInput::describe`]) feeds two sinks, the hash (`hash`) and the explanation (`record`), so that
//! what `pipeline why` says cannot drift from what decides.
//!
//! # Canonical form
//! The traversal visits `kind`, `revision`, `seed` (absent where the kind draws nothing), `settings`, `inputs` and
//! `sources`, in this order. Fields of an object come sorted by the bytes of their names; arrays keep their order;
//! `sources` is sorted. Numbers: an integer from 0 up is unsigned, below 0 signed, anything written with a fraction or an
//! exponent is a float, with -0.0 taken as 0.0. JSON has no NaN and no infinity, so none can enter.

mod hash;
mod record;
mod sink;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use contract::Digest;
use contract::digest::NotADigest;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use record::{Difference, KeyRecord, Leaf};
pub use sink::{Name, Scalar, Shape, Sink};

/// The domain of keys (blake3 `derive_key`). A change of the canonical form, or of how a key is
/// written out ([`KeyRecord`]), is a new domain: equal keys are written out alike.
pub const DOMAIN: &str = "pipeline 2026 stage key v1";

/// The address of a stage's output: what determines it, hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key(Digest);

impl Key {
    /// The key that a build on record has.
    pub(crate) const fn of(digest: Digest) -> Self {
        Self(digest)
    }

    /// The hash itself, as the store takes it.
    pub const fn digest(self) -> Digest {
        self.0
    }

    /// The first 12 hexadecimal digits, for people.
    pub fn short(self) -> String {
        self.0.short()
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Key {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        text.parse().map(Self)
    }
}

/// Everything that determines a stage's output.
#[derive(Debug, Clone, Copy)]
pub struct KeyInput<'a> {
    /// The stage kind.
    pub kind: &'a str,
    /// The kind's revision.
    pub revision: u32,
    /// The settings in canonical form, defaults left out ([`contract::AnyStage::spec`]).
    pub settings: &'a Map<String, Value>,
    /// The run's seed, where the kind draws random choices.
    pub seed: Option<u64>,
    /// The content digest of the tree that each input port reads.
    pub inputs: &'a BTreeMap<String, Digest>,
    /// The content digests of the external files that it reads, duplicates kept; their order does not matter.
    pub sources: &'a [Digest],
}

impl KeyInput<'_> {
    /// The key.
    pub fn key(&self) -> Key {
        let mut hash = hash::KeyHash::new();
        self.describe(&mut hash);
        Key(hash.finish())
    }

    /// The same, written out for people and for comparison with an earlier build.
    pub fn record(&self) -> KeyRecord {
        let mut writer = record::RecordWriter::default();
        self.describe(&mut writer);
        writer.finish()
    }

    /// The one traversal (module docs).
    pub fn describe(&self, sink: &mut impl Sink) {
        sink.leaf(Name::Field("kind"), Scalar::Text(self.kind));
        sink.leaf(Name::Field("revision"), Scalar::Unsigned(self.revision.into()));
        if let Some(seed) = self.seed {
            sink.leaf(Name::Field("seed"), Scalar::Unsigned(seed));
        }
        object(Name::Field("settings"), self.settings, sink);
        sink.open(Name::Field("inputs"), Shape::Object, self.inputs.len());
        for (port, digest) in self.inputs {
            sink.leaf(Name::Field(port), Scalar::Digest(*digest));
        }
        sink.close();
        let mut sources = self.sources.to_vec();
        sources.sort_unstable();
        let sources: Vec<_> = sources.into_iter().map(Scalar::Digest).collect();
        sink.list(Name::Field("sources"), &sources);
    }
}

fn object(name: Name<'_>, fields: &Map<String, Value>, sink: &mut impl Sink) {
    // A map of serde_json keeps insertion order where some crate asks for its feature `preserve_order`.
    let mut sorted: Vec<_> = fields.iter().collect();
    sorted.sort_unstable_by_key(|(name, _)| *name);
    sink.open(name, Shape::Object, sorted.len());
    for (name, field) in sorted {
        value(Name::Field(name), field, sink);
    }
    sink.close();
}

fn value(name: Name<'_>, value: &Value, sink: &mut impl Sink) {
    if let Some(scalar) = Scalar::of(value) {
        return sink.leaf(name, scalar);
    }
    match value {
        Value::Object(fields) => object(name, fields, sink),
        Value::Array(items) => match items.iter().map(Scalar::of).collect::<Option<Vec<_>>>() {
            Some(scalars) => sink.list(name, &scalars),
            None => {
                sink.open(name, Shape::Array, items.len());
                for (index, item) in items.iter().enumerate() {
                    self::value(Name::Item(index), item, sink);
                }
                sink.close();
            }
        },
        // `Scalar::of` takes all others.
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
