//! Files that a stage reads from outside the store or, alternatively, from another stage.

use std::path::PathBuf;

use crate::context::Context;
use crate::digest::Digest;
use crate::error::{Result, StageError};
use crate::infer::{Conflict, InputFacts, Origin};
use crate::stage::SourcePattern;

/// The setting `source` of a stage, and the input port that may be connected instead.
#[derive(Debug, Clone, Copy)]
pub struct SourceOrInput<'s> {
    /// The value of the setting; an empty pattern means that it is not set.
    pub source: &'s SourcePattern,
    /// The input port.
    pub port: &'static str,
    /// A pattern for hints: `data/file-*.json.gz`.
    pub example: &'static str,
}

/// A source file, or a file of the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenFile {
    /// The path, for messages.
    pub name: PathBuf,
    /// The location on disk.
    pub location: PathBuf,
    /// The digest.
    pub digest: Digest,
    /// The size in bytes.
    pub size: u64,
}

impl GivenFile {
    /// Returns whether its name ends with a dot and this extension.
    pub fn has_extension(&self, extension: &str) -> bool {
        self.name.extension().is_some_and(|found| found == extension)
    }
}

impl SourceOrInput<'_> {
    /// Returns a conflict if both are set, for [`crate::Stage::infer`].
    pub fn conflict(&self, inputs: &InputFacts) -> Option<Conflict> {
        let both = inputs.has(self.port) && !self.source.0.is_empty();
        both.then(|| Conflict {
            setting: "source".to_owned(),
            message: self.both(),
            with: Origin { setting: format!("inputs.{}", self.port), ..Origin::default() },
            label: "the other".to_owned(),
            hint: "set only one of them".to_owned(),
        })
    }

    /// Returns the files of a running stage; there is at least one.
    ///
    /// # Errors
    /// Returns an error if both or neither are set, or there are no files.
    pub fn files(&self, context: &Context) -> Result<Vec<GivenFile>> {
        let Self { source, port, example } = self;
        let files: Vec<GivenFile> = match (context.inputs.get(port), source.0.is_empty()) {
            (Some(_), false) => return Err(StageError::new(self.both()).hint("set only one of them")),
            (None, true) => {
                let hint =
                    format!("set the source, for example --set stages.NAME.source='{example}', or connect '{port}'");
                return Err(StageError::new("no source is set").hint(hint));
            }
            (Some(tree), true) => {
                let file = |file: &crate::InputFile| GivenFile {
                    name: PathBuf::from(file.path.as_str()),
                    location: file.location.clone(),
                    digest: file.digest,
                    size: file.size,
                };
                tree.files.iter().map(file).collect()
            }
            (None, false) => {
                let file = |file: &crate::SourceFile| GivenFile {
                    name: file.path.clone(),
                    location: file.path.clone(),
                    digest: file.digest,
                    size: file.size,
                };
                context.sources.iter().map(file).collect()
            }
        };
        if !files.is_empty() {
            return Ok(files);
        }
        let message = match source.0.is_empty() {
            true => format!("the input '{port}' has no files"),
            false => format!("no file matches '{source}'"),
        };
        Err(StageError::new(message)
            .hint(format!("a pattern such as '{example}' is relative to the manifest's directory")))
    }

    fn both(&self) -> String {
        format!("both 'source' and the input '{}' are set", self.port)
    }
}
