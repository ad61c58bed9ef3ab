//! The reasons that a stage has no output.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};

use contract::StageError;

use crate::store::StoreError;

/// The reason that a stage has no output.
#[derive(Debug)]
pub(super) enum Failure {
    /// The run was interrupted.
    Interrupted,
    /// The machine cannot run the stage, for this reason, and its settings request to skip it in that case.
    Skipped(String),
    /// The stage failed.
    Stage(contract::error::Failure),
    /// The store failed.
    Store(StoreError),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Interrupted => Self::Interrupted,
            error => Self::Store(error),
        }
    }
}

impl From<StageError> for Failure {
    fn from(error: StageError) -> Self {
        match error {
            StageError::Interrupted => Self::Interrupted,
            StageError::Skipped(reason) => Self::Skipped(reason),
            StageError::Failed(failure) => Self::Stage(*failure),
        }
    }
}

thread_local! {
    /// The location of this thread's last panic, while its panics are caught; `None` otherwise.
    static CAUGHT: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Returns whether a panic of this thread becomes the failure of a stage, and stores its location for the message. For the panic hook.
pub fn is_caught(panic: &PanicHookInfo<'_>) -> bool {
    let keep = |caught: &RefCell<Option<String>>| {
        let mut caught = caught.borrow_mut();
        let Some(location) = caught.as_mut() else { return false };
        *location = panic.location().map(|location| format!(" at {location}")).unwrap_or_default();
        true
    };
    // A thread that is ending no longer has this value.
    CAUGHT.try_with(keep).unwrap_or(false)
}

/// Calls `work` for a stage. A panic in it becomes a failure of the stage.
pub(super) fn catch_panic<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    let outer = CAUGHT.replace(Some(String::new()));
    let done = catch_unwind(AssertUnwindSafe(work));
    let location = CAUGHT.replace(outer).unwrap_or_default();
    done.unwrap_or_else(|panic| {
        let message = format!("internal error{location}: {}", panic_text(panic.as_ref()));
        Err(StageError::new(message).hint("this is a bug, please report it").into())
    })
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic without a message")
}

#[cfg(test)]
mod tests {
    use std::panic;

    use super::*;

    #[test]
    fn a_caught_panic_keeps_its_location() {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !is_caught(panic) {
                before(panic);
            }
        }));
        let Err(Failure::Stage(failure)) = catch_panic(|| -> Result<(), Failure> { panic!("a bug") }) else {
            panic!("not a failure of the stage");
        };
        let message = failure.message;
        assert!(
            message.starts_with("internal error at src/run/failure.rs:") && message.ends_with(": a bug"),
            "{message}"
        );
    }
}
