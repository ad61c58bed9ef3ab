//! A file that the user names on the command line for output.
//!
//! | path | result |
//! |---|---|
//! | nothing, or a regular file | the complete file replaces it by a rename, so a stopped command leaves the old one |
//! | a symbolic link | the same for its target; the link stays |
//! | the file of standard output or standard error, such as `/dev/stdout` | written to, after what is there |
//! | a device, a FIFO or a socket | written to |

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use contract::StageError;
use tempfile::NamedTempFile;

use super::CommandError;

/// The maximum number of symbolic links on the way to a file, as in Linux.
const MOST_LINKS: usize = 40;

/// A file to write.
pub(super) struct OutputFile<'p> {
    path: &'p Path,
    output: Output,
}

enum Output {
    /// A temporary file beside the target.
    Unfinished { file: NamedTempFile, target: PathBuf },
    /// The file itself.
    Direct(File),
}

impl<'p> OutputFile<'p> {
    /// Opens the file, so that an unusable path is an error before the work.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written, or is one of `inputs`, which are needed until the end or in a later call.
    pub(super) fn create(path: &'p Path, inputs: &[&Path]) -> Result<Self, CommandError> {
        if let Some(input) = inputs.iter().find(|input| is_same_file(path, input)) {
            let (shown, input) = (path.display(), input.display());
            return Err(CommandError::usage(format!("cannot write '{shown}': it is the input '{input}'"))
                .hint("choose another file; nothing was changed"));
        }
        let output = Output::open(path).map_err(CommandError::io(format!("write '{}'", path.display())))?;
        Ok(Self { path, output })
    }

    /// Writes the content.
    ///
    /// # Errors
    /// Returns the error of `content`, or an error if the file cannot be written.
    pub(super) fn write(
        self,
        content: impl FnOnce(&mut dyn Write) -> Result<(), StageError>,
    ) -> Result<(), CommandError> {
        let file = match &self.output {
            Output::Unfinished { file, .. } => file.as_file(),
            Output::Direct(file) => file,
        };
        let mut buffer = BufWriter::new(file);
        content(&mut buffer)?;
        let failed = || CommandError::io(format!("write '{}'", self.path.display()));
        buffer.flush().map_err(failed())?;
        drop(buffer);
        match self.output {
            Output::Unfinished { file, target } => {
                file.persist(target).map_err(|error| failed()(error.error)).map(drop)
            }
            Output::Direct(_) => Ok(()),
        }
    }
}

impl Output {
    fn open(path: &Path) -> io::Result<Self> {
        if let Ok(there) = fs::metadata(path) {
            if let Some(standard) = standard_stream(&there)? {
                return Ok(Self::Direct(standard));
            }
            if there.is_dir() {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            if !there.is_file() {
                return File::options().write(true).open(path).map(Self::Direct);
            }
        }
        let target = target(path)?;
        let directory = target.parent().filter(|directory| !directory.as_os_str().is_empty());
        let mut builder = tempfile::Builder::new();
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let file = builder.tempfile_in(directory.unwrap_or(Path::new(".")))?;
        Ok(Self::Unfinished { file, target })
    }
}

/// Returns the path at the end of symbolic links, where there may be no file yet.
fn target(path: &Path) -> io::Result<PathBuf> {
    let mut target = path.to_owned();
    for _ in 0..MOST_LINKS {
        match fs::read_link(&target) {
            Ok(link) => target = target.parent().unwrap_or(Path::new("")).join(link),
            Err(_) => return Ok(target),
        }
    }
    Err(io::Error::other("too many levels of symbolic links"))
}

/// Returns whether both paths name one regular file, whatever their names.
#[cfg(unix)]
pub(super) fn is_same_file(one: &Path, other: &Path) -> bool {
    let of = |path| fs::metadata(path).ok().filter(fs::Metadata::is_file).map(|file| id(&file));
    of(one).is_some_and(|one| of(other) == Some(one))
}

#[cfg(not(unix))]
pub(super) fn is_same_file(one: &Path, other: &Path) -> bool {
    fs::canonicalize(one).is_ok_and(|one| fs::canonicalize(other).is_ok_and(|other| one == other))
}

#[cfg(unix)]
fn id(file: &fs::Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    (file.dev(), file.ino())
}

/// Returns standard output or standard error, if it is this file: opened again, a regular file would be written from its start.
#[cfg(unix)]
fn standard_stream(there: &fs::Metadata) -> io::Result<Option<File>> {
    use std::os::fd::AsFd;
    let (stdout, stderr) = (io::stdout(), io::stderr());
    for stream in [stdout.as_fd(), stderr.as_fd()] {
        let stream = File::from(stream.try_clone_to_owned()?);
        if stream.metadata().is_ok_and(|stream| id(&stream) == id(there)) {
            return Ok(Some(stream));
        }
    }
    Ok(None)
}

#[cfg(not(unix))]
fn standard_stream(_: &fs::Metadata) -> io::Result<Option<File>> {
    Ok(None)
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::{FileTypeExt, symlink};

    use super::*;

    fn write(path: &Path) -> Result<(), CommandError> {
        OutputFile::create(path, &[])?.write(|output| Ok(writeln!(output, "new")?))
    }

    #[test]
    fn a_file_is_replaced_and_a_link_stays_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("deep")).unwrap();
        fs::write(at("old"), "old").unwrap();
        symlink("../old", at("deep/link")).unwrap();
        symlink("deep/link", at("links")).unwrap();
        symlink("deep/new", at("dangling")).unwrap();
        for (path, file) in [("fresh", "fresh"), ("old", "old"), ("links", "old"), ("dangling", "deep/new")] {
            fs::write(at("old"), "old").unwrap();
            write(&at(path)).unwrap();
            assert_eq!(fs::read_to_string(at(file)).unwrap(), "new\n", "{path}");
        }
        for link in ["deep/link", "links", "dangling"] {
            assert!(at(link).is_symlink(), "{link}");
        }
        symlink("b", at("a")).unwrap();
        symlink("a", at("b")).unwrap();
        assert!(write(&at("a")).is_err() && write(&at("deep")).is_err() && write(&at("none/file")).is_err());
    }

    #[test]
    fn a_fifo_is_written_to_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (fifo, link) = (folder.path().join("fifo"), folder.path().join("link"));
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        symlink(&fifo, &link).unwrap();
        for path in [&fifo, &link] {
            let reader = std::thread::spawn({
                let fifo = fifo.clone();
                move || fs::read_to_string(fifo)
            });
            write(path).unwrap();
            assert!(fs::metadata(&fifo).unwrap().file_type().is_fifo());
            assert_eq!(reader.join().unwrap().unwrap(), "new\n");
        }
    }

    #[test]
    fn an_input_is_refused_under_any_name() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("input"), "old").unwrap();
        fs::hard_link(at("input"), at("hard")).unwrap();
        symlink("input", at("link")).unwrap();
        fs::write(at("other"), "old").unwrap();
        for path in ["input", "hard", "link"] {
            let error = OutputFile::create(&at(path), &[&at("other"), &at("input")]).err().unwrap().to_string();
            assert!(error.contains("it is the input") && error.contains("nothing was changed"), "{error}");
        }
        assert!(OutputFile::create(&at("other"), &[&at("input"), &at("none")]).is_ok());
        assert!(OutputFile::create(&at("none"), &[&at("none")]).is_ok());
    }

    #[test]
    fn the_file_of_standard_output_is_recognised() {
        use std::os::fd::AsFd;
        let stdout = File::from(io::stdout().as_fd().try_clone_to_owned().unwrap());
        assert!(standard_stream(&stdout.metadata().unwrap()).unwrap().is_some());
        let folder = tempfile::tempdir().unwrap();
        assert!(standard_stream(&folder.path().metadata().unwrap()).unwrap().is_none());
    }
}
