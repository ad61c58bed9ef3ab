//! Derived files: files computed on demand from one input tree, such as the plain Parquet files of a table for
//! other programs. They are a cache: created once, shared by all stages and runs of a store, and removable at any time.
//!
//! ```text
//! <tree>.<name>/files/…   the files, read-only, with a modification time one second after 1970
//! <tree>.<name>/list      their digests and sizes, in the format of a tree ([`crate::tree`])
//! <tree>.<name>.partial/  the same while it is being created
//! <tree>.<name>.lock      an operating system lock, held by the process that creates or removes the entry
//! ```
//!
//! `<tree>` is the digest of the input tree; `<name>` is the format and its version, and must change if the bytes change.
//!
//! | event | result |
//! |---|---|
//! | two processes need it at the same time | one creates it, the other waits for the lock and uses it |
//! | a kill while it is created | the next process that creates or removes the entry removes the partial directory |
//! | a write to one of its files | the file's modification time differs from the sealed one: the entry is created again |
//! | it is removed while a stage uses it | the stage has hard links: its files stay until its working directory is removed |
//! | the directory cannot be written | the files are created only for the stage |

use std::fs::{self, File, FileTimes, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::cancel::Cancel;
use crate::digest::Digest;
use crate::error::{Result, StageError};
use crate::tree::{Tree, TreeEntry};

/// The sealed modification time, one second after 1970: no file is written at that time.
const SEALED_AT: Duration = Duration::from_secs(1);
const READ_ONLY: u32 = 0o444;
/// The interval at which a waiting process retries a lock.
const POLL: Duration = Duration::from_millis(20);

const FILES: &str = "files";
const LIST: &str = "list";
const PARTIAL: &str = ".partial";
const LOCK: &str = ".lock";

/// The directory of derived files; without one, every stage creates its own.
#[derive(Debug, Clone, Default)]
pub struct Derived {
    folder: Option<PathBuf>,
}

/// One set of derived files, or the remains of one after a kill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DerivedEntry {
    /// The name of the entry: `<tree>.<name>`.
    pub name: String,
    /// The total size of its files, in bytes.
    pub bytes: u64,
}

impl Derived {
    /// Keeps derived files in this directory, which is created when it is needed.
    pub fn in_folder(folder: PathBuf) -> Self {
        Self { folder: Some(folder) }
    }

    /// Fills `destination`, a new directory on the same file system, with the derived files `name` of the tree `of`, as links to existing
    /// files, or else with files that `make` writes to its argument, a directory. The files are read-only.
    ///
    /// # Errors
    /// Returns an error of `make`, [`StageError::Interrupted`] if `cancel` was set, or an error if the files cannot be written.
    pub fn provide(
        &self,
        of: Digest,
        name: &str,
        destination: &Path,
        cancel: &Cancel,
        make: impl Fn(&Path) -> Result<()>,
    ) -> Result<()> {
        let alone = || {
            fs::create_dir_all(destination)?;
            make(destination)?;
            seal(destination, destination, &mut Vec::new()).map_err(StageError::from)
        };
        let Some(folder) = &self.folder else { return alone() };
        let entry = Entry { folder, name: format!("{of}.{name}") };
        if entry.link(destination)? {
            return Ok(());
        }
        // If the directory cannot be written, the files are created in the stage's own directory.
        let Some(_lock) = entry.lock(cancel)? else { return alone() };
        // Another process may have created it meanwhile.
        if entry.link(destination)? {
            return Ok(());
        }
        let partial = match entry.start() {
            Err(error) if is_refusal(&error) => return alone(),
            started => started?,
        };
        make(&partial.join(FILES)).inspect_err(|_| drop(entry.clear()))?;
        match entry.publish(&partial) {
            Ok(()) if entry.link(destination)? => Ok(()),
            // It was modified or removed since.
            Ok(()) => alone(),
            Err(error) => {
                // A full disk must not hold a second copy.
                drop(entry.clear());
                if is_refusal(&error) { alone() } else { Err(error.into()) }
            }
        }
    }

    /// Returns whether there are derived files of this tree.
    pub fn has(&self, of: Digest) -> bool {
        let entries = self.folder.iter().flat_map(fs::read_dir).flatten().flatten();
        let prefix = format!("{of}.");
        entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .any(|name| name.starts_with(&prefix) && !name.ends_with(PARTIAL) && !name.ends_with(LOCK))
    }

    /// Returns all entries, by name.
    pub fn entries(&self) -> Vec<DerivedEntry> {
        let mut entries: Vec<DerivedEntry> = Vec::new();
        let Some(folder) = &self.folder else { return entries };
        let names = fs::read_dir(folder).into_iter().flatten().flatten();
        let mut names: Vec<_> = names.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        for file in names {
            let bytes = size_of(&folder.join(&file));
            let name = file.strip_suffix(PARTIAL).or_else(|| file.strip_suffix(LOCK)).unwrap_or(&file);
            match entries.last_mut().filter(|last| last.name == name) {
                Some(last) => last.bytes += bytes,
                None => entries.push(DerivedEntry { name: name.to_owned(), bytes }),
            }
        }
        entries
    }

    /// Hashes the files of an entry. Returns those that are missing or differ from its list, each with the digest that it has; `None` if
    /// `piece`, which is called with the number of bytes of each piece that was read, stopped the work by returning false.
    ///
    /// # Errors
    /// Returns an error if an existing file cannot be read.
    pub fn damaged(
        &self,
        name: &str,
        mut piece: impl FnMut(u64) -> bool,
    ) -> io::Result<Option<Vec<(PathBuf, Option<Digest>)>>> {
        let mut damaged = Vec::new();
        let Some(folder) = &self.folder else { return Ok(Some(damaged)) };
        let entry = Entry { folder, name: name.to_owned() };
        // An entry that is being created, or whose list is damaged, is never used.
        for file in entry.list().iter().flat_map(Tree::entries) {
            let path = file.path.below(&entry.path().join(FILES));
            match Digest::of_file_in_pieces(&path, &mut piece) {
                Ok(None) => return Ok(None),
                Ok(Some(digest)) if digest == file.digest => {}
                Ok(Some(digest)) => damaged.push((path, Some(digest))),
                // It may be removed meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound && entry.list().is_none() => break,
                Err(error) if error.kind() == io::ErrorKind::NotFound => damaged.push((path, None)),
                Err(error) => return Err(error),
            }
        }
        Ok(Some(damaged))
    }

    /// Removes an entry, unless it is being created now. Returns whether it was removed.
    ///
    /// # Errors
    /// Returns an error if one of its files cannot be removed.
    pub fn remove(&self, name: &str) -> io::Result<bool> {
        let Some(folder) = &self.folder else { return Ok(true) };
        let entry = Entry { folder, name: name.to_owned() };
        let Ok(lock) = entry.open_lock() else { return Ok(false) };
        // Another process may have removed it meanwhile, and a stage may be creating it again under a new lock.
        if !entry.take(&lock).is_ok_and(|is_taken| is_taken) {
            return Ok(false);
        }
        entry.clear()?;
        // Removed while the lock is held: a process that opened the file before checks whether it still has its name.
        ignore_missing(fs::remove_file(entry.beside(LOCK)))?;
        drop(lock);
        Ok(true)
    }
}

/// One set of derived files.
struct Entry<'f> {
    folder: &'f Path,
    name: String,
}

impl Entry<'_> {
    fn path(&self) -> PathBuf {
        self.folder.join(&self.name)
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        self.folder.join(format!("{}{suffix}", self.name))
    }

    fn list(&self) -> Option<Tree> {
        Tree::decode(&fs::read_to_string(self.path().join(LIST)).ok()?).ok()
    }

    /// Fills `destination` with links to the files. Returns false, and leaves it empty, if a file is missing or was modified.
    fn link(&self, destination: &Path) -> Result<bool> {
        let Some(list) = self.list() else { return Ok(false) };
        let linked = fs::create_dir_all(destination).and_then(|()| {
            let files = self.path().join(FILES);
            list.entries().iter().try_for_each(|file| link(file, &files, destination))
        });
        match linked {
            Ok(()) => Ok(true),
            Err(error) => {
                ignore_missing(fs::remove_dir_all(destination))?;
                // Removed, written to or replaced.
                let gone = matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData);
                if gone { Ok(false) } else { Err(error.into()) }
            }
        }
    }

    /// Waits for the lock; `None` if it cannot be created.
    fn lock(&self, cancel: &Cancel) -> Result<Option<File>> {
        loop {
            cancel.check()?;
            let Ok(lock) = self.open_lock() else { return Ok(None) };
            match self.take(&lock) {
                Ok(true) => return Ok(Some(lock)),
                Ok(false) => {}
                Err(TryLockError::WouldBlock) => std::thread::sleep(POLL),
                Err(TryLockError::Error(_)) => return Ok(None),
            }
        }
    }

    fn open_lock(&self) -> io::Result<File> {
        fs::create_dir_all(self.folder)?;
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(self.beside(LOCK))
    }

    /// Takes the lock of this file without waiting. Returns false if the name now belongs to another file: then the lock has no effect.
    fn take(&self, lock: &File) -> Result<bool, TryLockError> {
        lock.try_lock()?;
        let place = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        let named = fs::symlink_metadata(self.beside(LOCK)).map(place).ok();
        Ok(named.is_some() && lock.metadata().map(place).ok() == named)
    }

    /// Removes the copy, its list first, so that a partly removed copy is not used.
    fn clear(&self) -> io::Result<()> {
        for folder in [self.path(), self.beside(PARTIAL)] {
            let is_folder = folder.symlink_metadata().is_ok_and(|found| found.is_dir());
            if is_folder {
                ignore_missing(fs::remove_file(folder.join(LIST)))?;
            }
            ignore_missing(if is_folder { fs::remove_dir_all(&folder) } else { fs::remove_file(&folder) })?;
        }
        Ok(())
    }

    /// Creates an empty partial directory.
    fn start(&self) -> io::Result<PathBuf> {
        let partial = self.beside(PARTIAL);
        self.clear()?;
        fs::create_dir_all(partial.join(FILES))?;
        Ok(partial)
    }

    /// Seals and lists the files of the partial directory, and renames it to its final name.
    fn publish(&self, partial: &Path) -> io::Result<()> {
        let mut entries = Vec::new();
        seal(&partial.join(FILES), &partial.join(FILES), &mut entries)?;
        let list = Tree::new(entries).map_err(io::Error::other)?;
        fs::write(partial.join(LIST), list.encode())?;
        File::open(partial.join(LIST))?.sync_all()?;
        fs::rename(partial, self.path())
    }
}

/// Links one file of an entry, or copies it if it cannot be linked.
fn link(file: &TreeEntry, files: &Path, destination: &Path) -> io::Result<()> {
    let (source, target) = (file.path.below(files), file.path.below(destination));
    let found = fs::symlink_metadata(&source)?;
    let sealed = found.is_file() && found.len() == file.size && found.mode() & 0o7777 == READ_ONLY;
    if !sealed || found.modified()? != SystemTime::UNIX_EPOCH + SEALED_AT {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it was modified"));
    }
    target.parent().map_or(Ok(()), fs::create_dir_all)?;
    match fs::hard_link(&source, &target) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => fs::copy(&source, &target).map(drop),
        linked => linked,
    }
}

/// Makes every file below a directory read-only and durable, with the sealed time. Returns the files.
fn seal(root: &Path, folder: &Path, entries: &mut Vec<TreeEntry>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.symlink_metadata()?.is_dir() {
            seal(root, &path, entries)?;
            continue;
        }
        let relative = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
        let file = File::open(&path)?;
        file.set_permissions(Permissions::from_mode(READ_ONLY))?;
        file.set_times(FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + SEALED_AT))?;
        file.sync_all()?;
        entries.push(TreeEntry {
            path: relative.parse().map_err(io::Error::other)?,
            digest: Digest::of_file(&path)?,
            size: file.metadata()?.len(),
        });
    }
    Ok(())
}

/// Returns whether the file system or its permissions prevent writing to the directory.
fn is_refusal(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Returns the size in bytes of a file, or of all files below a directory; unreadable files count as 0.
fn size_of(path: &Path) -> u64 {
    match path.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => {
            fs::read_dir(path).into_iter().flatten().flatten().map(|entry| size_of(&entry.path())).sum()
        }
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    /// A directory of derived files, and the number of times that they were created.
    struct Fixture {
        folder: tempfile::TempDir,
        derived: Derived,
        made: AtomicUsize,
    }

    const NAME: &str = "letters-1";

    impl Fixture {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let derived = Derived::in_folder(folder.path().join("derived"));
            Self { folder, derived, made: AtomicUsize::new(0) }
        }

        /// Returns the files that a stage receives in a directory of this name.
        fn provided(&self, destination: &str) -> String {
            let destination = self.folder.path().join(destination);
            let make = |folder: &Path| {
                self.made.fetch_add(1, Ordering::Relaxed);
                fs::create_dir_all(folder.join("deep"))?;
                fs::write(folder.join("deep/b"), "b")?;
                Ok(fs::write(folder.join("a"), "a")?)
            };
            let of = Digest::of(b"input");
            self.derived.provide(of, NAME, &destination, &Cancel::default(), make).unwrap();
            let read = |name| fs::read_to_string(destination.join(name)).unwrap();
            assert!(destination.join("a").metadata().unwrap().permissions().readonly());
            read("a") + &read("deep/b")
        }

        fn made(&self) -> usize {
            self.made.load(Ordering::Relaxed)
        }

        fn entry(&self) -> String {
            format!("{}.{NAME}", Digest::of(b"input"))
        }

        fn file(&self) -> PathBuf {
            self.folder.path().join("derived").join(self.entry()).join("files/a")
        }
    }

    #[test]
    fn files_are_made_once_and_shared() {
        let fixture = Fixture::new();
        assert_eq!((fixture.provided("one"), fixture.provided("two")), ("ab".to_owned(), "ab".to_owned()));
        assert_eq!(fixture.made(), 1);
        let inode = |name| fixture.folder.path().join(name).metadata().unwrap().ino();
        assert_eq!(inode("one/a"), inode("two/a"));
        let entries = fixture.derived.entries();
        assert_eq!((entries.len(), &entries[0].name), (1, &fixture.entry()));
        assert_eq!(fixture.derived.damaged(&fixture.entry(), |_| true).unwrap(), Some(Vec::new()));
    }

    #[test]
    fn those_who_want_them_at_the_same_time_wait_for_one_of_them() {
        let fixture = Fixture::new();
        let names: Vec<_> = (0..8).map(|number| format!("stage-{number}")).collect();
        thread::scope(|scope| {
            names.iter().for_each(|name| drop(scope.spawn(|| assert_eq!(fixture.provided(name), "ab"))));
        });
        assert_eq!(fixture.made(), 1);
    }

    #[test]
    fn files_that_were_written_to_or_replaced_are_made_again() {
        let fixture = Fixture::new();
        fixture.provided("one");
        let write = || {
            fs::set_permissions(fixture.file(), Permissions::from_mode(0o644)).unwrap();
            fs::write(fixture.file(), "x").unwrap();
        };
        let spoils: [&dyn Fn(); 4] = [
            &write,
            &|| fs::remove_file(fixture.file()).unwrap(),
            &|| fs::remove_dir_all(fixture.folder.path().join("derived")).unwrap(),
            &|| fs::write(fixture.folder.path().join("derived").join(fixture.entry()).join("list"), "x").unwrap(),
        ];
        for (number, spoil) in spoils.iter().enumerate() {
            spoil();
            assert_eq!(fixture.provided(&format!("again-{number}")), "ab");
            assert_eq!(fixture.made(), number + 2);
        }
        write();
        fs::set_permissions(fixture.file(), Permissions::from_mode(READ_ONLY)).unwrap();
        let damaged = fixture.derived.damaged(&fixture.entry(), |_| true).unwrap();
        assert_eq!(damaged, Some(vec![(fixture.file(), Some(Digest::of(b"x")))]));
    }

    #[test]
    fn what_a_kill_left_is_removed() {
        let fixture = Fixture::new();
        let partial = fixture.folder.path().join("derived").join(fixture.entry() + PARTIAL);
        fs::create_dir_all(partial.join("files")).unwrap();
        fs::write(partial.join("files/old"), "old").unwrap();
        assert_eq!(fixture.derived.entries()[0].bytes, 3);
        assert_eq!(fixture.provided("one"), "ab");
        assert!(!partial.exists() && !fixture.folder.path().join("one/old").exists());
    }

    #[test]
    fn an_entry_can_be_removed_while_a_stage_uses_it_and_not_while_it_is_made() {
        let fixture = Fixture::new();
        fixture.provided("one");
        assert!(fixture.derived.remove(&fixture.entry()).unwrap());
        assert_eq!(fixture.derived.entries(), []);
        assert_eq!(fs::read_to_string(fixture.folder.path().join("one/a")).unwrap(), "a");
        let make = |folder: &Path| {
            assert!(!fixture.derived.remove(&fixture.entry()).unwrap());
            Ok(fs::write(folder.join("a"), "a")?)
        };
        let destination = fixture.folder.path().join("two");
        fixture.derived.provide(Digest::of(b"input"), NAME, &destination, &Cancel::default(), make).unwrap();
    }

    #[test]
    fn the_lock_of_a_file_that_lost_its_name_is_not_the_lock_of_the_entry() {
        let fixture = Fixture::new();
        let folder = fixture.folder.path().join("derived");
        let entry = Entry { folder: &folder, name: fixture.entry() };
        let lost = entry.open_lock().unwrap();
        assert!(fixture.derived.remove(&fixture.entry()).unwrap());
        let held = entry.open_lock().unwrap();
        assert!(entry.take(&held).unwrap());
        assert!(!entry.take(&lost).unwrap(), "a stage holds the new one");
    }

    #[test]
    fn files_that_cannot_be_listed_are_made_once_and_the_error_is_told() {
        let fixture = Fixture::new();
        let make = |folder: &Path| {
            fixture.made.fetch_add(1, Ordering::Relaxed);
            Ok(fs::write(folder.join("a\nb"), "")?)
        };
        let destination = fixture.folder.path().join("one");
        let of = Digest::of(b"input");
        fixture.derived.provide(of, NAME, &destination, &Cancel::default(), make).unwrap_err();
        assert_eq!(fixture.made(), 1);
        assert!(fixture.derived.entries().iter().all(|entry| entry.bytes == 0), "nothing half made is left");
    }

    #[test]
    fn where_nothing_can_be_kept_a_stage_has_its_own() {
        let mut fixture = Fixture::new();
        // A file in the place of the directory.
        fs::write(fixture.folder.path().join("derived"), "").unwrap();
        assert_eq!(fixture.provided("one"), "ab");
        fixture.derived = Derived::default();
        assert_eq!(fixture.provided("two"), "ab");
        assert_eq!(fixture.made(), 2);
    }

    #[test]
    fn a_failure_or_a_request_to_stop_leaves_nothing_that_is_used() {
        let fixture = Fixture::new();
        let destination = fixture.folder.path().join("one");
        let provide = |cancel: &Cancel| {
            let make = |folder: &Path| {
                fs::write(folder.join("half"), "")?;
                Err(StageError::new("the disk is full"))
            };
            fixture.derived.provide(Digest::of(b"input"), NAME, &destination, cancel, make)
        };
        assert_eq!(provide(&Cancel::default()).unwrap_err().to_string(), "the disk is full");
        let cancel = Cancel::default();
        cancel.set();
        assert!(matches!(provide(&cancel), Err(StageError::Interrupted)));
        assert_eq!(fixture.provided("one"), "ab");
    }
}
