//! Escapes, and the layers that stop them.
//!
//! Each escape must succeed with every layer off (so that the attempt is a real one), must fail with every layer on, and
//! is tried with each layer alone and with each layer missing. `the_table_of_the_docs` compares the result with
//! docs/sandbox.md; set `SANDBOX_TABLE=FILE` to write it. `every_layer_of_the_table_stops_its_escapes` reads that table and tries each
//! escape with no layer, with every layer, and with each layer that stops it, which takes less than a minute. What the verdict stops by its design, whatever the layers, is in hostile.rs.
#![cfg(target_os = "linux")]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    io::{BufRead, BufReader},
    net::{TcpListener, UdpSocket},
    os::{
        fd::{FromRawFd, OwnedFd},
        linux::net::SocketAddrExt,
        unix::{
            fs::PermissionsExt,
            net::{SocketAddr, UnixListener},
            process::CommandExt,
        },
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use sandbox::{Broken, Failure, Layer, Limits, Program, Sandbox, Verdict};
use support::{failure, program, run, sandbox};
use tempfile::TempDir;

const SECRET: &str = "a secret of the host";

/// The escapes that a machine may stop by itself, whatever the layers: its kernel lacks the call, Yama forbids tracing, there is no loopback
/// interface or `/dev/shm`, or the temporary directory is mounted `nosuid`. All others must succeed with every layer off.
const STOPPED_BY_MACHINES: [&str; 12] = [
    "connect over TCP",
    "send over UDP",
    "trace another process",
    "read another process's memory",
    "use the kernel's keys",
    "load a BPF program",
    "set up io_uring",
    "open a performance event",
    "open a userfaultfd",
    "queue messages",
    "write to shared memory",
    "run a set-user-id program",
];

/// A limit of descriptors by which the detached child of one test is found.
fn mark() -> u32 {
    static HOSTS: AtomicU32 = AtomicU32::new(0);
    30 + (std::process::id() * 4 + HOSTS.fetch_add(1, Ordering::Relaxed)) % 32
}

/// What the escapes reach for, on this machine.
struct Host {
    directory: TempDir,
    victim: Child,
    /// Where the victim holds the secret.
    address: String,
    tcp: TcpListener,
    udp: UdpSocket,
    name: String,
    /// See [`mark`].
    mark: u32,
    _abstract: UnixListener,
    _path: UnixListener,
    _leak: OwnedFd,
}

impl Host {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let secret = directory.path().join("secret");
        fs::write(&secret, SECRET).unwrap();
        let name = format!("sandbox-test-{}", std::process::id());
        let path = directory.path().join("socket");
        let on_path = UnixListener::bind(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        let address = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
        let on_name = UnixListener::bind_addr(&address).unwrap();
        // Root's processes are out of reach anyway: the victim is the user that programs become.
        let mut command = Command::new("/usr/bin/python3");
        if nix::unistd::geteuid().is_root() {
            command.uid(65534).gid(65534);
            let tool = directory.path().join("cat");
            fs::copy("/usr/bin/cat", &tool).unwrap();
            fs::set_permissions(&tool, fs::Permissions::from_mode(0o4755)).unwrap();
            fs::write(directory.path().join("private"), SECRET).unwrap();
            fs::set_permissions(directory.path().join("private"), fs::Permissions::from_mode(0o600)).unwrap();
        }
        let mut victim = command
            .args([
                "-c",
                &format!(
                    "import ctypes, time\nbuffer = ctypes.create_string_buffer(b'{SECRET}')\n\
                 shared = ctypes.CDLL(None).shmget({}, 4096, 0o1666)\n\
                 print(ctypes.addressof(buffer), flush=True)\ntime.sleep(3000)\n",
                    std::process::id()
                ),
            ])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut address = String::new();
        BufReader::new(victim.stdout.take().unwrap()).read_line(&mut address).unwrap();
        let file = fs::File::open(&secret).unwrap();
        let leak = nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_DUPFD(100)).unwrap();
        // SAFETY: the descriptor was made by the line above, and nothing else owns it.
        let leak = unsafe { OwnedFd::from_raw_fd(leak) };
        Self {
            directory,
            victim,
            address: address.trim().to_owned(),
            tcp: TcpListener::bind("127.0.0.1:0").unwrap(),
            udp: UdpSocket::bind("127.0.0.1:0").unwrap(),
            name,
            mark: mark(),
            _abstract: on_name,
            _path: on_path,
            _leak: leak,
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.victim.kill();
        let _ = self.victim.wait();
        let _ = fs::remove_file(PathBuf::from("/tmp").join(&self.name));
        // The segment belongs to the victim's user; root and that user may remove it.
        // SAFETY: both calls take numbers only; a wrong key makes them fail.
        unsafe {
            let segment = libc::shmget(std::process::id() as i32, 0, 0);
            libc::shmctl(segment, libc::IPC_RMID, std::ptr::null_mut());
        }
    }
}

struct Escape {
    name: &'static str,
    /// Layers without which the attempt makes no sense.
    with: &'static [Layer],
    /// A program that runs first in the same sandbox.
    before: Option<Program>,
    /// Passes if it escapes.
    program: Program,
    limits: Limits,
    escaped: Box<dyn Fn(&Result<Verdict, Broken>) -> bool>,
}

fn passed(result: &Result<Verdict, Broken>) -> bool {
    matches!(result, Ok(Verdict::Passed))
}

const PRELUDE: &str = r#"
import ctypes, errno, os, resource, socket, sys, time
libc = ctypes.CDLL(None, use_errno=True)
def reaches_the_kernel(number, *arguments):
    ctypes.set_errno(0)
    return libc.syscall(number, *arguments) >= 0 or ctypes.get_errno() != errno.ENOSYS
def attempt(action):
    try:
        return bool(action())
    except Exception:
        return False
"#;

/// An escape whose function `escaped` returns whether it succeeded.
fn escape(name: &'static str, code: String) -> Escape {
    let candidate = format!("{PRELUDE}\n{code}");
    Escape {
        name,
        with: &[],
        before: None,
        program: program(&candidate, &["escaped"], "assert escaped() is True\n"),
        limits: Limits { cpu: Duration::from_secs(5), wall: Duration::from_secs(60), ..Limits::default() },
        escaped: Box::new(passed),
    }
}

/// An escape of one expression.
fn expression(name: &'static str, code: &str) -> Escape {
    escape(name, format!("def escaped():\n    return attempt(lambda: {code})\n"))
}

/// A wrong answer that passes for a right one.
fn forgery(name: &'static str, candidate: &str, tests: &str) -> Escape {
    Escape { program: program(candidate, &["f"], tests), ..escape(name, String::new()) }
}

fn reaches(name: &'static str, number: i64, arguments: &str) -> Escape {
    expression(name, &format!("reaches_the_kernel({number}, {arguments})"))
}

/// Children that each hold this many bytes, all at one time.
fn many_holders(children: usize, bytes: usize) -> String {
    format!(
        "def escaped():\n    children = []\n    try:\n        for _ in range({children}):\n            near, far = os.pipe()\n            \
         child = os.fork()\n            if child == 0:\n                data = b'x' * {bytes}\n                \
         os.write(far, b'held')\n                time.sleep(100)\n                os._exit(len(data) > 0)\n            \
         os.close(far)\n            children.append(child)\n            if os.read(near, 4) != b'held':\n                \
         return False\n        time.sleep(1)\n        return True\n    finally:\n        \
         for child in children:\n            os.kill(child, 9)\n            os.waitpid(child, 0)\n"
    )
}

fn escapes(host: &Host) -> Vec<Escape> {
    let directory = host.directory.path().display().to_string();
    let victim = host.victim.id();
    let (here, mark) = (std::process::id(), host.mark);
    let port = |address: std::io::Result<std::net::SocketAddr>| address.unwrap().port();
    let mut list = vec![
        Escape {
            with: &[Layer::Uts],
            ..escape(
                "fork bomb",
                "def escaped():\n    children = []\n    try:\n        for _ in range(40):\n            child = os.fork()\n            \
                 if child == 0:\n                time.sleep(100)\n                os._exit(0)\n            \
                 children.append(child)\n        return True\n    except OSError:\n        return False\n    finally:\n        \
                 for child in children:\n            os.kill(child, 9)\n"
                    .into(),
            )
        },
        escape("memory bomb", "def escaped():\n    return len(bytearray(1 << 30)) > 0\n".into()),
        escape("memory bomb of many processes", many_holders(3, 300 << 20)),
        escape(
            "disk fill: one file",
            format!(
                "def escaped():\n    for directory in ({directory:?}, '/tmp'):\n        name = directory + '/one'\n        try:\n            \
                 with open(name, 'wb') as file:\n                for _ in range(40):\n                    file.write(bytes(1 << 20))\n            \
                 return True\n        except OSError:\n            pass\n        finally:\n            \
                 os.path.exists(name) and os.unlink(name)\n    return False\n"
            ),
        ),
        escape(
            "disk fill: many files",
            format!(
                "def escaped():\n    for directory in ({directory:?}, '/tmp'):\n        made = []\n        try:\n            \
                 for number in range(40):\n                made.append(directory + '/many%d' % number)\n                \
                 with open(made[-1], 'wb') as file:\n                    file.write(bytes(1 << 20))\n            return True\n        \
                 except OSError:\n            pass\n        finally:\n            for name in made:\n                \
                 os.path.exists(name) and os.unlink(name)\n    return False\n"
            ),
        ),
        expression(
            "connect over TCP",
            &format!("socket.create_connection(('127.0.0.1', {}), 5)", port(host.tcp.local_addr())),
        ),
        expression(
            "send over UDP",
            &format!(
                "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', {}))",
                port(host.udp.local_addr())
            ),
        ),
        expression(
            "connect to an abstract socket",
            &format!("socket.socket(socket.AF_UNIX).connect('\\0{}') is None", host.name),
        ),
        expression(
            "connect to a socket by path",
            &format!("socket.socket(socket.AF_UNIX).connect('{directory}/socket') is None"),
        ),
        expression("read the user's files", &format!("open('{directory}/secret').read()")),
        expression("read /proc of another process", &format!("open('/proc/{here}/cmdline').read()")),
        expression("write outside", &format!("open('{directory}/written', 'w').write('x')")),
        expression("signal another process", &format!("os.kill({victim}, 0) is None")),
        escape(
            "trace another process",
            format!(
                "libc.ptrace.argtypes = [ctypes.c_long] * 4\ndef escaped():\n    return libc.ptrace(0x4206, {victim}, 0, 0) == 0\n"
            ),
        ),
        escape(
            "read another process's memory",
            format!(
                "def escaped():\n    buffer = ctypes.create_string_buffer(20)\n    \
                 mine = (ctypes.c_size_t * 2)(ctypes.addressof(buffer), 20)\n    \
                 theirs = (ctypes.c_size_t * 2)({}, 20)\n    \
                 return libc.process_vm_readv({victim}, mine, 1, theirs, 1, 0) == 20 and buffer.raw == {SECRET:?}.encode()\n",
                host.address
            ),
        ),
        Escape {
            with: &[Layer::Checker],
            escaped: Box::new(move |result| {
                let left = marked(mark);
                for process in &left {
                    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(*process), nix::sys::signal::SIGKILL);
                }
                passed(result) && !left.is_empty()
            }),
            ..escape(
                "leave a detached child",
                format!(
                    "def escaped():\n    ready, set = os.pipe()\n    if os.fork() == 0:\n        os.setsid()\n        \
                     if os.fork() == 0:\n            resource.setrlimit(resource.RLIMIT_NOFILE, ({mark}, {mark}))\n            \
                     os.write(set, b'.')\n            time.sleep(100)\n        os._exit(0)\n    os.read(ready, 1)\n    \
                     return True\n"
                ),
            )
        },
        reaches("make new namespaces", libc::SYS_unshare, "0x10020000"),
        Escape {
            with: &[Layer::Root],
            ..expression("mount with the namespace's rights", "libc.mount(b'x', b'/private/empty', b'tmpfs', 0, None) == 0")
        },
        reaches("use the kernel's keys", libc::SYS_keyctl, "0, -3, 1"),
        reaches("load a BPF program", libc::SYS_bpf, "5, 0, 0"),
        expression(
            "install a filter of a socket",
            "socket.socketpair()[0].setsockopt(socket.SOL_SOCKET, 26, __import__('struct').pack('HxxxxxxP', 1, \
             ctypes.addressof(ctypes.create_string_buffer(bytes([6, 0, 0, 0, 0, 0, 0, 0]))))) is None",
        ),
        expression(
            "watch a directory by a descriptor",
            // Any access on this machine sends SIGIO.
            "(__import__('signal').signal(29, 1), \
             __import__('fcntl').fcntl(os.open(os.path.dirname(os.__file__), os.O_RDONLY), 1026, 1) == 0)[1]",
        ),
        expression("lock a file of the library", "__import__('fcntl').flock(open(os.__file__), 2 | 4) is None"),
        expression(
            "lock a part of a file of the library",
            "__import__('fcntl').lockf(open(os.__file__), 1 | 4) is None",
        ),
        expression("change the size of a pipe", "__import__('fcntl').fcntl(os.pipe()[0], 1031, 1 << 17) > 0"),
        reaches("set up io_uring", libc::SYS_io_uring_setup, "1, 0"),
        reaches("open a performance event", libc::SYS_perf_event_open, "0, 0, 0, 0, 0"),
        reaches("open a userfaultfd", libc::SYS_userfaultfd, "0"),
        reaches("make a file in memory", libc::SYS_memfd_create, "b'x', 0"),
        reaches("push input to a terminal", libc::SYS_ioctl, "0, 0x5412, b'x'"),
        reaches("change what it is by prctl", libc::SYS_prctl, "4, 1, 0, 0, 0"),
        reaches("change its scheduling", libc::SYS_sched_setscheduler, "0, 3, ctypes.byref(ctypes.c_int(0))"),
        reaches("change its priority", libc::SYS_setpriority, "0, 0, 5"),
        reaches("watch files", libc::SYS_inotify_init1, "0"),
        reaches("queue messages", libc::SYS_mq_open, "b'x', 0, 0, None"),
        reaches("name another process by a descriptor", libc::SYS_pidfd_open, "os.getpid(), 0"),
        expression(
            "raise its own limits",
            "resource.setrlimit(resource.RLIMIT_CPU, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)) or \
             resource.getrlimit(resource.RLIMIT_CPU)[0] == resource.RLIM_INFINITY",
        ),
        expression("read its own memory as a file", "open('/proc/self/mem', 'rb')"),
        escape(
            "write to shared memory",
            format!(
                "def escaped():\n    name = '/dev/shm/{}'\n    try:\n        open(name, 'w').close()\n        os.unlink(name)\n        \
                 return True\n    except OSError:\n        return False\n",
                host.name
            ),
        ),
        escape(
            "link to the user's files",
            format!(
                "def escaped():\n    for link in (os.symlink, os.link):\n        for place in ('/tmp', {directory:?}):\n            \
                 name = place + '/link-{}'\n            try:\n                link('{directory}/secret', name)\n                \
                 if open(name).read():\n                    return True\n            except OSError:\n                pass\n            \
                 finally:\n                os.path.lexists(name) and os.unlink(name)\n    return False\n",
                host.name
            ),
        ),
        expression("read the host's System V memory", &format!("libc.shmget({here}, 0, 0) >= 0")),
        expression("read the host's name", &format!("os.uname().nodename == {:?}", nix::unistd::gethostname().unwrap())),
        expression("start a program", "os.spawnv(os.P_WAIT, sys.executable, [sys.executable, '-c', '']) == 0"),
        Escape {
            limits: Limits { cpu: Duration::from_secs(1), wall: Duration::from_secs(60), ..Limits::default() },
            ..escape(
                "use too much CPU time",
                "def escaped():\n    while time.process_time() < 1.5: pass\n    return True\n".into(),
            )
        },
        Escape {
            limits: Limits { cpu: Duration::from_secs(1), wall: Duration::from_secs(60), ..Limits::default() },
            ..escape(
                "use CPU time in children that nobody waits for",
                "import signal\ndef use():\n    while time.process_time() < 0.7: pass\n    os._exit(0)\ndef escaped():\n    \
                 try:\n        signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n    except OSError:\n        return False\n    \
                 for _ in range(4):\n        child = os.fork()\n        child or use()\n        try:\n            \
                 os.waitpid(child, 0)\n        except ChildProcessError:\n            pass\n    return True\n"
                    .into(),
            )
        },
        escape("write too much output", "def escaped():\n    print('x' * (4 << 20), flush=True)\n    return True\n".into()),
        escape(
            "read a descriptor of the host",
            format!(
                "def escaped():\n    for number in range(3, 200):\n        try:\n            \
                 if {SECRET:?}.encode() in os.pread(number, 100, 0):\n                return True\n        \
                 except OSError:\n            pass\n    return False\n"
            ),
        ),
        expression("read the environment", "'PATH' in os.environ"),
        Escape {
            before: Some(program(
                &format!(
                    "def leave():\n    for directory in ('/tmp', {directory:?}):\n        try:\n            \
                     open(directory + '/{name}', 'w').write('x')\n        except OSError:\n            pass\n",
                    name = host.name
                ),
                &["leave"],
                "leave()\n",
            )),
            ..expression(
                "read another program's files",
                &format!("any(attempt(lambda: open(place + '/{}').read()) for place in ('/tmp', {directory:?}))", host.name),
            )
        },
        Escape {
            escaped: Box::new(Result::is_err),
            ..expression("kill the server", "os.kill(os.getppid() or 1 << 20, 9)")
        },
        forgery(
            "read the tests",
            "import gc, sys\ndef f():\n    frame = sys._getframe()\n    while frame:\n        \
             if 'the answer is' in str(frame.f_locals):\n            return str(frame.f_locals).split('the answer is ')[1][:2]\n        \
             frame = frame.f_back\n    return 'unknown'\n",
            "answer = 'the answer is 42'\nassert f() == answer[-2:]\n",
        ),
        forgery(
            "an answer that equals anything",
            "class Any:\n    def __eq__(self, other):\n        return True\ndef f():\n    return Any()\n",
            "assert f() == 42\n",
        ),
        forgery(
            "a list that equals anything",
            "class Any(list):\n    def __eq__(self, other):\n        return True\ndef f():\n    return Any()\n",
            "assert f() == [42]\n",
        ),
        forgery(
            "patch a builtin",
            "import builtins\nbuiltins.abs = lambda value: 0\ndef f():\n    return 1.0\n",
            "assert abs(f() - 42.0) < 1e-6\n",
        ),
        forgery(
            "patch a module",
            "import math\nmath.isclose = lambda *rest, **more: True\ndef f():\n    return 1.0\n",
            "import math\nassert math.isclose(f(), 42.0)\n",
        ),
        forgery(
            "redefine the checker",
            "import sys\ndef f():\n    sys._getframe(1).f_globals['compare'] = lambda a, b: None\n    return 1\n",
            "def compare(a, b):\n    assert a == b\n\nvalue = f()\ncompare(value, 42)\n",
        ),
        forgery(
            "an exception that swallows the assertion",
            "import sys\ndef f():\n    sys._getframe(1).f_globals['Expected'] = BaseException\n",
            "Expected = ValueError\nf()\ntry:\n    assert False\nexcept Expected:\n    pass\n",
        ),
        forgery(
            "write the verdict's channel",
            "import gc, json, os\ndef f():\n    for item in gc.get_objects():\n        \
             if type(item) is dict and 'nonce' in item:\n            \
             os.write(3, json.dumps([item['nonce'], 'passed', '']).encode())\n            os._exit(0)\n",
            "f()\nassert False\n",
        ),
    ];
    if nix::unistd::geteuid().is_root() {
        list.push(expression(
            "run a set-user-id program",
            &format!(
                "__import__('subprocess').run(['{directory}/cat', '{directory}/private'], capture_output=True).stdout"
            ),
        ));
    }
    list
}

/// The processes that have the limit of descriptors that only the detached child sets.
fn marked(mark: u32) -> Vec<i32> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers
        .filter(|process: &i32| {
            // A process that has ended, but that its parent has not waited for, has no command line.
            if fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default().is_empty() {
                return false;
            }
            let limits = fs::read_to_string(format!("/proc/{process}/limits")).unwrap_or_default();
            let line = limits.lines().find(|line| line.starts_with("Max open files"));
            line.and_then(|line| line.split_whitespace().nth(3)?.parse().ok()) == Some(mark)
        })
        .collect()
}

/// Sandboxes by the layers that are on.
#[derive(Default)]
struct Sandboxes(BTreeMap<BTreeSet<Layer>, Option<Sandbox>>);

impl Sandboxes {
    /// Returns whether the escape succeeds with only these layers; `None` if there is no such sandbox here.
    fn escapes(&mut self, escape: &Escape, on: impl IntoIterator<Item = Layer>) -> Option<bool> {
        let on: BTreeSet<_> = on.into_iter().chain(escape.with.iter().copied()).collect();
        let off = Layer::ALL.into_iter().filter(|layer| !on.contains(layer)).collect::<Vec<_>>();
        let sandbox = self.0.entry(on).or_insert_with(|| sandbox(off)).as_ref()?;
        if let Some(before) = &escape.before {
            let _ = sandbox.run(before, &escape.limits);
        }
        Some((escape.escaped)(&sandbox.run(&escape.program, &escape.limits)))
    }
}

/// The layers that stop each escape, and those that the attempt needs, by the table of docs/sandbox.md.
fn published() -> BTreeMap<String, BTreeMap<Layer, String>> {
    let docs = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/sandbox.md")).unwrap();
    let table = docs.lines().skip_while(|line| !line.starts_with("| escape |"));
    let rows = table.skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        let mut cells = row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned());
        let name = cells.next().unwrap();
        (name, Layer::ALL.into_iter().zip(cells).filter(|(_, cell)| !cell.is_empty()).collect())
    })
    .collect()
}

fn has_tools() -> bool {
    let has = ["/usr/bin/python3", "/usr/bin/cat"].iter().all(|program| Path::new(program).exists());
    if !has {
        eprintln!("skipped: /usr/bin has no python3 or no cat");
    }
    has
}

#[test]
fn every_layer_of_the_table_stops_its_escapes() {
    if !has_tools() {
        return;
    }
    let (host, mut sandboxes, mut published) = (Host::new(), Sandboxes::default(), published());
    for escape in escapes(&host) {
        let name = escape.name;
        let row = published.remove(name).unwrap_or_else(|| panic!("docs/sandbox.md has no row '{name}'"));
        let Some(free) = sandboxes.escapes(&escape, []) else { return };
        if !free {
            // Otherwise a broken attempt would count as a stopped one.
            assert!(STOPPED_BY_MACHINES.contains(&name), "'{name}' does not succeed with every layer off");
            eprintln!("skipped: this machine stops '{name}' itself");
            continue;
        }
        let Some(escaped) = sandboxes.escapes(&escape, Layer::ALL) else { return };
        assert!(!escaped, "'{name}' succeeds with every layer on");
        let stopping: Vec<_> = row.iter().filter(|(_, cell)| *cell == "stops").map(|(layer, _)| *layer).collect();
        assert!(!stopping.is_empty(), "the table names no layer that stops '{name}'");
        for layer in stopping {
            let Some(escaped) = sandboxes.escapes(&escape, [layer]) else { return };
            assert!(!escaped, "'{name}' succeeds with the layer '{layer}'");
        }
    }
    // Only root can make a set-user-id program of another user.
    published.remove("run a set-user-id program");
    assert_eq!(published.into_keys().collect::<Vec<_>>(), [""; 0], "the table has rows that are not tried");
}

#[test]
#[ignore = "takes minutes"]
fn the_table_of_the_docs() {
    if !has_tools() {
        return;
    }
    let host = Host::new();
    // Whether this machine allows every escape where no layer is on.
    let mut complete = true;
    let mut sandboxes = Sandboxes::default();
    let mut table = String::from("| escape |");
    for layer in Layer::ALL {
        write!(table, " {layer} |").unwrap();
    }
    table.push_str(" stopped |\n|---|");
    table.push_str(&"---|".repeat(Layer::ALL.len() + 1));
    table.push('\n');
    for escape in escapes(&host) {
        let name = escape.name;
        let Some(free) = sandboxes.escapes(&escape, []) else { return };
        if !free {
            eprintln!("skipped: this machine stops '{name}' itself");
            complete = false;
            continue;
        }
        assert_eq!(sandboxes.escapes(&escape, Layer::ALL), Some(false), "'{name}' succeeds with every layer on");
        let mut stopping = Vec::new();
        write!(table, "| {name} |").unwrap();
        for layer in Layer::ALL {
            if escape.with.contains(&layer) {
                table.push_str(" needed |");
                continue;
            }
            let Some(escaped) = sandboxes.escapes(&escape, [layer]) else { return };
            if !escaped {
                stopping.push(layer);
            }
            table.push_str(if escaped { "  |" } else { " stops |" });
        }
        table.push_str(" yes |\n");
        assert!(!stopping.is_empty(), "no layer stops '{name}' alone");
        for layer in stopping.iter().copied() {
            let Some(escaped) = sandboxes.escapes(&escape, Layer::ALL.into_iter().filter(|other| *other != layer))
            else {
                return;
            };
            assert_eq!(escaped, stopping.len() == 1, "'{name}' without layer '{layer}'; {stopping:?} stop it alone");
        }
    }
    println!("{table}");
    if let Some(file) = std::env::var_os("SANDBOX_TABLE") {
        fs::write(file, &table).unwrap();
    }
    if complete && nix::unistd::geteuid().is_root() {
        let docs = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/sandbox.md")).unwrap();
        assert!(docs.contains(&table), "docs/sandbox.md holds another table than this one:\n{table}");
    }
}

#[test]
fn the_memory_of_all_processes_is_limited_and_shared_pages_count_once() {
    let Some(sandbox) = sandbox([]) else { return };
    let run = |code: &str| {
        let program = program(&format!("{PRELUDE}\n{code}"), &["escaped"], "assert escaped() is True\n");
        sandbox.run(&program, &Limits { wall: Duration::from_secs(60), ..Limits::default() }).unwrap()
    };
    assert_eq!(run(&many_holders(6, 300 << 20)).failure(), Some(Failure::Memory));
    // Each child has the pages of its parent.
    assert_eq!(run(&format!("shared = b'x' * (300 << 20)\n{}", many_holders(3, 1 << 20))), Verdict::Passed);
}

#[test]
fn a_program_that_ends_early_does_not_pass() {
    let Some(sandbox) = sandbox([]) else { return };
    let tests = "assert f() == 42\n";
    for candidate in [
        "import os\nos._exit(0)\n",
        "import sys\nsys.exit(0)\n",
        "import os\ndef f():\n    os._exit(0)\n",
        "import os\ndef f():\n    os.kill(os.getpid(), 9)\n    os.abort()\n",
        "import os\ndef f():\n    os.killpg(0, 9)\n    os._exit(0)\n",
        "import os\ndef f():\n    os.kill(-1, 9)\n    os._exit(0)\n",
        "import ctypes\ndef f():\n    ctypes.string_at(0)\n",
        "import sys\nsys.setrecursionlimit(1 << 30)\ndef f():\n    return f()\n",
        "import os\ndef f():\n    if os.fork(): os._exit(0)\n    return 42 - 1\n",
        "import threading\ndef f():\n    raise SystemExit\n",
    ] {
        failure(&sandbox, candidate, &["f"], tests);
    }
    // The same server still works.
    assert_eq!(run(&sandbox, "def f():\n    return 42\n", &["f"], tests), Verdict::Passed);
}

#[test]
fn a_program_that_ends_early_does_not_pass_where_the_tests_share_the_process() {
    let Some(sandbox) = sandbox([Layer::Checker]) else { return };
    let ending = "import os\nos._exit(0)\n";
    assert_eq!(failure(&sandbox, ending, &["f"], "assert False\n").0, Failure::Ended);
}

#[test]
fn tests_that_catch_exceptions_do_not_hide_that_the_program_ended() {
    let Some(sandbox) = sandbox([]) else { return };
    let tests = "try:\n    f()\nexcept Exception:\n    pass\n";
    assert_eq!(failure(&sandbox, "import os\ndef f():\n    os._exit(0)\n", &["f"], tests).0, Failure::Ended);
    let tests = "try:\n    f()\nexcept BaseException:\n    pass\n";
    assert_eq!(failure(&sandbox, "import os\ndef f():\n    os._exit(0)\n", &["f"], tests).0, Failure::Ended);
}

#[test]
fn a_program_that_forges_messages_does_not_pass() {
    let Some(sandbox) = sandbox([]) else { return };
    let frame = "import json, os\ndef send(*message):\n    data = json.dumps(message).encode()\n    \
                 os.write(3, len(data).to_bytes(8, 'little') + data)\n";
    for message in [
        "'value', 41",
        "'value', {'m': 0}",
        "'value', {'y': 0}",
        "'value', {'x': 0}",
        "'value', [[[[]]]]",
        "'raise', [], '', None",
        "'raise', [1], 2, 3",
        "'name', 'nonce'",
        "'attribute', 0, '__globals__'",
        "'call', 0, [], []",
        "'layer', 'seccomp: no'",
        "'passed'",
    ] {
        let candidate = format!("{frame}send({message})\nsend({message})\nsend({message})\ndef f():\n    return 41\n");
        failure(&sandbox, &candidate, &["f"], "assert f() == 42\n");
    }
    for bytes in ["b'\\xff' * 16", "b'\\0' * 8", "b'\\2' + b'\\0' * 7 + b'{}'", "b'\\1' + b'\\0' * 7 + b'['"] {
        let candidate = format!("import os\nos.write(3, {bytes})\ndef f():\n    return 41\n");
        failure(&sandbox, &candidate, &["f"], "assert f() == 42\n");
    }
}

#[test]
fn functions_of_the_tests_can_only_be_called() {
    let Some(sandbox) = sandbox([]) else { return };
    for attribute in ["__globals__", "__code__", "__closure__", "__self__"] {
        let candidate = format!("def f(given):\n    return str(given.{attribute})\n");
        let tests = "secret = 'x'\nassert 'secret' in f(lambda: secret)\n";
        assert_eq!(failure(&sandbox, &candidate, &["f"], tests).0, Failure::Exception);
    }
}

#[test]
fn no_earlier_program_is_in_memory() {
    // Without the layers that hide /proc, a program can read all of its own memory, which it has from the server.
    let Some(sandbox) = sandbox([Layer::Root, Layer::Landlock, Layer::Privileges]) else { return };
    let marks = [format!("zq{:016x}", std::process::id()), format!("zq{:016x}", 1_u64 << 40)];
    run(&sandbox, &format!("mark = '{}'\n", marks[0]), &[], &format!("mark = '{}'\n", marks[1]));
    let second = r#"
import re
def f():
    mark, read = re.compile(b"zq([0-9a-f]{16})"), 0
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
        for line in maps.read().splitlines():
            start, end = (int(part, 16) for part in line.split()[0].split("-"))
            if "rw-p" in line and end - start < 1 << 26:
                memory.seek(start)
                try:
                    found = mark.search(memory.read(end - start))
                except OSError:
                    continue
                if found:
                    return found[0].decode()
                read += 1
    return "nothing" if read > 5 else "no memory"
"#;
    let (_, detail) = failure(&sandbox, second, &["f"], "raise ValueError(f())\n");
    assert_eq!(detail, "ValueError: nothing");
}

#[test]
fn a_program_cannot_change_the_next_one() {
    let Some(sandbox) = sandbox([]) else { return };
    let hostile = "import builtins, json, os, sys\njson.dumps = None\nbuiltins.len = None\nos.chmod('/tmp', 0)\n\
                   sys.modules.clear()\n";
    let _ = sandbox.run(&program(hostile, &[], ""), &Limits::default());
    let next = "def f():\n    open('/tmp/x', 'w').write('x')\n    return len('ab')\n";
    assert_eq!(run(&sandbox, next, &["f"], "assert f() == 2\n"), Verdict::Passed);
}

#[test]
#[ignore = "takes minutes"]
fn the_sandbox_confines_an_ordinary_user_too() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    // This test program, as nobody; it is copied to where nobody may run it.
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let copy = directory.path().join("escapes");
    fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    let output = Command::new(copy)
        .args(["--nocapture", "--include-ignored", "the_table_of_the_docs"])
        .env_remove("SANDBOX_TABLE")
        .current_dir("/")
        .uid(65534)
        .gid(65534)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("| fork bomb |") || text.contains("skipped:"), "{text}");
}
