//! The prompt of the command line, a file or standard input.

use std::fs;
use std::io::{self, IsTerminal, Read};

use super::arguments::GenerateArguments;
use crate::commands::CommandError;

/// The maximum size of a prompt, in bytes.
const MAX_PROMPT: u64 = 16 << 20;

/// Returns whether to read prompts interactively: no prompt is given, and standard input is a terminal.
pub(super) fn is_asked_for(arguments: &GenerateArguments) -> bool {
    arguments.prompt.is_none() && arguments.file.is_none() && !arguments.json && io::stdin().is_terminal()
}

/// Returns the prompt of the command line, a file or standard input.
pub(super) fn read(arguments: &GenerateArguments) -> Result<String, CommandError> {
    match (&arguments.prompt, &arguments.file) {
        (Some(prompt), _) => Ok(prompt.clone()),
        (None, Some(path)) => {
            let name = format!("'{}'", path.display());
            let mut file = fs::File::open(path).map_err(CommandError::io(format!("open {name}")))?;
            read_text(&name, &mut file)
        }
        (None, None) => read_text("standard input", &mut io::stdin().lock()),
    }
}

fn read_text(name: &str, source: &mut dyn Read) -> Result<String, CommandError> {
    let mut bytes = Vec::new();
    let read = source.take(MAX_PROMPT + 1).read_to_end(&mut bytes);
    read.map_err(CommandError::io(format!("read the prompt from {name}")))?;
    if bytes.len() as u64 > MAX_PROMPT {
        return Err(CommandError::usage(format!("the prompt in {name} has more than {MAX_PROMPT} bytes")));
    }
    text(bytes).map_err(|place| {
        let error = CommandError::usage(format!("the prompt in {name} is not valid UTF-8: byte {place}"));
        error.hint("convert it to UTF-8; is it a text file?")
    })
}

/// Returns bytes as text, or the position of the first byte that is not UTF-8, counted from 1.
pub(super) fn text(bytes: Vec<u8>) -> Result<String, usize> {
    String::from_utf8(bytes).map_err(|error| error.utf8_error().valid_up_to() + 1)
}
