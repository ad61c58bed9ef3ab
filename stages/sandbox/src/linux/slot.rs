//! One warm interpreter, the fork server, and how it runs a program.
//!
//! The host and the server communicate over a socket of type `SOCK_SEQPACKET`, which is the server's standard input:
//!
//! | from | message | with descriptors |
//! |---|---|---|
//! | host | the server's code | |
//! | host | the layers, the filter, modules to import | Landlock's rules |
//! | server | `ready`, or the layer that the kernel refuses | |
//! | host | limits; a zygote forks the candidate's process | the candidate's source, the output pipe |
//! | host | one byte; the other zygote forks the checker's process | the tests with the nonce, the verdict pipe |
//! | host | `kill`, if a limit is exceeded | |
//! | server | both processes' status and CPU time, once both have ended | |

use std::{
    collections::{BTreeSet, HashMap},
    fs::File,
    io::{IoSlice, PipeWriter, Read, Seek, Write, pipe},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        memfd::{MFdFlags, memfd_create},
        socket::{
            AddressFamily, ControlMessage, MsgFlags, Shutdown, SockFlag, SockType, recv, send, sendmsg, shutdown,
            socketpair,
        },
    },
};
use serde_json::json;

use super::{
    Plan,
    codes::Codes,
    collected::Collected,
    enter::{Entry, step},
    messages::{self, Report, missing, nonce, split_code},
    processors::Place,
    root::Root,
    usage::{self, Spent},
};
use crate::{Broken, Failure, Layer, Limits, Missing, Program, Verdict};

/// Runs the server's code, the first message. A process that compiled it would leave a third more memory to every fork.
const BOOTSTRAP: &str = "import marshal, os; exec(marshal.loads(os.read(0, 1 << 20)))";

/// Modules that programs often import; they are loaded in every process from the start.
const PRELOAD: &[&str] = &[
    "bisect",
    "collections",
    "copy",
    "datetime",
    "functools",
    "heapq",
    "itertools",
    "math",
    "operator",
    "random",
    "re",
    "statistics",
    "string",
    "typing",
];

/// The interval at which a program's processor time and memory are checked.
const CHECK_INTERVAL: Duration = Duration::from_millis(20);

/// The maximum time that a program may additionally wait for a processor, as a multiple of the limit of elapsed time.
const WAIT_FACTOR: u32 = 30;

/// The maximum number of bytes that the checker's process writes: the code of the tests, and the verdict.
const MOST_WRITTEN: usize = (1 << 20) + (1 << 16);

/// The time limit for starting a server, and for ending a program's processes.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) enum Unstarted {
    Layers(Vec<Missing>),
    Broken(Broken),
}

impl From<Broken> for Unstarted {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

impl Unstarted {
    pub fn broken(self) -> Broken {
        match self {
            Self::Layers(missing) => match missing.into_iter().next() {
                Some(missing) => Broken::Layer(missing),
                None => Broken::Server("the server did not start".into()),
            },
            Self::Broken(broken) => broken,
        }
    }
}

/// A warm interpreter that runs one program at a time. Dropping it ends every process in it.
pub(super) struct Slot {
    child: Child,
    control: OwnedFd,
    /// Whether the limits are enforced; the limit of elapsed time always is.
    limited: bool,
    /// Whether the tests run in a process of their own.
    is_checked: bool,
    /// The server, its parent and the zygotes: all other processes below belong to a program.
    resident: BTreeSet<u32>,
    /// Held as long as the slot is there.
    _place: Place,
}

impl Slot {
    pub fn start(plan: &Plan) -> Result<Self, Unstarted> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (control, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)
            .map_err(Broken::system("cannot make a socket"))?;
        let (mut steps, step) = pipe().map_err(Broken::system("cannot make a pipe"))?;
        let namespaces = Layer::NAMESPACES.iter().any(|layer| plan.layers.contains(layer));
        let entry = Entry::new(&plan.layers, &plan.root, step.into(), None)
            .map_err(Broken::system("cannot convert a path to a C string"))?;
        let mut command = Command::new(&plan.python.executable);
        command.args(["-s", "-S", "-B", "-c", BOOTSTRAP]);
        if plan.layers.contains(&Layer::Environment) {
            command.env_clear();
        }
        // The same hashes, and the same order of sets, in every run.
        command.envs([("PYTHONHASHSEED", "0"), ("PYTHONUTF8", "1"), ("PYTHONSAFEPATH", "1")]);
        command.current_dir("/").stdin(Stdio::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null());
        entry.install(&mut command);
        let spawned = command.spawn();
        // Closes this process's copies of the descriptors that the command holds.
        drop(command);
        let child = spawned.map_err(|error| {
            let mut step = [0];
            let missing = match steps.read(&mut step) {
                Ok(1) => step::missing(step[0], &plan.layers, &error),
                _ => Vec::new(),
            };
            match missing.is_empty() {
                true => Broken::System { action: "cannot start the interpreter", error }.into(),
                false => Unstarted::Layers(missing),
            }
        })?;
        let limited = plan.layers.contains(&Layer::Limits);
        let is_checked = plan.layers.contains(&Layer::Checker);
        let place = plan.processors.place();
        let processor = place.processor;
        let mut slot = Self { child, control, limited, is_checked, resident: BTreeSet::new(), _place: place };
        let setup = json!({
            "layers": plan.layers,
            "namespaces": namespaces,
            "private": format!("{}/tmp", Root::PRIVATE),
            "filter": plan.filter.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
            "preload": PRELOAD,
            "processor": processor,
        });
        slot.send(&plan.python.server, &[])?;
        slot.send(setup.to_string().as_bytes(), &[plan.rules.as_fd(), plan.proc.as_fd()])?;
        let reply = slot.receive(Instant::now() + PATIENCE)?;
        if reply == "ready" {
            slot.resident = usage::tree(slot.child.id());
            return Ok(slot);
        }
        match missing(&reply) {
            Some(missing) => Err(Unstarted::Layers(vec![missing])),
            None => Err(Broken::Server(reply).into()),
        }
    }

    /// Runs a program until it has ended or `stops` returns true. `codes` holds the compiled tests of earlier ones.
    pub fn run(
        &mut self,
        stops: &dyn Fn() -> bool,
        program: &Program,
        limits: &Limits,
        codes: &Codes,
    ) -> Result<Verdict, Broken> {
        let nonce = nonce()?;
        let (output, output_end) = pipe().map_err(Broken::system("cannot make a pipe"))?;
        let (verdict, verdict_end) = pipe().map_err(Broken::system("cannot make a pipe"))?;
        let (output, verdict) = (Collected::new(output)?, Collected::new(verdict)?);
        let limit = json!({
            // A second line of defence: the kernel counts ticks.
            "seconds": limits.cpu.as_secs().saturating_add(1).saturating_mul(2),
            "memory": limits.memory,
            "disk": limits.disk,
            "processes": limits.processes,
            "descriptors": limits.descriptors,
        });
        let candidate = file(program.candidate.as_bytes())?;
        self.send(limit.to_string().as_bytes(), &[candidate.as_fd(), output_end.as_fd()])?;
        drop::<(File, PipeWriter)>((candidate, output_end));
        // The candidate's process exists before these are sent to the server, so it has neither of them, nor a copy.
        let code = codes.get(program);
        let mut request = json!({ "nonce": nonce, "calls": program.calls });
        if code.is_none() {
            request["setup"] = program.setup.as_str().into();
            request["tests"] = program.tests.as_str().into();
        }
        let mut request = request.to_string().into_bytes();
        request.push(b'\n');
        request.extend_from_slice(code.as_deref().unwrap_or_default());
        let tests = file(&request)?;
        self.send(b".", &[tests.as_fd(), verdict_end.as_fd()])?;
        drop::<(File, PipeWriter)>((tests, verdict_end));
        let (report, text, exceeded) = self.wait(stops, limits, output, verdict)?;
        let (compiled, text) = if code.is_some() { (None, &text[..]) } else { split_code(&text) };
        if let Some(compiled) = compiled {
            codes.add(program, compiled);
        }
        if exceeded.is_none() && self.is_checked && report.checker.ended_by(libc::SIGKILL) {
            // Nothing of the candidate's can send it a signal: the kernel did, on a machine without memory.
            return Err(Broken::Server("the process of the tests was killed".into()));
        }
        let verdict = messages::verdict(&nonce, text, report.checker.status)?;
        match exceeded {
            Some((failure, detail)) => Ok(Verdict::Failed { failure, detail: detail.into() }),
            None => Ok(verdict),
        }
    }

    /// Waits until the program's processes have ended; returns their report, what the checker wrote, and the limit that was exceeded.
    fn wait(
        &self,
        stops: &dyn Fn() -> bool,
        limits: &Limits,
        mut output: Collected,
        mut verdict: Collected,
    ) -> Result<(Report, Vec<u8>, Option<Exceeded>), Broken> {
        let started = Instant::now();
        let mut deadline = later(started, limits.wall);
        let mut next_look = if self.limited { started + CHECK_INTERVAL } else { later(deadline, PATIENCE) };
        // By zygote: the candidate and the tests have the limit separately.
        let mut spent = HashMap::new();
        let (mut exceeded, mut stopped) = (None, false);
        let report = loop {
            let control = self.control.as_fd();
            let mut ready = vec![PollFd::new(control, PollFlags::POLLIN)];
            ready.extend(output.pipe.as_ref().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)));
            ready.extend(verdict.pipe.as_ref().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)));
            poll_until(&mut ready, deadline.min(next_look).min(Instant::now() + CHECK_INTERVAL))?;
            let reported = ready[0].any().unwrap_or(false);
            drop(ready);
            output.read(0)?;
            verdict.read(MOST_WRITTEN)?;
            if reported {
                break self.receive(deadline)?;
            }
            let now = match exceeded {
                None if stops() => {
                    stopped = true;
                    Some((Failure::Ended, "the run was stopped"))
                }
                None if self.limited && output.length > limits.output => {
                    Some((Failure::Output, "the output is too long"))
                }
                None if self.limited && Instant::now() >= next_look => {
                    let looked = self.look(limits, &mut spent);
                    next_look = Instant::now() + CHECK_INTERVAL;
                    looked
                }
                None if Instant::now() >= deadline => {
                    // Waiting is not the program's fault: it was ready to run. Bounded, so that the run ends.
                    let waited = self.waited().min(limits.wall.saturating_mul(WAIT_FACTOR));
                    deadline = later(later(started, limits.wall), waited);
                    (Instant::now() >= deadline).then_some((Failure::Timeout, "the elapsed time is over"))
                }
                Some(_) if Instant::now() >= deadline => {
                    return Err(Broken::Server("the program's processes do not end".into()));
                }
                _ => None,
            };
            if now.is_some() {
                exceeded = now;
                deadline = Instant::now() + PATIENCE;
                next_look = deadline;
                self.send(b"kill", &[])?;
            }
        };
        if stopped {
            return Err(Broken::Stopped);
        }
        output.read(0)?;
        verdict.read(MOST_WRITTEN)?;
        let report: Report = serde_json::from_str(&report).map_err(|error| Broken::Server(error.to_string()))?;
        if self.limited {
            if exceeded.is_none() && output.length > limits.output {
                exceeded = Some((Failure::Output, "the output is too long"));
            }
            let over = limits.cpu.as_secs_f64();
            let processes = [report.candidate.as_ref(), Some(&report.checker)];
            if processes.into_iter().flatten().any(|process| process.seconds >= over) {
                exceeded = Some((Failure::Timeout, "the processor time is over"));
            }
        }
        Ok((report, verdict.text, exceeded))
    }

    /// Returns the processes that are there without a program: the server's.
    #[cfg(test)]
    pub fn resident(&self) -> &BTreeSet<u32> {
        &self.resident
    }

    /// Returns the program's processes.
    fn processes(&self) -> impl Iterator<Item = u32> {
        usage::tree(self.child.id()).into_iter().filter(|process| !self.resident.contains(process))
    }

    /// Returns the time that the program's processes have waited for a processor.
    fn waited(&self) -> Duration {
        usage::waited(self.processes())
    }

    /// Returns the limit of processor time or of memory that the program's processes exceed.
    fn look(&self, limits: &Limits, spent: &mut HashMap<u32, Spent>) -> Option<(Failure, &'static str)> {
        if self.resident.iter().any(|zygote| self.holds_more(*zygote, limits.memory)) {
            return Some((Failure::Memory, "the program's processes hold too much memory together"));
        }
        let is_over = |zygote: &u32| {
            let processes = usage::below(*zygote, &self.resident).into_iter();
            let used = processes.map(|process| (process, usage::used(process)));
            spent.entry(*zygote).or_default().look(used) >= limits.cpu
        };
        self.resident.iter().any(is_over).then_some((Failure::Timeout, "the processor time is over"))
    }

    /// Returns whether the processes that a zygote has forked, and their descendants, use more memory than this.
    fn holds_more(&self, zygote: u32, limit: u64) -> bool {
        usage::holds_more(&usage::below(zygote, &self.resident), limit)
    }

    fn send(&self, message: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), Broken> {
        let raw: Vec<_> = descriptors.iter().map(|descriptor| descriptor.as_raw_fd()).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control = self.control.as_raw_fd();
        let sent = if raw.is_empty() {
            send(control, message, MsgFlags::MSG_NOSIGNAL)
        } else {
            sendmsg::<()>(control, &[IoSlice::new(message)], &rights, MsgFlags::MSG_NOSIGNAL, None)
        };
        match sent {
            Ok(_) => Ok(()),
            Err(error) => Err(Broken::Server(format!("cannot reach the server: {error}"))),
        }
    }

    fn receive(&self, deadline: Instant) -> Result<String, Broken> {
        let mut ready = [PollFd::new(self.control.as_fd(), PollFlags::POLLIN)];
        poll_until(&mut ready, deadline)?;
        let mut reply = vec![0; 1 << 14];
        match recv(self.control.as_raw_fd(), &mut reply, MsgFlags::MSG_DONTWAIT) {
            Ok(0) | Err(Errno::ECONNRESET) => Err(Broken::Server("the server ended".into())),
            Ok(length) => Ok(String::from_utf8_lossy(&reply[..length]).into_owned()),
            Err(error) => Err(Broken::Server(format!("the server does not reply: {error}"))),
        }
    }
}

/// The longest time to wait for the server's own end.
const FAREWELL: Duration = Duration::from_millis(500);

impl Drop for Slot {
    fn drop(&mut self) {
        // The server ends at the end of the link, and all processes of its pid namespace with it. Its parent reaps it: no zombie is left to
        // the first process of the machine, which may be slow at that or never do it.
        let _ = shutdown(self.control.as_raw_fd(), Shutdown::Both);
        let deadline = Instant::now() + FAREWELL;
        while Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(1));
        }
        // If it has not, its parent's death ends it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A limit that was exceeded, and its description.
type Exceeded = (Failure, &'static str);

/// Returns a later time: at most thirty years later, because the range of the clock is limited.
fn later(time: Instant, by: Duration) -> Instant {
    const YEARS: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
    time.checked_add(by.min(YEARS)).unwrap_or(time)
}

fn poll_until(ready: &mut [PollFd<'_>], deadline: Instant) -> Result<(), Broken> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now()).as_millis() + 1;
        match poll(ready, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(Broken::system("cannot wait for the server")(error)),
        }
    }
}

/// Creates an anonymous file with this content.
fn file(content: &[u8]) -> Result<File, Broken> {
    let mut file: File = memfd_create(c"program", MFdFlags::MFD_CLOEXEC)
        .map_err(Broken::system("cannot make an anonymous file"))?
        .into();
    file.write_all(content).and_then(|()| file.rewind()).map_err(Broken::system("cannot write a program"))?;
    Ok(file)
}
