//! Leases: what a running process reads or has just built, so that nothing of it is removed meanwhile.
//!
//! A lease is a file in `leases/` that its process holds a lock of the operating system on, so that it ends with the
//! process. Its first line says who that is; each further line is the digest of a tree in use. The gate, a lock on
//! `leases/.gate`, orders leases and removals: whoever finds an output and leases it does both under a shared gate,
//! whoever removes things reads the leases and removes under an exclusive one. So an output is either leased before it
//! is looked at for removal, or gone before it is looked up.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use contract::Digest;

use super::error::{Result, StoreError};
use super::lock::HolderInfo;
use super::names::names;
use super::{Store, failpoint, text, write};
use crate::clock;

const FOLDER: &str = "leases";
const GATE: &str = ".gate";
/// How often somebody who waits for the gate looks again.
pub(super) const POLL: Duration = Duration::from_millis(20);

/// What one process uses, until it is dropped or the process ends.
#[derive(Debug)]
pub struct Lease {
    path: PathBuf,
    file: Mutex<File>,
}

/// The right to find and lease, or, held exclusively, to remove. It ends when it is dropped.
#[derive(Debug)]
pub struct Gate {
    /// `None` in a store that is open for reading only and in which nothing was ever removed or run.
    _file: Option<File>,
}

/// A lease of a process that is alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseInfo {
    /// Whose it is: `stage` is the run, as `quickstart.3`.
    pub holder: HolderInfo,
    /// The trees in use.
    pub trees: BTreeSet<Digest>,
}

impl LeaseInfo {
    /// As whom it keeps trees: `quickstart.3 (running)`.
    pub fn holder_name(&self) -> String {
        format!("{} (running)", self.holder.stage)
    }

    /// The name of the run, and which of that name; a reproduction has no number.
    pub fn run(&self) -> (&str, Option<u32>) {
        let reference = &self.holder.stage;
        let parts = reference.rsplit_once('.').and_then(|(name, number)| Some((name, number.parse().ok()?)));
        parts.map_or((reference, None), |(name, number)| (name, Some(number)))
    }
}

impl Lease {
    /// Adds trees. To be called under the gate ([`Store::gate`]) under which they were found.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn hold<'d>(&self, trees: impl IntoIterator<Item = &'d Digest>) -> Result<()> {
        let text = trees.into_iter().fold(String::new(), |text, tree| text + &format!("{tree}\n"));
        // On a line of its own, even where the disk was full in the middle of the one before.
        let text = format!("\n{text}");
        failpoint::pass("lease-before-append");
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(text.as_bytes()).map_err(StoreError::io("write", &self.path))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Without its process a lease means nothing; removing it is tidiness.
        let _ = fs::remove_file(&self.path);
    }
}

impl Store {
    /// A lease of this process for a run (`quickstart.3`; a reproduction says so in words), with nothing in it yet.
    ///
    /// # Errors
    /// When it cannot be written or the file system has no locks.
    pub fn lease(&self, run: &str) -> Result<Lease> {
        // Whoever removes things saw all leases there were.
        let gate = self.gate_to_write()?;
        self.lease_under(&gate, run)
    }

    /// The same under a gate that is held already.
    pub(super) fn lease_under(&self, _gate: &Gate, run: &str) -> Result<Lease> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let folder = self.layout().folder(FOLDER);
        write::make_folder(&folder)?;
        let holder = HolderInfo::this(run);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let host = holder.host.as_deref().unwrap_or("");
        let host: String = host.chars().filter(char::is_ascii_alphanumeric).take(32).collect();
        // Two containers may share process numbers and host names, and hardly the moment.
        let moment = clock::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().subsec_nanos();
        let path = folder.join(format!("{}-{number}-{moment:09}-{host}", holder.pid));
        let open = || {
            // It is locked before it has its name: a lease that nobody locks is nobody's, at any moment.
            // Other users of the store read it.
            let permissions = Permissions::from_mode(0o644);
            let mut file =
                tempfile::Builder::new().permissions(permissions).tempfile_in(self.layout().folder("tmp"))?;
            file.as_file().lock()?;
            let text = serde_json::to_string(&holder).map_err(std::io::Error::other)?;
            file.write_all(format!("{text}\n").as_bytes())?;
            failpoint::pass("lease-before-name");
            Ok(file.persist(&path)?)
        };
        let file = open().map_err(StoreError::io("write", &path))?;
        Ok(Lease { path, file: Mutex::new(file) })
    }

    /// Waits until nothing is being removed, and keeps it so until the gate is dropped. A store that is open for reading only
    /// has no lease: what is found in it stays for as long as the gate is held.
    ///
    /// # Errors
    /// When the lock file cannot be opened or the file system has no locks; [`StoreError::Interrupted`] when the store was
    /// told to stop ([`Store::stopped_by`]) while it waited.
    pub fn gate(&self) -> Result<Gate> {
        let (file, path) = match self.is_writable() {
            true => self.gate_file()?,
            false => match self.gate_to_read() {
                Some(file) => (file, self.layout().gate()),
                None => return Ok(Gate { _file: None }),
            },
        };
        self.wait(file, &path, File::try_lock_shared)
    }

    /// The same for who is going to write.
    pub(super) fn gate_to_write(&self) -> Result<Gate> {
        self.writable()?;
        self.gate()
    }

    fn wait(&self, file: File, path: &Path, lock: impl Fn(&File) -> Result<(), TryLockError>) -> Result<Gate> {
        loop {
            match lock(&file) {
                Ok(()) => return Ok(Gate { _file: Some(file) }),
                Err(TryLockError::WouldBlock) if self.stop.is_set() => return Err(StoreError::Interrupted),
                Err(TryLockError::WouldBlock) => std::thread::sleep(POLL),
                Err(TryLockError::Error(error)) => return Err(StoreError::io("lock", path)(error)),
            }
        }
    }

    /// The gate, where nothing is being removed now.
    pub fn gate_at_once(&self) -> Option<Gate> {
        let file = match self.is_writable() {
            true => self.gate_file().ok()?.0,
            false => match self.gate_to_read() {
                Some(file) => file,
                None => return Some(Gate { _file: None }),
            },
        };
        file.try_lock_shared().ok()?;
        Some(Gate { _file: Some(file) })
    }

    /// The same for who reads outputs and writes nothing to the store; `None` where nothing was ever removed or run.
    pub fn reading(&self) -> Option<Gate> {
        let file = self.gate_to_read()?;
        file.lock_shared().ok()?;
        Some(Gate { _file: Some(file) })
    }

    fn gate_to_read(&self) -> Option<File> {
        text::options().read(true).open(self.layout().gate()).ok()
    }

    /// Waits until nobody finds or removes anything, and keeps it so until the gate is dropped. Ended as [`Store::gate`] is.
    pub(super) fn exclusive_gate(&self) -> Result<Gate> {
        let (file, path) = self.gate_file()?;
        self.wait(file, &path, File::try_lock)
    }

    /// The exclusive gate, where no process uses anything of the store now; it is not waited for.
    pub(super) fn gate_if_idle(&self) -> Option<Gate> {
        let (file, _) = self.gate_file().ok()?;
        file.try_lock().ok()?;
        let gate = Gate { _file: Some(file) };
        self.leases().ok()?.is_empty().then_some(gate)
    }

    fn gate_file(&self) -> Result<(File, PathBuf)> {
        self.writable()?;
        let path = self.layout().gate();
        let open = || text::options().read(true).write(true).create(true).truncate(false).open(&path);
        let file = match open() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                write::make_folder(&self.layout().folder(FOLDER))?;
                open()
            }
            Err(error) if error.kind() == std::io::ErrorKind::IsADirectory || text::is_link(&error) => {
                write::move_aside(&path, &self.layout().folder("damaged"))?;
                open()
            }
            opened => opened,
        };
        Ok((file.map_err(StoreError::io("lock", &path))?, path))
    }

    /// The leases of processes that are alive; where the store may be written, those of others are removed.
    ///
    /// # Errors
    /// When the folder of leases cannot be read.
    pub fn leases(&self) -> Result<Vec<LeaseInfo>> {
        let folder = self.layout().folder(FOLDER);
        let mut leases = Vec::new();
        for name in names(&folder)?.iter().filter(|name| *name != GATE) {
            leases.extend(self.alive(&folder.join(name))?);
        }
        Ok(leases)
    }

    fn alive(&self, path: &Path) -> Result<Option<LeaseInfo>> {
        let mut file = match text::options().read(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::io("read", path)(error)),
        };
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => {}
            Ok(()) => {
                if self.is_writable() {
                    // Gone already, or of another user: either way it means nothing.
                    let _ = fs::remove_file(path);
                }
                return Ok(None);
            }
            Err(TryLockError::Error(error)) => return Err(StoreError::io("lock", path)(error)),
        }
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(StoreError::io("read", path))?;
        let mut lines = text.lines();
        let holder = lines.next().and_then(|line| serde_json::from_str(line).ok());
        let trees = lines.filter_map(|line| line.parse().ok()).collect();
        Ok(holder.map(|holder| LeaseInfo { holder, trees }))
    }
}
