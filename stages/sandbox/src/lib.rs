//! Runs an untrusted Python program against tests, confined, without root rights and without a container service.
//!
//! ```no_run
//! use sandbox::{Limits, Program, Sandbox, Settings};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let sandbox = Sandbox::new(Settings::default())?;
//! let program = Program {
//!     candidate: "def add(a, b):\n    return a + b\n".into(),
//!     calls: vec!["add".into()],
//!     tests: "assert add(1, 2) == 3\n".into(),
//!     ..Program::default()
//! };
//! let verdict = sandbox.run(&program, &Limits::default())?;
//! assert!(verdict.passed());
//! # Ok(())
//! # }
//! ```
//!
//! [`Sandbox`] runs these programs; [`CommandSandbox`] runs a trusted command that can access only declared files.
//!
//! # Promises
//!
//! 1. A program passes only if its tests ran to completion, within all limits, in a process that ran no code of the candidate, on values
//!    that the candidate sent as plain data. An exit status never means a pass.
//! 2. The candidate's code can affect nothing outside its own processes except by those values: see [`Layer`], and the table of escapes in
//!    docs/sandbox.md, which a test computes.
//! 3. If the kernel refuses a layer, [`Sandbox::new`] returns an error that names it. Nothing runs with fewer layers than
//!    the settings ask for.
//! 4. A busy machine does not change verdicts: CPU time is limited, and the elapsed time does not include the time in which a program
//!    waited for a processor (up to 30 times the limit). Hashes and `random` start the same way in every process.
//! 5. When `run` returns, no process of the program is left. When the sandbox is dropped, or its process dies, the kernel kills all processes of
//!    it: the first one has ended when `drop` returns, the server and its zygotes end shortly after their parents.
//!
//! # How a verdict is reached
//!
//! ```text
//!   Sandbox (Rust)                one slot: a server and two confined zygotes, which never read a program
//!      | candidate's source           |
//!      +----------------------------->+--- zygote --- fork ---> candidate: runs the module, answers calls
//!      | tests, nonce, verdict pipe   |                             ^  |
//!      +----------------------------->+--- zygote --- fork ---> checker: runs the tests; plain data only
//!      |                                                                |
//!      +<---------------------------------------------------------------+  nonce and result
//! ```
//!
//! The candidate's process is forked before the server receives the tests and the nonce, from a zygote that has read no program and never
//! sees either: they are not in its memory, and the verdict's descriptor is never open in it. Each zygote has its own pid namespace, so
//! that the candidate cannot even name the checker's process. The checker calls the candidate's functions over a socket pair. Arguments and
//! results are JSON; other values (an instance, a generator) stay in the candidate's process, and the tests get a proxy, which can be
//! called, iterated and asked for attributes, but is equal only to itself. So an object with a false `__eq__`, a patched builtin, a
//! replaced checker or a caught `AssertionError` changes only the candidate's own process. When the tests end, the candidate is killed,
//! without waiting for finalizers or `atexit` functions.
//!
//! # A command
//!
//! ```no_run
//! use sandbox::{CommandSandbox, Reach};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let reach = Reach { directory: "/data/work".into(), temporary: "/data/tmp".into(), ..Reach::default() };
//! let sandbox = CommandSandbox::new(reach)?;
//! let mut command = std::process::Command::new("/usr/bin/make");
//! let supervisor = sandbox.confine(&mut command)?;
//! let status = command.status()?;
//! let looked_for = supervisor.finish();
//! sandbox.take_back()?;
//! # Ok(())
//! # }
//! ```
//!
//! The command starts in its own namespaces with the layers of [`Layer::OF_COMMANDS`]. It ends with its own status or signal. When it or
//! the thread that started it has ended, none of its processes is left. [`Supervisor::finish`] returns the files of the machine that the
//! command looked for but could not see.
//!
//! # Modules
//!
//! | module | contents |
//! |---|---|
//! | `settings` | [`Settings`], [`Layer`], [`Limits`] |
//! | `program` | [`Program`] |
//! | `verdict` | [`Verdict`], [`Failure`] |
//! | `error` | [`Unavailable`], [`Broken`] |
//! | `linux` | [`Sandbox`], [`CommandSandbox`]. Of both: `root` (the root directory), `enter` (namespaces and mounts), `filter` and `calls` (system calls), `rules` (Landlock). Of Python programs: `python` (the interpreter's files), `slot` (a server, one run), `messages` (what it receives), `collected` (pipes), `processors` (where a slot runs), `codes` (compiled tests), `usage` (what `/proc` says of processes). Of commands: `command`, `init` (its first process), `confine` (the layers that it applies to itself), `supervisor` (what it looks for) |
//! | `python/*.py` | the server: `values.py` (data on the link), `roles.py` (candidate and checker), `server.py` (forks, and the layers of each process), `pages.py` and `trial.py` (memory that the fork copies at once), `probe.py` |

mod error;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod other;
mod program;
mod settings;
mod verdict;

#[cfg(target_os = "linux")]
pub use linux::{CommandSandbox, Sandbox, Supervisor, python_version};
#[cfg(not(target_os = "linux"))]
pub use other::{CommandSandbox, Sandbox, Supervisor, python_version};

/// The revision of the sandbox, which changes whenever the verdict of a program may change. Verdicts cached under another revision are invalid.
pub const REVISION: u32 = 5;

pub use self::{
    error::{Broken, Missing, Unavailable},
    program::Program,
    settings::{Layer, Limits, Reach, Settings},
    verdict::{Failure, Verdict},
};
