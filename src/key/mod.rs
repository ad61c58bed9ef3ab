//! Architecture layer 1: the key of a stage, the address under which its output is stored.
//!
//! `key(stage)` is the blake3 hash, in the domain [`DOMAIN`], of everything that determines the output, and nothing else. `docs/keys.md`
//! says what is in it, what is not, and why.
//!
//! The hash (`hash`) and the explanation (`record`) are made from one canonical form (`canonical`), so the output of
//! `pipeline why` cannot drift from the decision. Its members are `kind`, `revision`, `seed` (absent if the kind is not
//! seeded), `settings`, `inputs`, `sources` and `machine` (absent if the kind asks for no facts), in this order; `sources` is sorted.

mod canonical;
mod hash;
mod path;
mod record;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use contract::Digest;
use contract::digest::NotADigest;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use canonical::Canonical;
pub use hash::DOMAIN;
pub use path::KeyPath;
pub use record::{KeyDifference, KeyRecord, Leaf};

/// The address of a stage's output: the hash of everything that determines it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key(Digest);

impl Key {
    /// Creates the key of a recorded build.
    pub(crate) const fn of(digest: Digest) -> Self {
        Self(digest)
    }

    /// Returns the digest.
    pub const fn digest(self) -> Digest {
        self.0
    }

    /// Returns the first 12 hexadecimal digits, for display.
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

/// The content of a key: everything that determines a stage's output.
#[derive(Debug, Clone, Copy)]
pub struct KeyInput<'a> {
    /// The stage kind.
    pub kind: &'a str,
    /// The kind's revision.
    pub revision: u32,
    /// The settings in canonical form, without defaults ([`contract::AnyStage::spec`]).
    pub settings: &'a Map<String, Value>,
    /// The run's seed, if the kind is seeded.
    pub seed: Option<u64>,
    /// The content digest of the tree that each input port reads.
    pub inputs: &'a BTreeMap<String, Digest>,
    /// The content digests of the external files that it reads, with duplicates, in any order.
    pub sources: &'a [Digest],
    /// Facts of the machine that determine the output ([`contract::Stage::machine_facts`]).
    pub machine: &'a BTreeMap<String, String>,
}

impl KeyInput<'_> {
    /// Returns the key.
    pub fn key(&self) -> Key {
        Key(hash::hash(&self.members()))
    }

    /// Returns the explanation of the key, for people and for comparison with an earlier build.
    pub fn record(&self) -> KeyRecord {
        KeyRecord::of(&self.members())
    }

    /// Returns the content in canonical form.
    fn members(&self) -> Vec<(&str, Canonical<'_>)> {
        let mut members =
            vec![(path::KIND, Canonical::Text(self.kind)), (path::REVISION, Canonical::Unsigned(self.revision.into()))];
        members.extend(self.seed.map(|seed| (path::SEED, Canonical::Unsigned(seed))));
        let inputs = self.inputs.iter().map(|(port, digest)| (port.as_str(), Canonical::Digest(*digest)));
        let mut sources = self.sources.to_vec();
        sources.sort_unstable();
        members.extend([
            (path::SETTINGS, Canonical::object(self.settings)),
            (path::INPUTS, Canonical::Object(inputs.collect())),
            (path::SOURCES, Canonical::Array(sources.into_iter().map(Canonical::Digest).collect())),
        ]);
        if !self.machine.is_empty() {
            let facts = self.machine.iter().map(|(name, fact)| (name.as_str(), Canonical::Text(fact)));
            members.push((path::MACHINE, Canonical::Object(facts.collect())));
        }
        members
    }
}
