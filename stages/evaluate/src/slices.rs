//! Slices: the predicted tokens, divided by a property of each token.
//!
//! | by | a token's value | required input |
//! |---|---|---|
//! | license | the license of its document | `documents` |
//! | repository size | the files of its document's repository in the table | `documents` |
//! | file length | the bytes of its document's text | `documents` |
//! | position | the tokens before it in its sequence | |
//! | contamination | whether `contaminated` contains its document | `contaminated` |
//!
//! Each division is a partition: every token is in one slice, and the sums of the slices add up to the whole ([`crate::sums`]). The
//! end-of-text token belongs to the document that it ends. The first tokens of a document belong to it even though they are predicted from
//! the end of another document in the same sequence. Slices without tokens are omitted.
//!
//! Memory depends on the number of slices, not on the number of documents: see [`crate::document_slices`].

use contract::figures::count;
use contract::{Problem, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::document_slices::DocumentSlices;
use crate::sums::{Measures, Prediction, Sums};

/// Boundaries of the slices: each number of a list is the start of a slice, which ends before the next number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SliceSettings {
    /// The number of licenses with a separate slice: those with the most documents. All other licenses share one slice.
    #[schemars(range(min = 1, max = 1000))]
    pub licenses: u16,
    /// The numbers of files of the repository, in the table of documents, at which slices begin.
    #[schemars(length(max = 64), inner(range(min = 1, max = 1u64 << 53)))]
    pub repository_files: Vec<u64>,
    /// The file sizes in bytes at which slices begin.
    #[schemars(length(max = 64), inner(range(min = 1, max = 1u64 << 53)))]
    pub file_bytes: Vec<u64>,
    /// The numbers of tokens before the predicted one, in its sequence, at which slices begin.
    #[schemars(length(max = 64), inner(range(min = 1, max = 1u64 << 53)))]
    pub positions: Vec<u64>,
}

impl Default for SliceSettings {
    /// By default, each upper boundary is four times the previous one; for positions, twice.
    fn default() -> Self {
        Self {
            licenses: 20,
            repository_files: (0..6).map(|power| 2 * 4u64.pow(power)).collect(),
            file_bytes: (0..6).map(|power| 256 * 4u64.pow(power)).collect(),
            positions: (1..20).map(|power| 1 << power).collect(),
        }
    }
}

impl SliceSettings {
    /// Returns the settings whose boundaries are not in ascending order.
    pub fn check(&self) -> Vec<Problem> {
        let lists = [
            ("slices.repository_files", &self.repository_files),
            ("slices.file_bytes", &self.file_bytes),
            ("slices.positions", &self.positions),
        ];
        let problem = |(setting, list): (&str, &Vec<u64>)| {
            let pair = list.windows(2).find(|pair| pair[0] >= pair[1])?;
            let message = format!("boundaries must ascend, but {} follows {}", pair[1], pair[0]);
            Some(Problem::new(setting, message))
        };
        lists.into_iter().filter_map(problem).collect()
    }
}

/// Returns the slice of a value.
pub(crate) fn slice_of(boundaries: &[u64], value: u64) -> u16 {
    boundaries.partition_point(|boundary| *boundary <= value) as u16
}

/// The divisions of the tokens into slices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    /// Slices by license.
    License,
    /// Slices by the number of files of the repository.
    RepositoryFiles,
    /// Slices by the size of the file, in bytes.
    FileBytes,
    /// Slices by the number of tokens before the token in its sequence.
    Position,
    /// Slices by whether the document is contaminated.
    Contamination,
}

impl By {
    /// Returns the property as a heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::License => "license",
            Self::RepositoryFiles => "repository size",
            Self::FileBytes => "file length",
            Self::Position => "position in the sequence",
            Self::Contamination => "contamination",
        }
    }

    /// Returns the unit in a slice's name.
    pub fn unit(self) -> &'static str {
        match self {
            Self::License => "license",
            Self::RepositoryFiles => "files of the repository",
            Self::FileBytes => "bytes of the file",
            Self::Position => "tokens before it",
            Self::Contamination => "documents",
        }
    }
}

/// One division of the tokens.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SliceTable {
    /// The property by which the tokens are divided.
    pub by: By,
    /// The slices that contain tokens: licenses with the most tokens first, other slices in order.
    pub slices: Vec<Slice>,
}

/// The tokens of one slice.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Slice {
    /// The name: the license, or the range of values.
    pub name: String,
    /// The smallest value, if it has values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// The largest value; `None` for the last slice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
    /// The measures of its tokens.
    #[serde(flatten)]
    pub measures: Measures,
}

/// Divides the tokens of sequences, one sequence after another.
#[derive(Debug)]
pub struct Slicer<'s> {
    settings: &'s SliceSettings,
    documents: Option<DocumentSlices>,
    licenses: Vec<Sums>,
    repository_files: Vec<Sums>,
    file_bytes: Vec<Sums>,
    positions: Vec<Sums>,
    contamination: Vec<Sums>,
}

impl<'s> Slicer<'s> {
    /// Creates slices without tokens; without `documents`, only by position.
    pub fn new(settings: &'s SliceSettings, documents: Option<DocumentSlices>) -> Self {
        let sums = |boundaries: &[u64]| vec![Sums::default(); boundaries.len() + 1];
        let licenses = documents.as_ref().map_or(0, |documents| documents.licenses().len());
        Self {
            documents,
            licenses: vec![Sums::default(); licenses],
            repository_files: sums(&settings.repository_files),
            file_bytes: sums(&settings.file_bytes),
            positions: sums(&settings.positions),
            contamination: vec![Sums::default(); 2],
            settings,
        }
    }

    /// Adds the predictions of a sequence of the packed file.
    ///
    /// # Errors
    /// Returns an error if the slices of its documents cannot be read.
    pub fn add(&mut self, sequence: u64, predictions: &[Prediction]) -> Result<()> {
        for (position, prediction) in (1..).zip(predictions) {
            self.positions[usize::from(slice_of(&self.settings.positions, position))].add(*prediction);
        }
        let Some(documents) = &self.documents else { return Ok(()) };
        documents.of_sequence(sequence, predictions.len(), |range, slices| {
            let mut sums = Sums::default();
            predictions[range].iter().for_each(|prediction| sums.add(*prediction));
            if let Some(facts) = slices.facts {
                self.licenses[usize::from(facts.license)] += sums;
                self.repository_files[usize::from(facts.repository_files)] += sums;
                self.file_bytes[usize::from(facts.file_bytes)] += sums;
            }
            self.contamination[usize::from(slices.is_contaminated)] += sums;
        })
    }

    /// Returns the tables. The sums of the slices of a table add up to the sums of all added predictions.
    pub fn tables(&self) -> Vec<SliceTable> {
        let SliceSettings { repository_files, file_bytes, positions, .. } = self.settings;
        let mut tables = Vec::new();
        if let Some(documents) = self.documents.as_ref().filter(|documents| documents.has_facts()) {
            let mut licenses = named(&self.licenses, documents.licenses());
            licenses.sort_by(|one, other| (other.measures.tokens, &one.name).cmp(&(one.measures.tokens, &other.name)));
            tables.push(SliceTable { by: By::License, slices: licenses });
            tables.push(SliceTable {
                by: By::RepositoryFiles,
                slices: ranges(&self.repository_files, repository_files, 1),
            });
            tables.push(SliceTable { by: By::FileBytes, slices: ranges(&self.file_bytes, file_bytes, 0) });
        }
        tables.push(SliceTable { by: By::Position, slices: ranges(&self.positions, positions, 1) });
        if self.documents.as_ref().is_some_and(DocumentSlices::has_contamination) {
            let names = ["without contaminated documents", "contaminated documents"].map(str::to_owned);
            tables.push(SliceTable { by: By::Contamination, slices: named(&self.contamination, &names) });
        }
        tables
    }

    /// Returns the sums of the slices, by partition. The sums of each partition with slices add up to those of all added predictions.
    pub fn sums(&self) -> Vec<(By, &[Sums])> {
        let mut all = vec![(By::Position, &self.positions[..])];
        if let Some(documents) = &self.documents {
            all.push((By::Contamination, &self.contamination));
            if documents.has_facts() {
                all.push((By::License, &self.licenses));
                all.push((By::RepositoryFiles, &self.repository_files));
                all.push((By::FileBytes, &self.file_bytes));
            }
        }
        all
    }
}

/// Returns the slices with tokens, by name.
fn named(sums: &[Sums], names: &[String]) -> Vec<Slice> {
    let slices = sums.iter().zip(names).filter(|(sums, _)| sums.tokens > 0);
    slices.map(|(sums, name)| Slice { name: name.clone(), from: None, to: None, measures: sums.measures() }).collect()
}

/// Returns the slices with tokens, by their ranges of values; no value is below `least`.
fn ranges(sums: &[Sums], boundaries: &[u64], least: u64) -> Vec<Slice> {
    let slice = |(number, sums): (usize, &Sums)| {
        let from = number.checked_sub(1).map_or(least, |before| boundaries[before]);
        let to = boundaries.get(number).map(|next| next - 1);
        let name = match to {
            Some(to) if to == from => count(from),
            Some(to) => format!("{} to {}", count(from), count(to)),
            None => format!("{} or more", count(from)),
        };
        Slice { name, from: Some(from), to, measures: sums.measures() }
    };
    sums.iter().enumerate().filter(|(_, sums)| sums.tokens > 0).map(slice).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_around_a_boundary() {
        let boundaries = [2, 4];
        assert_eq!([0, 1, 2, 3, 4, 5, u64::MAX].map(|value| slice_of(&boundaries, value)), [0, 0, 1, 1, 2, 2, 2]);
        assert_eq!(slice_of(&[], 7), 0);
    }

    #[test]
    fn a_slice_is_named_by_its_values() {
        let token = Sums { tokens: 1, ..Sums::default() };
        let names = |boundaries: &[u64], least| {
            let slices = ranges(&vec![token; boundaries.len() + 1], boundaries, least);
            slices.into_iter().map(|slice| (slice.name, slice.from, slice.to)).collect::<Vec<_>>()
        };
        let expected =
            [("0 to 1", 0, Some(1)), ("2", 2, Some(2)), ("3 to 4,095", 3, Some(4095)), ("4,096 or more", 4096, None)];
        let expected = expected.map(|(name, from, to)| (name.to_owned(), Some(from), to));
        assert_eq!(names(&[2, 3, 4096], 0), expected);
        assert_eq!(names(&[], 1), [("1 or more".to_owned(), Some(1), None)]);
        assert_eq!(ranges(&[Sums::default(), token], &[1], 1).len(), 1, "a slice without tokens is left out");
    }

    #[test]
    fn boundaries_that_do_not_ascend_are_named() {
        assert!(SliceSettings::default().check().is_empty());
        let settings = SliceSettings { file_bytes: vec![4, 4], positions: vec![8, 2], ..SliceSettings::default() };
        let problems: Vec<_> = settings.check().into_iter().map(|problem| (problem.setting, problem.message)).collect();
        let expected = [
            ("slices.file_bytes", "boundaries must ascend, but 4 follows 4"),
            ("slices.positions", "boundaries must ascend, but 2 follows 8"),
        ];
        assert_eq!(problems, expected.map(|(setting, message)| (setting.to_owned(), message.to_owned())));
    }
}
