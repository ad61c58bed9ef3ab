//! `pipeline generate`: completes prompts with a model.
//!
//! | module | contents |
//! |---|---|
//! | `arguments` | the arguments |
//! | `source` | the model of a directory, a manifest or a run |
//! | `prompt` | the prompt of the command line, a file or standard input |
//! | `session` | a loaded model with the settings of the command line |
//! | `interactive` | prompts that are typed at a terminal |

mod arguments;
mod interactive;
mod prompt;
mod session;
mod source;

use serde_json::json;

pub use self::arguments::GenerateArguments;
use self::session::Session;
use super::CommandError;
use super::signals::stop_on_signals;
use super::stdout::{print_json, stdout};
use crate::exit::Exit;

pub(super) fn run(arguments: &GenerateArguments) -> Result<Exit, CommandError> {
    if prompt::is_asked_for(arguments) {
        return interactive::run(arguments);
    }
    let cancel = stop_on_signals()?;
    let prompt = prompt::read(arguments)?;
    let session = Session::open(arguments, arguments.completions(false))?;
    let texts = match arguments.json || session.completions > 1 {
        true => session.complete(&prompt, &cancel)?,
        false => {
            let mut out = stdout();
            let completed = session.print(&prompt, &prompt, &mut out, &cancel)?;
            return Ok(if completed.is_some() { Exit::Done } else { Exit::Interrupted });
        }
    };
    let Some(texts) = texts else { return Ok(Exit::Interrupted) };
    if arguments.json {
        return Ok(print_json(&json!({ "prompt": prompt, "completions": texts }))?);
    }
    session::print_all(&prompt, &texts, &mut stdout())?;
    Ok(Exit::Done)
}
