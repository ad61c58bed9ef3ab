//! What Ctrl-C and termination signals do. One handler a program: a command chooses one of the two.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use contract::Cancel;

use super::CommandError;
use crate::exit::Exit;
use crate::say::say;

/// The first Ctrl-C or termination signal asks the stages to stop; the second ends the program at once.
pub(super) fn stop_on_signals() -> Result<Cancel, CommandError> {
    let cancel = Cancel::default();
    let (flag, second) = (cancel.clone(), AtomicBool::new(false));
    ctrlc::set_handler(move || {
        if second.swap(true, Ordering::Relaxed) {
            command::process::kill_all();
            process::exit(Exit::Interrupted.code().into());
        }
        say!("stopping; press Ctrl-C again to stop at once (the store stays whole either way)");
        flag.set();
    })
    .map_err(cannot_listen)?;
    Ok(cancel)
}

/// A temporary folder that is removed when it is dropped, and when a signal ends the program.
pub(super) struct Temporary<F: AsRef<Path>> {
    folder: Option<F>,
    shared: Arc<Shared>,
}

/// What the handler knows of it.
#[derive(Default)]
struct Shared {
    /// The folder, from when it is made until it is removed.
    path: Mutex<Option<PathBuf>>,
    /// Whether the main thread is through with it, and writes nothing more there.
    is_left: AtomicBool,
}

/// How long the main thread may take to find out that it cannot write any more.
const PATIENCE: Duration = Duration::from_millis(200);

/// For commands that only read: a signal ends the program at once, and takes away the temporary folder that `make` makes.
pub(super) fn end_on_signals<F: AsRef<Path>>(
    make: impl FnOnce() -> Result<F, CommandError>,
) -> Result<Temporary<F>, CommandError> {
    let shared: Arc<Shared> = Arc::default();
    let of_handler = shared.clone();
    ctrlc::set_handler(move || {
        // It is held to the end: the folder is made and removed before this, or never.
        let folder = of_handler.path.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(folder) = &*folder {
            take_away(folder, &of_handler.is_left);
        }
        process::exit(Exit::Interrupted.code().into());
    })
    .map_err(cannot_listen)?;
    let mut path = shared.path.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = make()?;
    *path = Some(folder.as_ref().to_owned());
    drop(path);
    Ok(Temporary { folder: Some(folder), shared })
}

impl<F: AsRef<Path>> Temporary<F> {
    /// Does some work, before a signal or after it.
    pub(super) fn undisturbed<T>(&self, work: impl FnOnce(&F) -> T) -> T {
        let _path = self.shared.path.lock().unwrap_or_else(PoisonError::into_inner);
        work(self.get())
    }

    /// What was made.
    pub(super) fn get(&self) -> &F {
        self.folder.as_ref().unwrap_or_else(|| unreachable!("it is there until it is dropped"))
    }
}

impl<F: AsRef<Path>> Drop for Temporary<F> {
    fn drop(&mut self) {
        // Where a signal came first, this waits until that has ended the program.
        self.shared.is_left.store(true, Ordering::Relaxed);
        let mut path = self.shared.path.lock().unwrap_or_else(PoisonError::into_inner);
        *path = None;
        self.folder = None;
    }
}

/// Removes a folder in which the main thread is writing. That one would make it again, as long as the program takes to end: a
/// file takes its place, so that the main thread fails and leaves it.
fn take_away(folder: &Path, is_left: &AtomicBool) {
    let gone = folder.with_extension("gone");
    loop {
        let _ = fs::rename(folder, &gone);
        // A file may be made in the middle of it.
        while fs::remove_dir_all(&gone).is_err_and(|error| error.kind() == ErrorKind::DirectoryNotEmpty) {}
        match File::create_new(folder) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(_) => return,
            Ok(_) => break,
        }
    }
    let since = Instant::now();
    while !is_left.load(Ordering::Relaxed) && since.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(1));
    }
    let _ = fs::remove_file(folder);
}

fn cannot_listen(error: ctrlc::Error) -> CommandError {
    CommandError::Failed { message: format!("cannot listen for Ctrl-C: {error}"), hint: None }
}
