use std::{collections::BTreeSet, fmt, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

/// The settings of a [`Sandbox`](crate::Sandbox).
#[derive(Clone, Debug)]
pub struct Settings {
    /// The Python interpreter, 3.9 or later: a path, or a name that is looked up in `PATH`.
    pub python: PathBuf,
    /// Layers that are disabled; without a layer, the accesses that [`Layer`] describes are possible. For tests, and for kernels that
    /// refuse a layer, if every program is trusted.
    pub dangerously_run_without: BTreeSet<Layer>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { python: "python3".into(), dangerously_run_without: BTreeSet::new() }
    }
}

/// One layer of the sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layer {
    /// The mount namespace: a read-only root that contains only the interpreter, and a private `/tmp` of limited size.
    Root,
    /// The pid namespace of each process tree: no process outside it is visible, and all its processes end together.
    Pid,
    /// The network namespace, without any interface.
    Network,
    /// The IPC namespace: System V objects and message queues of other processes are not visible.
    Ipc,
    /// The UTS namespace: the host name cannot be changed.
    Uts,
    /// The system call filter: an allowlist; all other calls fail with `ENOSYS`.
    Seccomp,
    /// The Landlock rules: access to files other than the interpreter's, TCP, and abstract sockets and signals out of the sandbox are
    /// refused.
    Landlock,
    /// All capabilities are dropped permanently.
    Privileges,
    /// The limits of CPU time, memory, file size, processes and descriptors.
    Limits,
    /// Descriptors other than the program's own are closed.
    Descriptors,
    /// The environment is empty.
    Environment,
    /// The tests run in a separate process that runs no code of the candidate.
    Checker,
}

impl Layer {
    /// All layers.
    pub const ALL: [Self; 12] = [
        Self::Root,
        Self::Pid,
        Self::Network,
        Self::Ipc,
        Self::Uts,
        Self::Seccomp,
        Self::Landlock,
        Self::Privileges,
        Self::Limits,
        Self::Descriptors,
        Self::Environment,
        Self::Checker,
    ];
    /// The layers of commands; all of them are always on.
    pub const OF_COMMANDS: [Self; 9] = [
        Self::Root,
        Self::Pid,
        Self::Network,
        Self::Ipc,
        Self::Uts,
        Self::Seccomp,
        Self::Landlock,
        Self::Privileges,
        Self::Descriptors,
    ];
    /// The layers that need a user namespace.
    pub const NAMESPACES: [Self; 5] = [Self::Root, Self::Pid, Self::Network, Self::Ipc, Self::Uts];

    /// Returns the layer's name, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Pid => "pid",
            Self::Network => "network",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::Seccomp => "seccomp",
            Self::Landlock => "landlock",
            Self::Privileges => "privileges",
            Self::Limits => "limits",
            Self::Descriptors => "descriptors",
            Self::Environment => "environment",
            Self::Checker => "checker",
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The limits of one program. The process of the candidate and that of the checker have each limit separately.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// CPU time of each process, as the kernel's scheduler measures it. A program that exceeds it is ended shortly afterwards, and fails
    /// whatever the result of its tests.
    pub cpu: Duration,
    /// Elapsed time of the whole run, minus the time that its processes waited for a processor: a second limit, for programs that sleep.
    /// Keep it well above `cpu`: a machine whose disk or memory is busy is slower, too.
    pub wall: Duration,
    /// The address space of each process, and the total memory of the candidate's processes, in bytes.
    pub memory: u64,
    /// The size of `/tmp` and of each file, in bytes.
    pub disk: u64,
    /// The number of processes and threads of the candidate at one time.
    pub processes: u32,
    /// The number of open descriptors of each process.
    pub descriptors: u32,
    /// The output to standard output and standard error, in bytes.
    pub output: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            cpu: Duration::from_secs(3),
            wall: Duration::from_secs(30),
            memory: 512 << 20,
            disk: 16 << 20,
            processes: 8,
            descriptors: 64,
            output: 1 << 20,
        }
    }
}

/// The files that a command can access, in addition to the programs and libraries of the system.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    /// Files and directories that the command may read.
    pub readable: Vec<PathBuf>,
    /// Files and directories that the command may write.
    pub writable: Vec<PathBuf>,
    /// Paths in `writable` and `directory` that the command may only read.
    pub protected: Vec<PathBuf>,
    /// The working directory, which is writable.
    pub directory: PathBuf,
    /// An empty directory, which is mounted as `/tmp`.
    pub temporary: PathBuf,
}
