//! What a command sees in its sandbox, and how it ends.
#![cfg(target_os = "linux")]

use std::{
    fs, io,
    os::unix::{fs::MetadataExt, process::CommandExt, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
};

use sandbox::{CommandSandbox, Layer, Reach, Unavailable};
use tempfile::TempDir;

/// A directory for a command, and files beside it.
struct Fixture {
    folder: TempDir,
    reach: Reach,
}

/// How a command ended.
struct Ended {
    status: ExitStatus,
    output: String,
    undeclared: Vec<PathBuf>,
}

impl Fixture {
    /// Returns `None` where the kernel has no sandbox.
    fn new() -> Option<Self> {
        match CommandSandbox::check() {
            Ok(layers) => assert_eq!(layers, Layer::OF_COMMANDS),
            Err(reason @ (Unavailable::System | Unavailable::Layers(_))) => {
                eprintln!("skipped: {reason}");
                return None;
            }
            Err(error) => panic!("{error}"),
        }
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| {
            let path = folder.path().canonicalize().unwrap().join(name);
            fs::create_dir(&path).unwrap();
            path
        };
        let reach = Reach { directory: place("work"), temporary: place("tmp"), ..Reach::default() };
        Some(Self { folder, reach })
    }

    /// Makes a file beside the directory of the command.
    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.path().canonicalize().unwrap().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// Runs a script in `sh`.
    fn shell(&self, script: &str) -> Ended {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        self.run(command).unwrap()
    }

    fn run(&self, mut command: Command) -> io::Result<Ended> {
        let sandbox = CommandSandbox::new(self.reach.clone()).unwrap();
        command.env_clear().env("PATH", "/usr/bin:/bin").process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let supervisor = sandbox.confine(&mut command).unwrap();
        let output = command.output();
        let undeclared = supervisor.finish();
        sandbox.take_back().unwrap();
        let output = output?;
        let text = [output.stdout, output.stderr].concat();
        Ok(Ended { status: output.status, output: String::from_utf8(text).unwrap(), undeclared })
    }
}

#[test]
fn a_command_sees_what_is_declared_and_the_system() {
    let Some(mut fixture) = Fixture::new() else { return };
    let (declared, other) = (fixture.file("declared", "one\n"), fixture.file("other", "two\n"));
    fixture.reach.readable = vec![declared.clone()];
    let ended = fixture.shell(&format!("cat {}; cat {}; ls .. /home /root", declared.display(), other.display()));
    assert!(ended.output.starts_with("one\n..:\ndeclared\nwork\n"), "{}", ended.output);
    let missing = ended.output.lines().filter(|line| line.contains("No such file or directory")).count();
    assert_eq!(missing, 3, "{}", ended.output);
    assert_eq!(ended.undeclared, [other]);
}

#[test]
fn relative_paths_programs_and_directories_that_are_not_seen_are_named() {
    let Some(fixture) = Fixture::new() else { return };
    let (other, program) = (fixture.file("other", "two\n"), fixture.file("program", "#!/bin/sh\n"));
    let looked_for = fixture.file("looked-for", "");
    let folder = fixture.folder.path().canonicalize().unwrap().join("folder");
    fs::create_dir(&folder).unwrap();
    let script = format!(
        "cat ../other ../nothing; {0}; {0}-none; [ -e {1} ] && echo; : <{2}; ls -d .; cat /proc/self/nothing /sys/kernel/notes",
        program.display(),
        looked_for.display(),
        folder.display(),
    );
    assert_eq!(fixture.shell(&script).undeclared, [folder, looked_for, other, program]);
}

#[test]
fn every_call_that_takes_the_path_of_a_file_names_it() {
    let Some(fixture) = Fixture::new() else { return };
    let calls = [
        "os.stat(path)",
        "os.access(path, 0)",
        "os.readlink(path)",
        "os.getxattr(path, 'user.x')",
        "os.getxattr(path, 'user.x', follow_symlinks=False)",
        "os.listxattr(path)",
        "os.listxattr(path, follow_symlinks=False)",
        "os.truncate(path, 0)",
        "os.utime(path)",
        "os.link(path, 'other')",
        "os.rename(path, 'other')",
        "os.rename(os.path.basename(path), 'other', src_dir_fd=folder)",
        "os.statvfs(path)",
        "libc.statfs(path.encode(), buffer)",
        "libc.inotify_add_watch(libc.inotify_init(), path.encode(), 1)",
        "os.execv(path, ['x'])",
        "open(path)",
    ];
    let names: Vec<_> = (0..calls.len()).map(|number| fixture.file(&format!("f{number:02}"), "")).collect();
    let directory = fixture.folder.path().canonicalize().unwrap().join("z");
    fs::create_dir(&directory).unwrap();
    let mut script = "import ctypes, os\nlibc = ctypes.CDLL(None)\nbuffer = ctypes.create_string_buffer(512)\n\
                      folder = os.open('..', os.O_PATH)\n"
        .to_owned();
    for (call, path) in calls.iter().zip(&names) {
        script += &format!("path = {path:?}\ntry:\n    {call}\nexcept OSError:\n    pass\n");
    }
    script += &format!("try:\n    os.chdir({directory:?})\nexcept OSError:\n    pass\nprint('done')\n");
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", &script]);
    let ended = fixture.run(command).unwrap();
    assert_eq!(ended.output, "done\n");
    assert_eq!(ended.undeclared, [names, vec![directory]].concat());
}

#[test]
fn a_command_writes_only_where_it_may() {
    let Some(mut fixture) = Fixture::new() else { return };
    let declared = fixture.file("declared", "one\n");
    let log = fixture.file("log", "");
    let kept = fixture.reach.directory.join("in");
    fs::create_dir(&kept).unwrap();
    fs::write(kept.join("input"), "input\n").unwrap();
    fixture.reach.readable = vec![declared.clone()];
    fixture.reach.writable = vec![log.clone()];
    fixture.reach.protected = vec![kept.clone()];
    let script = format!(
        "for place in out /tmp/out /dev/shm/out {} {} in/new in/input /usr/new /new; do \
         echo x 2>/dev/null >$place && echo $place; done; rm -f in/input 2>/dev/null || echo kept",
        log.display(),
        declared.display()
    );
    let ended = fixture.shell(&script);
    assert_eq!(ended.output, format!("out\n/tmp/out\n/dev/shm/out\n{}\nkept\n", log.display()));
    assert_eq!(fs::read_to_string(&declared).unwrap(), "one\n");
    assert_eq!(fs::read_to_string(kept.join("input")).unwrap(), "input\n");
    let written = fixture.reach.directory.join("out");
    assert_eq!(fs::read_to_string(&written).unwrap(), "x\n");
    assert_eq!(fs::metadata(written).unwrap().uid(), nix::unistd::geteuid().as_raw(), "it is the caller's again");
}

#[test]
fn a_command_ends_with_its_own_status_or_signal() {
    let Some(fixture) = Fixture::new() else { return };
    assert_eq!(fixture.shell("exit 7").status.code(), Some(7));
    assert!(fixture.shell(":").status.success());
    for signal in [libc::SIGSEGV, libc::SIGTERM, libc::SIGKILL] {
        assert_eq!(fixture.shell(&format!("kill -{signal} $$; sleep 100")).status.signal(), Some(signal));
    }
}

#[test]
fn a_program_that_is_not_there_is_an_error_of_its_start() {
    let Some(fixture) = Fixture::new() else { return };
    let error = fixture.run(Command::new("/nowhere/program")).map(|ended| ended.status).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}

#[test]
fn what_a_command_leaves_running_is_gone_when_it_has_ended() {
    let Some(fixture) = Fixture::new() else { return };
    let held = fixture.file("held", "");
    let mut fixture = fixture;
    fixture.reach.writable = vec![held.clone()];
    // The lock is held as long as the process runs that leaves the session and the group.
    let script = format!(
        "setsid sh -c 'flock -x 9; echo > ready; sleep 1000' 9>{} & until [ -e ready ]; do :; done",
        held.display()
    );
    let ended = fixture.shell(&(script + " 2>/dev/null >/dev/null"));
    assert!(ended.status.success(), "{}", ended.output);
    fs::File::open(&held).unwrap().try_lock().unwrap();
}

#[test]
fn a_command_ends_with_a_caller_that_is_killed() {
    const HELD: &str = "SANDBOX_TEST_HELD";
    let Some(mut fixture) = Fixture::new() else { return };
    if let Some(held) = std::env::var_os(HELD) {
        // The caller. The loop makes no system call that would fail for want of a supervisor; the limit ends a loop that is left.
        let held = PathBuf::from(held);
        fixture.reach.writable = vec![held.clone()];
        let script = "exec 9>>{}; flock -x 9; ulimit -t 100; echo x >&9; while :; do :; done";
        fixture.shell(&script.replace("{}", &held.display().to_string()));
        return;
    }
    let held = fixture.file("held", "");
    let mut caller = Command::new(std::env::current_exe().unwrap());
    caller.args(["--exact", "a_command_ends_with_a_caller_that_is_killed"]).env(HELD, &held);
    let mut caller = caller.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let pause = || std::thread::sleep(std::time::Duration::from_millis(10));
    while fs::read_to_string(&held).unwrap().is_empty() {
        assert!(caller.try_wait().unwrap().is_none(), "the command did not start");
        pause();
    }
    caller.kill().unwrap();
    caller.wait().unwrap();
    let file = fs::File::open(&held).unwrap();
    let is_free = (0..2000).any(|_| {
        file.try_lock().is_ok() || {
            pause();
            false
        }
    });
    assert!(is_free, "the command outlives its caller");
}

#[test]
fn a_command_has_no_network_no_host_name_and_no_other_process() {
    let Some(fixture) = Fixture::new() else { return };
    if !Path::new("/usr/bin/python3").exists() {
        eprintln!("skipped: there is no /usr/bin/python3");
        return;
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let script = format!(
        r#"
import ctypes, os, socket
libc = ctypes.CDLL(None, use_errno=True)
def tried(action):
    try:
        return action() not in (None, -1)
    except OSError:
        return False
print(tried(lambda: socket.create_connection(("127.0.0.1", {port}), 5)))
print(socket.gethostname())
print(os.getpid() < 10, os.path.exists("/proc/{host}"), os.path.exists("/proc/self"))
print(tried(lambda: libc.unshare(0x10000000)), tried(lambda: libc.mount(b"x", b"/tmp", b"tmpfs", 0, None)))
print(tried(lambda: libc.syscall(101, 16, os.getppid(), 0, 0)), tried(lambda: open("/proc/1/environ").read()))
print(open("/proc/self/status").read().split("CapEff:")[1].split()[0], os.getuid() != 0)
print(sorted(os.environ))
"#,
        port = listener.local_addr().unwrap().port(),
        host = u32::MAX,
    );
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", &script]);
    let ended = fixture.run(command).unwrap();
    let expected =
        "False\nsandbox\nTrue False True\nFalse False\nFalse False\n0000000000000000 True\n['LC_CTYPE', 'PATH']\n";
    assert_eq!(ended.output, expected);
    assert_eq!(ended.undeclared, [] as [&Path; 0]);
}

#[test]
fn the_supervisor_sees_every_thread_and_what_it_starts() {
    let Some(fixture) = Fixture::new() else { return };
    let names: Vec<_> = (0..50).map(|number| fixture.file(&format!("f{number:02}"), "")).collect();
    let opened: Vec<_> = names.iter().map(|name| format!("cat {} &", name.display())).collect();
    let ended = fixture.shell(&format!("{}\nwait", opened.join("\n")));
    assert_eq!(ended.undeclared, names);
}

#[test]
fn a_sandbox_that_starts_nothing_ends() {
    let Some(fixture) = Fixture::new() else { return };
    let sandbox = CommandSandbox::new(fixture.reach.clone()).unwrap();
    let mut command = Command::new("/bin/sh");
    let supervisor = sandbox.confine(&mut command).unwrap();
    assert_eq!(supervisor.finish(), [] as [&Path; 0]);
}

#[test]
fn what_a_command_may_write_is_given_and_taken_back_without_following_links() {
    let Some(mut fixture) = Fixture::new() else { return };
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let (other, log) = (fixture.file("other", ""), fixture.file("log", ""));
    let folder = fixture.reach.directory.join("a/b");
    fs::create_dir_all(&folder).unwrap();
    let (file, kept, link) = (folder.join("file"), folder.join("kept"), folder.join("link"));
    fs::write(&file, "").unwrap();
    fs::create_dir(&kept).unwrap();
    fs::write(kept.join("input"), "").unwrap();
    std::os::unix::fs::symlink(&other, &link).unwrap();
    std::os::unix::fs::symlink("/", folder.join("folder")).unwrap();
    fixture.reach.writable = vec![log.clone()];
    fixture.reach.protected = vec![kept.clone()];
    let owners = || [&log, &folder, &file, &kept, &link].map(|path| fs::symlink_metadata(path).unwrap().uid());
    let sandbox = CommandSandbox::new(fixture.reach.clone()).unwrap();
    let mut command = Command::new("/bin/sh");
    let supervisor = sandbox.confine(&mut command).unwrap();
    assert_eq!(owners(), [65534; 5]);
    let others = [other, kept.join("input"), "/".into()].map(|path| fs::metadata(path).unwrap().uid());
    assert_eq!(others, [0; 3]);
    drop(command);
    supervisor.finish();
    drop(sandbox);
    assert_eq!(owners(), [0; 5]);
}

#[test]
fn an_ordinary_user_has_the_same_sandbox() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    // This test program, as nobody; it is copied to where nobody may run it.
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let copy = directory.path().join("commands");
    fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    let output = Command::new(copy).args(["--nocapture"]).current_dir("/").uid(65534).gid(65534).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
}
