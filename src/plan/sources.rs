//! From patterns over files outside the store to the files that match now.

use std::collections::BTreeSet;
use std::path::PathBuf;

use contract::SourcePattern;

/// The files that match the patterns: each once, sorted by path. A pattern that matches nothing is an error value, as is
/// an empty one (a source that the manifest leaves to the machine file or the command line).
///
/// # Errors
/// The patterns that match no file, or are not patterns.
pub(super) fn matching(patterns: &[SourcePattern]) -> Result<Vec<PathBuf>, Vec<String>> {
    let mut files = BTreeSet::new();
    let mut missing = Vec::new();
    for SourcePattern(pattern) in patterns {
        let found: Vec<_> = match pattern.as_str() {
            "" => Vec::new(),
            pattern => glob::glob(pattern)
                .map(|paths| paths.filter_map(Result::ok).filter(|path| path.is_file()).collect())
                .unwrap_or_default(),
        };
        if found.is_empty() {
            missing.push(pattern.clone());
        }
        files.extend(found);
    }
    if missing.is_empty() { Ok(files.into_iter().collect()) } else { Err(missing) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_without_a_match_is_named_and_folders_do_not_match() {
        let folder = tempfile::tempdir().unwrap();
        let pattern = |name: &str| SourcePattern(folder.path().join(name).display().to_string());
        std::fs::write(folder.path().join("b.gz"), "").unwrap();
        std::fs::write(folder.path().join("a.gz"), "").unwrap();
        std::fs::create_dir(folder.path().join("c.gz")).unwrap();
        let files = matching(&[pattern("*.gz"), pattern("a.gz")]).unwrap();
        assert_eq!(files, [folder.path().join("a.gz"), folder.path().join("b.gz")]);
        assert_eq!(matching(&[pattern("*.gz"), pattern("*.txt")]), Err(vec![pattern("*.txt").0]));
        assert_eq!(matching(&[SourcePattern::default()]), Err(vec![String::new()]));
    }
}
