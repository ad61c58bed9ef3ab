//! From patterns over files outside the store to the files that match now.
//!
//! The syntax is that of the crate `glob`: `*` and `?` within a name, `[a-z]`, and `**` for folders at any depth. A name
//! that begins with a dot matches like any other. Folders are read once for all stages: a thousand patterns over one
//! folder of ten thousand files read it once, and look only at the names that begin as the pattern does.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use contract::SourcePattern;
use glob::Pattern;

use crate::store::Signature;

/// Problems that are told one by one: a folder of links that lead nowhere has thousands.
const MOST: usize = 5;

/// Folders that were read, by path. Shared by threads; as of the first look.
#[derive(Debug, Default)]
pub(super) struct Folders(Mutex<HashMap<PathBuf, Arc<OnceLock<Names>>>>);

/// The names in a folder, or why it cannot be read.
type Names = Result<Arc<Listing>, Arc<io::Error>>;

/// The names in a folder.
#[derive(Debug, Default)]
struct Listing {
    /// Those that are text, sorted.
    names: Vec<String>,
    /// The others, with what is no text replaced, and whether each is a folder: a table's rows name their file, and a name that
    /// is no text cannot be kept.
    odd: Vec<(String, bool)>,
}

/// What matched and what is wrong.
#[derive(Default)]
struct Found {
    files: Vec<(PathBuf, Signature)>,
    problems: Vec<Problem>,
    /// The index of the pattern that is followed, whether it has matched something, and whether that was a folder.
    pattern: usize,
    matched: bool,
    folder: bool,
}

/// What is wrong with a pattern, or with what it matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    /// The index of the pattern.
    pub(super) pattern: usize,
    /// What is wrong, in a few words.
    pub(super) text: String,
}

/// Why there are no files to read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Missing {
    /// What is wrong.
    pub(super) problems: Vec<Problem>,
    /// Whether patterns are set, and nothing at all is where they look.
    pub(super) nothing: bool,
}

/// The files that match the patterns, each once, sorted by path, with what `stat` says of them. Folders are passed over;
/// anything else that matches and is no readable file is a problem, as a shard that silently stays out would be.
///
/// # Errors
/// An empty pattern (a source that the manifest leaves to the machine file or the command line), one that matches no file
/// or is none, a dangling link, a pipe.
pub(super) fn matching(folders: &Folders, patterns: &[SourcePattern]) -> Result<Vec<(PathBuf, Signature)>, Missing> {
    let mut found = Found::default();
    let mut nothing = 0;
    for (index, pattern) in patterns.iter().enumerate() {
        (found.pattern, found.matched, found.folder) = (index, false, false);
        let pattern = pattern.to_string();
        if pattern.is_empty() {
            found.problem("no source is set".to_owned());
            continue;
        }
        // The whole pattern first, for its messages: `**` in the middle of a name, an open bracket.
        if let Err(error) = Pattern::new(&pattern) {
            found.problem(format!("'{pattern}' is not a valid glob pattern: {}", error.msg));
            continue;
        }
        let before = found.problems.len();
        let components: Vec<_> = Path::new(&pattern).components().collect();
        folders.walk(Path::new(""), &components, &mut found);
        found.files.sort_by(|(one, _), (other, _)| one.cmp(other));
        found.files.dedup_by(|(one, _), (other, _)| one == other);
        if !found.matched && found.problems.len() == before {
            nothing += usize::from(!found.folder);
            let hint = if found.folder { " (it is a folder: add '/*')" } else { "" };
            found.problem(format!("no file matches '{pattern}'{hint}"));
        }
    }
    match found.problems.is_empty() {
        true => Ok(found.files),
        false => {
            let mut problems = found.problems;
            let more = problems.len().saturating_sub(MOST);
            problems.truncate(MOST);
            if more > 0 {
                let pattern = problems.last().map_or(0, |problem| problem.pattern);
                problems.push(Problem { pattern, text: format!("and {more} more like these") });
            }
            Err(Missing { problems, nothing: nothing == patterns.len() })
        }
    }
}

impl Folders {
    /// Follows the rest of a pattern from a folder that matches its beginning.
    fn walk(&self, at: &Path, rest: &[Component<'_>], found: &mut Found) {
        let Some((first, rest)) = rest.split_first() else { return found.take(at) };
        let Component::Normal(name) = first else { return self.walk(&at.join(first), rest, found) };
        let name = name.to_string_lossy();
        if name == "**" {
            return self.walk_below(at, rest, found);
        }
        let plain = name.find(['*', '?', '[']);
        let Some(plain) = plain else {
            let path = at.join(&*name);
            // A name that is not there matches nothing; a link that leads nowhere is there.
            if !rest.is_empty() || path.symlink_metadata().is_ok() {
                self.walk(&path, rest, found);
            }
            return;
        };
        // The components of a pattern that is right are right.
        let Ok(pattern) = Pattern::new(&name) else { return };
        let Some(listing) = self.listing(at, found) else { return };
        // What is below it matches only where it is a folder.
        let odd =
            listing.odd.iter().filter(|(name, is_folder)| pattern.matches(name) && (rest.is_empty() || *is_folder));
        odd.for_each(|(name, _)| found.odd(at, name));
        let prefix = &name[..plain];
        let begin = listing.names.partition_point(|name| name.as_str() < prefix);
        let begin = listing.names[begin..].iter().take_while(|name| name.starts_with(prefix));
        for name in begin.filter(|name| pattern.matches(name)) {
            self.walk(&at.join(name), rest, found);
        }
    }

    /// `**`: the folder and all below it. Links to folders are not followed, so that there is no circle.
    fn walk_below(&self, at: &Path, rest: &[Component<'_>], found: &mut Found) {
        match rest {
            [] => {}
            rest => self.walk(at, rest, found),
        }
        let Some(listing) = self.listing(at, found) else { return };
        // Of files the rest of the pattern says whether they match; below a folder anything may.
        let odd = listing.odd.iter().filter(|(_, is_folder)| *is_folder || rest.is_empty());
        odd.for_each(|(name, _)| found.odd(at, name));
        for name in &listing.names {
            let path = at.join(name);
            if path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
                self.walk_below(&path, rest, found);
            } else if rest.is_empty() {
                found.take(&path);
            }
        }
    }

    fn listing(&self, folder: &Path, found: &mut Found) -> Option<Arc<Listing>> {
        let mut folders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let names = folders.entry(folder.to_owned()).or_default().clone();
        // Who wants another folder need not wait until this one is read.
        drop(folders);
        match names.get_or_init(|| Listing::read(folder).map(Arc::new).map_err(Arc::new)) {
            Ok(listing) => Some(Arc::clone(listing)),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => None,
            Err(error) => {
                found.problem(format!("cannot read {}: {error}", folder.display()));
                None
            }
        }
    }
}

impl Listing {
    fn read(folder: &Path) -> io::Result<Self> {
        let path = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let mut listing = Self::default();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            match entry.file_name().into_string() {
                Ok(name) => listing.names.push(name),
                Err(name) => listing.odd.push((name.to_string_lossy().into_owned(), entry.path().is_dir())),
            }
        }
        listing.names.sort();
        listing.odd.sort();
        Ok(listing)
    }
}

impl Found {
    /// A path that matches the whole pattern.
    fn take(&mut self, path: &Path) {
        match path.metadata() {
            Ok(metadata) if metadata.is_dir() => {
                self.folder = true;
                return;
            }
            Ok(metadata) if metadata.is_file() => self.files.push((path.to_owned(), Signature::of(&metadata))),
            Ok(_) => self.problem(format!("{} is not a regular file", path.display())),
            Err(error) => self.problem(format!("cannot read {}: {error}", path.display())),
        }
        self.matched = true;
    }

    /// A name that would match and is no text.
    fn odd(&mut self, folder: &Path, name: &str) {
        let text = format!("{} has a name that is not UTF-8: rename it", folder.join(name).display());
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
            let files = matching(&Folders::default(), patterns)?;
            Ok::<Vec<_>, Missing>(files.into_iter().map(|(path, _)| path).collect())
        };
        fs::write(folder.path().join("b.gz"), "").unwrap();
        fs::write(folder.path().join("a.gz"), "").unwrap();
        fs::create_dir(folder.path().join("c.gz")).unwrap();
        let files = matching(&[pattern("*.gz"), pattern("a.gz")]).unwrap();
        assert_eq!(files, [folder.path().join("a.gz"), folder.path().join("b.gz")]);
        let Missing { problems, nothing } = matching(&[pattern("*.gz"), pattern("*.txt"), pattern("[")]).unwrap_err();
        assert!(!nothing);
        assert_eq!(problems.iter().map(|problem| problem.pattern).collect::<Vec<_>>(), [1, 2]);
        assert!(problems[0].text.contains("no file matches") && problems[0].text.contains("*.txt"), "{problems:?}");
        assert!(problems[1].text.contains("is not a valid glob pattern"), "{problems:?}");
        let unset =
            Missing { problems: vec![Problem { pattern: 0, text: "no source is set".to_owned() }], nothing: false };
        assert_eq!(matching(&[SourcePattern::default()]), Err(unset));
        assert!(matching(&[pattern("*.txt"), pattern("nowhere/*")]).unwrap_err().nothing);
        assert!(matching(&[pattern("c.gz")]).unwrap_err().problems[0].text.contains("it is a folder"));
        fs::write(folder.path().join(OsStr::from_bytes(b"\xff.json")), "").unwrap();
        for odd in ["*.json", "**/*.json"] {
            let Missing { problems, nothing } = matching(&[pattern(odd)]).unwrap_err();
            assert!(
                problems.len() == 1
                    && problems[0].text.ends_with("\u{fffd}.json has a name that is not UTF-8: rename it")
            );
            assert!(!nothing, "what is there and cannot be read is not taken to be gone");
        }
        let found = |name: &str| matching(&[pattern(name)]).map(|files| files.len());
        for (other, count) in [("b*.gz", 1), ("**/b.gz", 1)] {
            assert_eq!(found(other), Ok(count), "who does not ask for it is not told");
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
        let folders = Folders::default();
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
            let found = matching(&folders, &[SourcePattern(whole)]).unwrap();
            let found: Vec<_> = found.into_iter().map(|(path, _)| path).collect();
            assert_eq!(found, expected, "{pattern}");
        }
    }
}
