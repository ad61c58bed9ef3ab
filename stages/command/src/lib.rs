//! The stage kind `command`, which runs any program over declared inputs and outputs.
//!
//! ```toml
//! [stages.comments]
//! kind      = "command"
//! inputs    = { documents = "licensed", words = "wordlist" }
//! program   = "python3"
//! arguments = ["{source:comments.py}", "{input:documents}", "{output:report}/comments.json"]
//! outputs   = { report = "report" }
//! files     = ["scripts/comments.py"]
//! ```
//!
//! # The environment of the program
//!
//! | | |
//! |---|---|
//! | working directory | a separate directory, empty except for `in` and `out` |
//! | `in/PORT/…` | an input's files, as symbolic links to read-only files of the store |
//! | `in/PORT/*.parquet` | for a table of documents or rows, whatever the type of its port: its rows with all columns, including `content`, as read-only plain Parquet files that are shared by all stages ([`contract::derived`]). A tree is recognised as a table by its files ([`tables::is_table`]) |
//! | `out/PORT/` | an empty directory for each output; the regular files that it contains at the end are the output, which must be valid for its declared type ([`output`]) |
//! | arguments | as declared, with [placeholders](placeholder) replaced; no shell parses them |
//! | environment | `environment`, and the variables that `pass` lists; nothing else |
//! | standard input | empty |
//! | standard output and error | the file `log` in the stage's scratch directory; its last lines are in the error message |
//! | process group | its own; processes that are left in it are killed when the program exits |
//!
//! `{input:…}` and `{output:…}` are relative paths, so that the arguments are the same on every machine.
//!
//! # The key
//!
//! | in the key | not in the key |
//! |---|---|
//! | `program` and `arguments`, as text with placeholders | the program's own file, unless `files` lists it |
//! | `sandbox`, if it is on | `readable` |
//! | `environment`, names and values | the values of the variables that `pass` lists |
//! | `outputs`: names and types | `timeout_seconds` |
//! | the contents of `files`, and their names as in the manifest | the base directory of relative names |
//! | the contents of the inputs | the time, the host, the network, and everything else that the program reads: with `sandbox`, only the clock, the system's programs and `readable` are accessible |
//!
//! # Rights of the program
//!
//! Without `sandbox`, the program is trusted code with the rights of the user. It can read any file, and if it runs
//! as root, it can write through the links into the store: a changed input fails the stage with an error that names the file. Its output is the
//! same for the same key only if the program is deterministic and reads nothing else. If the pipeline itself
//! is killed with SIGKILL, the program is killed too on Linux; processes that it started continue, but in a directory that the next
//! run has removed.
//!
//! With `sandbox = true`, it can access only declared files ([`confined`]), and all processes that it started end with it. If the pipeline
//! runs as root, the program runs as the user `nobody`, who owns the working directory during the run.
//!
//! Executable permissions are not preserved.
//!
//! | module | contents |
//! |---|---|
//! | [`stage`] | `Command`, the stage kind |
//! | [`placeholder`] | placeholders such as `{input:PORT}` |
//! | [`workspace`] | the working directory: links the inputs, collects the outputs |
//! | [`output`] | checks an output for its declared type |
//! | [`confined`] | the sandbox of a program, and the files that it looked for outside |
//! | [`process`] | runs a program in its own process group |
//! | [`log`] | the last lines of its output |

pub mod confined;
pub mod leftover;
pub mod log;
pub mod output;
pub mod placeholder;
pub mod process;
pub mod stage;
pub mod workspace;

pub use stage::Command;
