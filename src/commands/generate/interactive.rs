//! Prompts that are typed at a terminal.
//!
//! The model is loaded once. A prompt has any number of lines and ends with a line that contains only `.`, so that code with empty lines
//! can be pasted. Ctrl-C ends the completion, or discards the lines that were typed; while the model is being loaded it ends the program.
//! Ctrl-D ends the program. The completions go to standard output, everything else to standard error.
//!
//! A separate thread waits for Ctrl-C, which is blocked on all others: so it does not interrupt reads, and a termination
//! signal ends the program as usual.

use std::io::{self, BufRead, Write};
use std::process;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use contract::Cancel;
use nix::sys::signal::{SigSet, Signal};

use super::arguments::GenerateArguments;
use super::prompt;
use super::session::{Session, print_all};
use crate::commands::CommandError;
use crate::commands::stdout::stdout;
use crate::exit::Exit;
use crate::stderr::stderr;

/// The line that ends a prompt.
const END: &str = ".";
/// The marks shown before the first line of a prompt, and before its other lines.
const MARKS: [&str; 2] = [">>> ", "... "];

/// The activity that Ctrl-C interrupts.
#[derive(Debug)]
enum Activity {
    Loading,
    /// The user is typing lines; the value is whether Ctrl-C discarded the lines so far.
    Typing {
        discarded: bool,
    },
    Completing(Cancel),
}

/// The activity of the main thread, shared with the thread that waits for Ctrl-C.
#[derive(Debug, Clone)]
struct Interrupts(Arc<Mutex<Activity>>);

impl Interrupts {
    /// Starts the thread that waits for Ctrl-C. The caller must not have started other threads.
    fn listen() -> Result<Self, CommandError> {
        let cannot = |error: &dyn std::fmt::Display| CommandError::failed(format!("cannot listen for Ctrl-C: {error}"));
        let signals = SigSet::from(Signal::SIGINT);
        signals.thread_block().map_err(|error| cannot(&error))?;
        let interrupts = Self(Arc::new(Mutex::new(Activity::Loading)));
        let of_thread = interrupts.clone();
        let thread = std::thread::Builder::new().name("interrupts".to_owned());
        let started = thread.spawn(move || {
            while signals.wait().is_ok() {
                of_thread.interrupt();
            }
        });
        started.map_err(|error| cannot(&error))?;
        Ok(interrupts)
    }

    fn activity(&self) -> MutexGuard<'_, Activity> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn interrupt(&self) {
        match &mut *self.activity() {
            Activity::Loading => process::exit(Exit::Interrupted.code().into()),
            Activity::Typing { discarded } => {
                *discarded = true;
                mark(&format!("\n{}", MARKS[0]));
            }
            Activity::Completing(cancel) => cancel.set(),
        }
    }

    /// Returns whether Ctrl-C discarded the lines so far, and resets that state.
    fn was_discarded(&self) -> bool {
        match &mut *self.activity() {
            Activity::Typing { discarded } => std::mem::take(discarded),
            _ => false,
        }
    }
}

/// Completes the prompts that are typed, until Ctrl-D.
pub(super) fn run(arguments: &GenerateArguments) -> Result<Exit, CommandError> {
    let interrupts = Interrupts::listen()?;
    stderr!("loading {}", arguments.model);
    let session = Session::open(arguments, arguments.completions(true))?;
    stderr!(
        "Type a prompt of one or more lines; a line with only '{END}' completes it.\n\
         Ctrl-C ends a completion, Ctrl-D the program."
    );
    let mut lines = io::stdin().lock();
    loop {
        let Some(prompt) = typed(&mut lines, &interrupts)? else {
            stderr!("");
            return Ok(Exit::Done);
        };
        let cancel = Cancel::default();
        *interrupts.activity() = Activity::Completing(cancel.clone());
        match complete(&session, &prompt, &cancel) {
            // These errors concern one prompt; the next one may succeed.
            Err(error @ (CommandError::Usage { .. } | CommandError::Failed { .. })) => stderr!("{error}"),
            completed => completed?,
        }
    }
}

/// Prints the completions of a prompt.
fn complete(session: &Session<'_>, prompt: &str, cancel: &Cancel) -> Result<(), CommandError> {
    let mut out = stdout();
    let texts = match session.completions {
        1 => session.print(prompt, "", &mut out, cancel)?.map(|text| vec![text]),
        _ => session.complete(prompt, cancel)?,
    };
    let Some(texts) = texts else {
        stderr!("stopped");
        return Ok(());
    };
    match &texts[..] {
        [only] if only.blank => stderr!("note: the completion is blank: it ended by {}", only.ended),
        [_] => {}
        several => print_all("", several, &mut out)?,
    }
    Ok(())
}

/// Reads a prompt; `None` at the end of the input.
fn typed(input: &mut impl BufRead, interrupts: &Interrupts) -> Result<Option<String>, CommandError> {
    *interrupts.activity() = Activity::Typing { discarded: false };
    let mut lines: Vec<String> = Vec::new();
    loop {
        mark(MARKS[usize::from(!lines.is_empty())]);
        let mut line = Vec::new();
        let read = input.read_until(b'\n', &mut line).map_err(CommandError::io("read standard input"))?;
        if read == 0 {
            return Ok(None);
        }
        if interrupts.was_discarded() {
            lines.clear();
        }
        if line.ends_with(b"\n") {
            line.pop();
        }
        match prompt::text(line) {
            Ok(line) if line == END => return Ok(Some(lines.join("\n"))),
            Ok(line) => lines.push(line),
            Err(place) => {
                stderr!("error: the line is not valid UTF-8: byte {place}; type the prompt again");
                lines.clear();
            }
        }
    }
}

/// Prints a mark to standard error, without a newline. Failures are ignored, as for other messages.
fn mark(text: &str) {
    let mut err = io::stderr().lock();
    let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
}
