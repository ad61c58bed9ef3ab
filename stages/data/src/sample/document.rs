//! Determines for each document whether it is an original, a copy or a near copy.

use std::collections::HashMap;

use contract::Draw;

use super::Spec;
use super::code;
use super::random_choices::RandomChoices;
use crate::license::KEYS;

/// Licenses of repositories; the more common ones are listed more often.
const COMMON: [&str; 6] = ["mit", "apache-2.0", "bsd-3-clause", "gpl-3.0", "mit", "apache-2.0"];

/// A row of the export.
pub(super) struct SampleDocument {
    pub repo_name: String,
    pub path: String,
    pub copies: u64,
    pub content: String,
    pub license: &'static str,
}

/// The origin of a document's content.
#[derive(Clone, Copy)]
enum Origin {
    Original,
    CopyOf(u64),
    NearCopyOf(u64),
}

/// All documents of the export, each generated on request.
pub(super) struct Documents {
    repositories: u64,
    files: u64,
    exact: f64,
    near: f64,
    origin: Draw,
    content: Draw,
    change: Draw,
    repository: Draw,
    /// The number of exact copies of each document that has any, including itself.
    copies: HashMap<u64, u64>,
}

impl Documents {
    pub(super) fn new(spec: &Spec, seed: u64) -> Self {
        let draw = |purpose: &str| Draw::new(seed, &format!("sample {purpose}"));
        let mut documents = Self {
            repositories: u64::from(spec.repositories),
            files: u64::from(spec.files_per_repository),
            exact: spec.exact_duplicates,
            near: spec.near_duplicates,
            origin: draw("origin"),
            content: draw("content"),
            change: draw("change"),
            repository: draw("repository"),
            copies: HashMap::new(),
        };
        let mut copies = HashMap::new();
        for number in 0..documents.len() {
            if let Origin::CopyOf(_) = documents.origin(number) {
                *copies.entry(documents.source(number)).or_insert(1) += 1;
            }
        }
        documents.copies = copies;
        documents
    }

    pub(super) fn len(&self) -> u64 {
        self.repositories * self.files
    }

    pub(super) fn document(&self, number: u64) -> SampleDocument {
        // Adjacent documents in a shard belong to different repositories, as in a real export.
        let repository = number % self.repositories;
        let mut random = RandomChoices::new(self.repository.seed(&repository.to_le_bytes()));
        let topic = code::topic(&mut random);
        let license = if random.chance(0.7) { random.pick(&COMMON) } else { random.pick(&KEYS) };
        let content = self.content(number);
        let file = number / self.repositories;
        SampleDocument {
            repo_name: format!("synthetic/{topic}-{repository:04}"),
            path: format!("{topic}/module_{file:04}.py"),
            copies: self.copies.get(&self.source(number)).copied().unwrap_or(1),
            content,
            license,
        }
    }

    fn origin(&self, number: u64) -> Origin {
        let mut random = RandomChoices::new(self.origin.seed(&number.to_le_bytes()));
        // The first document has no earlier document to copy.
        match number {
            0 => Origin::Original,
            _ if random.chance(self.exact) => Origin::CopyOf(random.below(number)),
            _ if random.chance(self.near / (1.0 - self.exact).max(f64::MIN_POSITIVE)) => {
                Origin::NearCopyOf(random.below(number))
            }
            _ => Origin::Original,
        }
    }

    /// Returns the original of a document, through any number of copies; the document itself if it is not a copy.
    fn source(&self, mut number: u64) -> u64 {
        while let Origin::CopyOf(other) = self.origin(number) {
            number = other;
        }
        number
    }

    fn content(&self, number: u64) -> String {
        let source = self.source(number);
        match self.origin(source) {
            Origin::NearCopyOf(other) => {
                let mut random = RandomChoices::new(self.change.seed(&source.to_le_bytes()));
                // A near copy of a near copy becomes one of the same original, so that files stay similar.
                let original = self.original(other);
                let content = code::file(&mut RandomChoices::new(self.content.seed(&original.to_le_bytes())));
                code::change(&content, &mut random)
            }
            _ => code::file(&mut RandomChoices::new(self.content.seed(&source.to_le_bytes()))),
        }
    }

    fn original(&self, mut number: u64) -> u64 {
        loop {
            number = match self.origin(number) {
                Origin::Original => return number,
                Origin::CopyOf(other) | Origin::NearCopyOf(other) => other,
            };
        }
    }
}
