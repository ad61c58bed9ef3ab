//! Ctrl-C and termination signals. A program has one handler: a command installs one of these two.

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
use crate::stderr::stderr;

/// Stops the stages on the first Ctrl-C or termination signal, and ends the program on the second.
pub(super) fn stop_on_signals() -> Result<Cancel, CommandError> {
    let cancel = Cancel::default();
    let (flag, second) = (cancel.clone(), AtomicBool::new(false));
    ctrlc::set_handler(move || {
        if second.swap(true, Ordering::Relaxed) {
            command::process::kill_all();
            process::exit(Exit::Interrupted.code().into());
        }
        stderr!("stopping; press Ctrl-C again to stop at once (the store stays consistent either way)");
        flag.set();
    })
    .map_err(cannot_listen)?;
    Ok(cancel)
}

/// A temporary directory that is removed on drop, and when a signal ends the program.
pub(super) struct Temporary<D: AsRef<Path>> {
    dir: Option<D>,
    shared: Arc<Shared>,
}

/// The state shared by the handler and the main thread.
#[derive(Default)]
struct Shared {
    /// The directory, while it exists.
    path: Mutex<Option<PathBuf>>,
    /// Whether the main thread has stopped writing to the directory.
    is_released: AtomicBool,
}

/// How long the handler waits for the main thread's next write to fail.
const PATIENCE: Duration = Duration::from_millis(200);

/// Ends the program on the first signal, for commands that only read, and removes the temporary directory that `create` creates.
pub(super) fn end_on_signals<D: AsRef<Path>>(
    create: impl FnOnce() -> Result<D, CommandError>,
) -> Result<Temporary<D>, CommandError> {
    let shared: Arc<Shared> = Arc::default();
    let of_handler = shared.clone();
    ctrlc::set_handler(move || {
        // Held until the program ends: the main thread created or removed the directory before this point, or never does.
        let path = of_handler.path.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(path) = &*path {
            remove_in_use(path, &of_handler.is_released);
        }
        process::exit(Exit::Interrupted.code().into());
    })
    .map_err(cannot_listen)?;
    let mut path = shared.path.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = create()?;
    *path = Some(dir.as_ref().to_owned());
    drop(path);
    Ok(Temporary { dir: Some(dir), shared })
}

impl<D: AsRef<Path>> Temporary<D> {
    /// Calls `work` without interruption: a signal is handled before or after it.
    pub(super) fn undisturbed<T>(&self, work: impl FnOnce(&D) -> T) -> T {
        let _path = self.shared.path.lock().unwrap_or_else(PoisonError::into_inner);
        work(self.get())
    }

    /// Returns the directory.
    pub(super) fn get(&self) -> &D {
        self.dir.as_ref().unwrap_or_else(|| unreachable!("it is `None` only in `drop`"))
    }
}

impl<D: AsRef<Path>> Drop for Temporary<D> {
    fn drop(&mut self) {
        // If a signal came first, the lock waits until the handler has ended the program.
        self.shared.is_released.store(true, Ordering::Relaxed);
        let mut path = self.shared.path.lock().unwrap_or_else(PoisonError::into_inner);
        *path = None;
        self.dir = None;
    }
}

/// Removes a directory in which the main thread is still writing, and which it might create again before the program ends. A file takes the
/// place of the directory until the main thread's next write has failed.
fn remove_in_use(dir: &Path, is_released: &AtomicBool) {
    let gone = dir.with_extension("gone");
    loop {
        let _ = fs::rename(dir, &gone);
        // The main thread may create a file in it meanwhile.
        while fs::remove_dir_all(&gone).is_err_and(|error| error.kind() == ErrorKind::DirectoryNotEmpty) {}
        match File::create_new(dir) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(_) => return,
            Ok(_) => break,
        }
    }
    let since = Instant::now();
    while !is_released.load(Ordering::Relaxed) && since.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(1));
    }
    let _ = fs::remove_file(dir);
}

fn cannot_listen(error: ctrlc::Error) -> CommandError {
    CommandError::failed(format!("cannot listen for Ctrl-C: {error}"))
}
