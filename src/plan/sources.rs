//! From patterns over files outside the store to the files that match now.

use std::collections::BTreeSet;
use std::path::PathBuf;

use contract::SourcePattern;

/// The files that match the patterns: each once, sorted by path. Folders are passed over; anything else that matches and
/// is no readable file is a problem, as a shard that silently stays out would be.
///
/// # Errors
/// What is wrong, in a few words each: an empty pattern (a source that the manifest leaves to the machine file or the
/// command line), one that matches no file or is none, a dangling link, a pipe.
pub(super) fn matching(patterns: &[SourcePattern]) -> Result<Vec<PathBuf>, Vec<String>> {
    let mut files = BTreeSet::new();
    let mut problems = Vec::new();
    for SourcePattern(pattern) in patterns {
        if pattern.is_empty() {
            problems.push("no source is set".to_owned());
            continue;
        }
        let paths = match glob::glob(pattern) {
            Ok(paths) => paths,
            Err(error) => {
                problems.push(format!("'{pattern}' is no pattern: {}", error.msg));
                continue;
            }
        };
        let (mut matched, mut folder) = (false, false);
        for path in paths {
            let path = match path {
                Ok(path) => path,
                Err(error) => {
                    problems.push(format!("cannot read {}: {}", error.path().display(), error.error()));
                    continue;
                }
            };
            match path.metadata() {
                Ok(metadata) if metadata.is_dir() => {
                    folder = true;
                    continue;
                }
                Ok(metadata) if metadata.is_file() => {
                    files.insert(path);
                }
                Ok(_) => problems.push(format!("{} is not a regular file", path.display())),
                Err(error) => problems.push(format!("cannot read {}: {error}", path.display())),
            }
            matched = true;
        }
        if !matched {
            let hint = if folder { " (it is a folder: add '/*')" } else { "" };
            problems.push(format!("no file matches '{pattern}'{hint}"));
        }
    }
    if problems.is_empty() { Ok(files.into_iter().collect()) } else { Err(problems) }
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
        let problems = matching(&[pattern("*.gz"), pattern("*.txt"), pattern("[")]).unwrap_err();
        assert!(problems[0].contains("no file matches") && problems[0].contains("*.txt"), "{problems:?}");
        assert!(problems[1].contains("is no pattern"), "{problems:?}");
        assert_eq!(matching(&[SourcePattern::default()]), Err(vec!["no source is set".to_owned()]));
        assert!(matching(&[pattern("c.gz")]).unwrap_err()[0].contains("it is a folder"));
        std::os::unix::fs::symlink(folder.path().join("nowhere"), folder.path().join("d.gz")).unwrap();
        assert!(matching(&[pattern("*.gz")]).unwrap_err()[0].contains("d.gz"), "a dangling link is a missing shard");
    }
}
