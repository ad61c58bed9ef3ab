//! The files outside the store that match a pattern.
//!
//! The syntax is that of the crate `glob`: `*` and `?` within a name, `[a-z]`, and `**` for directories at any depth. Names that begin with
//! a dot are matched like others. Each directory is read once for all stages and patterns, and a pattern is compared only with the names
//! that begin with its literal prefix.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use contract::SourcePattern;
use glob::Pattern;

use crate::store::Signature;

/// The maximum number of listed problems: a directory of dangling links may have thousands.
const LISTED: usize = 5;

/// The directories that were read, by path, as they were at first use. Shared by threads.
#[derive(Debug, Default)]
pub(super) struct DirectoryCache(Mutex<HashMap<PathBuf, Arc<OnceLock<Names>>>>);

/// The names in a directory, or the error if it cannot be read.
type Names = Result<Arc<Listing>, Arc<io::Error>>;

/// The names in a directory.
#[derive(Debug, Default)]
struct Listing {
    /// The UTF-8 names, sorted.
    names: Vec<String>,
    /// Other names, converted lossily, and whether each is a directory. They are errors: the rows of a table contain file names, which must
    /// be UTF-8.
    not_utf8: Vec<(String, bool)>,
}

/// The matching files, and the problems.
#[derive(Default)]
struct Matches {
    files: Vec<(PathBuf, Signature)>,
    problems: Vec<Problem>,
    /// The index of the current pattern.
    pattern: usize,
    /// Whether it has matched anything other than directories.
    has_match: bool,
    /// Whether it has matched a directory.
    has_directory: bool,
}

/// A problem with a pattern or with a file that it matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    /// The index of the pattern.
    pub(super) pattern: usize,
    /// The message.
    pub(super) text: String,
}

/// The reason that the files of a stage cannot be read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Missing {
    /// The problems.
    pub(super) problems: Vec<Problem>,
    /// Whether all files are missing: patterns are set, but none of them matches anything.
    pub(super) all: bool,
}

/// Returns the files that match the patterns, each once, sorted by path, with their `stat` signatures. Directories are skipped; any other
/// match that is not a readable file is a problem, so that no shard is skipped silently.
///
/// # Errors
/// Returns problems for an empty pattern (a source that the manifest leaves to the machine file or the command line), an invalid pattern, a
/// pattern that matches no file, a dangling link, and a pipe.
pub(super) fn matching(
    directories: &DirectoryCache,
    patterns: &[SourcePattern],
) -> Result<Vec<(PathBuf, Signature)>, Missing> {
    let mut found = Matches::default();
    let mut without_match = 0;
    for (index, pattern) in patterns.iter().enumerate() {
        (found.pattern, found.has_match, found.has_directory) = (index, false, false);
        let pattern = pattern.to_string();
        if pattern.is_empty() {
            found.problem("no source is set".to_owned());
            continue;
        }
        // The whole pattern is parsed first to report its errors: `**` inside a name, an open bracket.
        if let Err(error) = Pattern::new(&pattern) {
            found.problem(format!("'{pattern}' is not a valid glob pattern: {}", error.msg));
            continue;
        }
        let before = found.problems.len();
        let components: Vec<_> = Path::new(&pattern).components().collect();
        directories.walk(Path::new(""), &components, &mut found);
        found.files.sort_by(|(one, _), (other, _)| one.cmp(other));
        found.files.dedup_by(|(one, _), (other, _)| one == other);
        if !found.has_match && found.problems.len() == before {
            without_match += usize::from(!found.has_directory);
            let hint = if found.has_directory { " (it is a directory: add '/*')" } else { "" };
            found.problem(format!("no file matches '{pattern}'{hint}"));
        }
    }
    match found.problems.is_empty() {
        true => Ok(found.files),
        false => {
            let mut problems = found.problems;
            let more = problems.len().saturating_sub(LISTED);
            problems.truncate(LISTED);
            if more > 0 {
                let pattern = problems.last().map_or(0, |problem| problem.pattern);
                problems.push(Problem { pattern, text: format!("and {more} more like these") });
            }
            Err(Missing { problems, all: without_match == patterns.len() })
        }
    }
}

impl DirectoryCache {
    /// Matches the rest of a pattern below a directory that matches its beginning.
    fn walk(&self, at: &Path, rest: &[Component<'_>], found: &mut Matches) {
        let Some((first, rest)) = rest.split_first() else { return found.take(at) };
        let Component::Normal(name) = first else { return self.walk(&at.join(first), rest, found) };
        let name = name.to_string_lossy();
        if name == "**" {
            return self.walk_below(at, rest, found);
        }
        let plain = name.find(['*', '?', '[']);
        let Some(plain) = plain else {
            let path = at.join(&*name);
            // A missing name matches nothing; a dangling link exists.
            if !rest.is_empty() || path.symlink_metadata().is_ok() {
                self.walk(&path, rest, found);
            }
            return;
        };
        // The components of a valid pattern are valid.
        let Ok(pattern) = Pattern::new(&name) else { return };
        let Some(listing) = self.listing(at, found) else { return };
        // The rest of the pattern needs a directory.
        let matches = |name: &str, is_directory: bool| pattern.matches(name) && (rest.is_empty() || is_directory);
        let not_utf8 = listing.not_utf8.iter().filter(|(name, is_directory)| matches(name, *is_directory));
        not_utf8.for_each(|(name, _)| found.not_utf8(at, name));
        let prefix = &name[..plain];
        let begin = listing.names.partition_point(|name| name.as_str() < prefix);
        let begin = listing.names[begin..].iter().take_while(|name| name.starts_with(prefix));
        for name in begin.filter(|name| pattern.matches(name)) {
            self.walk(&at.join(name), rest, found);
        }
    }

    /// Matches `**`: the directory and everything below it. Links to directories are not followed, which prevents cycles.
    fn walk_below(&self, at: &Path, rest: &[Component<'_>], found: &mut Matches) {
        if !rest.is_empty() {
            self.walk(at, rest, found);
        }
        let Some(listing) = self.listing(at, found) else { return };
        // A file with such a name is matched against the rest of the pattern; anything below such a directory may match.
        let not_utf8 = listing.not_utf8.iter().filter(|(_, is_directory)| *is_directory || rest.is_empty());
        not_utf8.for_each(|(name, _)| found.not_utf8(at, name));
        for name in &listing.names {
            let path = at.join(name);
            if path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
                self.walk_below(&path, rest, found);
            } else if rest.is_empty() {
                found.take(&path);
            }
        }
    }

    fn listing(&self, directory: &Path, found: &mut Matches) -> Option<Arc<Listing>> {
        let mut directories = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let names = directories.entry(directory.to_owned()).or_default().clone();
        // Not held while this directory is read: other threads may need other directories.
        drop(directories);
        match names.get_or_init(|| Listing::read(directory).map(Arc::new).map_err(Arc::new)) {
            Ok(listing) => Some(Arc::clone(listing)),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => None,
            Err(error) => {
                found.problem(format!("cannot read {}: {error}", directory.display()));
                None
            }
        }
    }
}

impl Listing {
    fn read(directory: &Path) -> io::Result<Self> {
        let path = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        let mut listing = Self::default();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            match entry.file_name().into_string() {
                Ok(name) => listing.names.push(name),
                Err(name) => listing.not_utf8.push((name.to_string_lossy().into_owned(), entry.path().is_dir())),
            }
        }
        listing.names.sort();
        listing.not_utf8.sort();
        Ok(listing)
    }
}

impl Matches {
    /// Adds a path that matches the whole pattern.
    fn take(&mut self, path: &Path) {
        match path.metadata() {
            Ok(metadata) if metadata.is_dir() => {
                self.has_directory = true;
                return;
            }
            Ok(metadata) if metadata.is_file() => self.files.push((path.to_owned(), Signature::of(&metadata))),
            Ok(_) => self.problem(format!("{} is not a regular file", path.display())),
            Err(error) => self.problem(format!("cannot read {}: {error}", path.display())),
        }
        self.has_match = true;
    }

    /// Reports a matching name that is not UTF-8.
    fn not_utf8(&mut self, directory: &Path, name: &str) {
        let text = format!("{} has a name that is not UTF-8: rename it", directory.join(name).display());
        if !self.problems.iter().any(|problem| problem.text == text) {
            self.problem(text);
        }
    }

    fn problem(&mut self, text: String) {
        self.problems.push(Problem { pattern: self.pattern, text });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn a_pattern_without_a_match_is_named_and_folders_do_not_match() {
        let folder = tempfile::tempdir().unwrap();
        let pattern = |name: &str| SourcePattern(folder.path().join(name).display().to_string());
        let matching = |patterns: &[SourcePattern]| {
            let files = matching(&DirectoryCache::default(), patterns)?;
            Ok::<Vec<_>, Missing>(files.into_iter().map(|(path, _)| path).collect())
        };
        fs::write(folder.path().join("b.gz"), "").unwrap();
        fs::write(folder.path().join("a.gz"), "").unwrap();
        fs::create_dir(folder.path().join("c.gz")).unwrap();
        let files = matching(&[pattern("*.gz"), pattern("a.gz")]).unwrap();
        assert_eq!(files, [folder.path().join("a.gz"), folder.path().join("b.gz")]);
        let Missing { problems, all } = matching(&[pattern("*.gz"), pattern("*.txt"), pattern("[")]).unwrap_err();
        assert!(!all);
        assert_eq!(problems.iter().map(|problem| problem.pattern).collect::<Vec<_>>(), [1, 2]);
        assert!(problems[0].text.contains("no file matches") && problems[0].text.contains("*.txt"), "{problems:?}");
        assert!(problems[1].text.contains("is not a valid glob pattern"), "{problems:?}");
        let unset = Missing { problems: vec![Problem { pattern: 0, text: "no source is set".to_owned() }], all: false };
        assert_eq!(matching(&[SourcePattern::default()]), Err(unset));
        assert!(matching(&[pattern("*.txt"), pattern("nowhere/*")]).unwrap_err().all);
        assert!(matching(&[pattern("c.gz")]).unwrap_err().problems[0].text.contains("it is a directory"));
        fs::write(folder.path().join(OsStr::from_bytes(b"\xff.json")), "").unwrap();
        for odd in ["*.json", "**/*.json"] {
            let Missing { problems, all } = matching(&[pattern(odd)]).unwrap_err();
            assert!(
                problems.len() == 1
                    && problems[0].text.ends_with("\u{fffd}.json has a name that is not UTF-8: rename it")
            );
            assert!(!all, "a file that cannot be read is not missing");
        }
        let found = |name: &str| matching(&[pattern(name)]).map(|files| files.len());
        for (other, count) in [("b*.gz", 1), ("**/b.gz", 1)] {
            assert_eq!(found(other), Ok(count), "a pattern that does not match it reports nothing");
        }
        assert!(!found("*/b.gz").unwrap_err().problems[0].text.contains("UTF-8"), "nothing is below a file");
        fs::create_dir(folder.path().join(OsStr::from_bytes(b"\xfe"))).unwrap();
        for number in 0..9 {
            std::os::unix::fs::symlink("nowhere", folder.path().join(format!("{number}.lost"))).unwrap();
        }
        let lost = found("*.lost").unwrap_err().problems;
        assert_eq!((lost.len(), lost[5].text.as_str()), (6, "and 4 more like these"));
        for below in ["*/b.gz", "**/b.gz"] {
            assert!(
                found(below).unwrap_err().problems[0]
                    .text
                    .ends_with("\u{fffd} has a name that is not UTF-8: rename it")
            );
        }
        std::os::unix::fs::symlink(folder.path().join("nowhere"), folder.path().join("d.gz")).unwrap();
        assert!(
            matching(&[pattern("*.gz")]).unwrap_err().problems[0].text.contains("d.gz"),
            "a dangling link is a missing shard"
        );
    }

    #[test]
    fn patterns_match_what_the_crate_glob_matches() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["a/1.gz", "a/2.txt", "a/b/3.gz", "a/b/c/4.gz", "z/1.gz", "z.gz", "ab/1.gz", ".h/5.gz"] {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let directories = DirectoryCache::default();
        let patterns = [
            "*.gz",
            "*/*.gz",
            "a/*",
            "a/**/*.gz",
            "**/*.gz",
            "**/[13].gz",
            "a?/1.gz",
            "[az]/1.gz",
            "a/b/../1.gz",
            "**/b/*",
        ];
        for pattern in patterns {
            let whole = folder.path().join(pattern).display().to_string();
            let expected: BTreeSet<_> =
                glob::glob(&whole).unwrap().map(Result::unwrap).filter(|path| path.is_file()).collect();
            let expected: Vec<_> = expected.into_iter().collect();
            let found = matching(&directories, &[SourcePattern(whole)]).unwrap();
            let found: Vec<_> = found.into_iter().map(|(path, _)| path).collect();
            assert_eq!(found, expected, "{pattern}");
        }
    }
}
