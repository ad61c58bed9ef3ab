//! The system call filters of confined processes.
//!
//! The filter of a Python program is an allowlist. Every other call fails with `ENOSYS`, as if the kernel did
//! not have it, so that libraries fall back to older calls (the C library from `clone3`, whose flags a filter cannot
//! read, to `clone`, whose flags it can).
//!
//! Not in the list, among others: sockets except pairs, starting programs, mounts, namespaces, tracing and reading other processes, keys,
//! BPF (also as a socket filter), locks and leases of files, io_uring, performance events, userfaultfd, anonymous files (no limit bounds
//! their memory), System V objects, message queues, terminals, `prctl`.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen as Length, SeccompCmpOp as Compare, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};

#[cfg(target_arch = "x86_64")]
use super::calls::ALLOWED_X86_64;
use super::calls::{ALLOWED, DENIED, LOOKING, OPENING};

/// Returns the filter of a Python program as the kernel's instructions, eight bytes each.
pub(super) fn of_python() -> Result<Vec<u8>, BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = ALLOWED.iter().map(|call| (*call, Vec::new())).collect();
    #[cfg(target_arch = "x86_64")]
    rules.extend(ALLOWED_X86_64.iter().map(|call| (*call, Vec::new())));
    // No new namespaces.
    let namespaces = NAMESPACES.iter().fold(0, |all, flag| all | *flag as u32 as u64);
    rules.insert(libc::SYS_clone, vec![only(0, Compare::MaskedEq(namespaces), 0)?]);
    // Connected socket pairs of this machine. Datagram pairs could send to any other address.
    let stream = SeccompRule::new(vec![
        SeccompCondition::new(0, Length::Dword, Compare::Eq, libc::AF_UNIX as u64)?,
        SeccompCondition::new(1, Length::Dword, Compare::MaskedEq(0xf), libc::SOCK_STREAM as u64)?,
    ])?;
    rules.insert(libc::SYS_socketpair, vec![stream]);
    // A process's own limits, which can only be lowered: the hard limits are equally low.
    rules.insert(libc::SYS_prlimit64, vec![only(0, Compare::Eq, 0)?]);
    // Any signal but that of a child's end: a process that ignores it would have children whose CPU time is counted nowhere. It may be read
    // (the new action is a null pointer).
    let read = SeccompRule::new(vec![SeccompCondition::new(1, Length::Qword, Compare::Eq, 0)?])?;
    rules.insert(libc::SYS_rt_sigaction, vec![only(0, Compare::Ne, libc::SIGCHLD as u64)?, read]);
    // Whether a file is a terminal, how much can be read, and descriptor flags.
    let controls = [libc::TCGETS, libc::TIOCGWINSZ, libc::FIONREAD, libc::FIONBIO, libc::FIOCLEX, libc::FIONCLEX];
    let controls = controls.iter().map(|control| only(1, Compare::Eq, *control as u32 as u64));
    rules.insert(libc::SYS_ioctl, controls.collect::<Result<_, _>>()?);
    let commands = DESCRIPTOR_COMMANDS.iter().map(|command| only(1, Compare::Eq, *command as u64));
    rules.insert(libc::SYS_fcntl, commands.collect::<Result<_, _>>()?);
    let options = SOCKET_OPTIONS.iter().map(|option| {
        let level = SeccompCondition::new(1, Length::Dword, Compare::Eq, libc::SOL_SOCKET as u64)?;
        SeccompRule::new(vec![level, SeccompCondition::new(2, Length::Dword, Compare::Eq, *option as u64)?])
    });
    rules.insert(libc::SYS_setsockopt, options.collect::<Result<_, _>>()?);
    let program = compiled(rules, SeccompAction::Errno(libc::ENOSYS as u32), SeccompAction::Allow)?;
    Ok(program
        .iter()
        .flat_map(|step| {
            let mut bytes = [0; 8];
            bytes[..2].copy_from_slice(&step.code.to_ne_bytes());
            bytes[2..4].copy_from_slice(&[step.jt, step.jf]);
            bytes[4..].copy_from_slice(&step.k.to_ne_bytes());
            bytes
        })
        .collect())
}

/// Returns the filter of a command: calls for administration, for namespaces and for other processes' memory fail with `ENOSYS`, as does
/// io_uring, which could open files unseen by [`watch`].
pub(super) fn of_command() -> Result<Vec<libc::sock_filter>, BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = DENIED.iter().map(|call| (*call, Vec::new())).collect();
    // The flags of `clone3` cannot be read; the C library falls back to `clone`.
    rules.insert(libc::SYS_clone3, Vec::new());
    let namespaces = NAMESPACES.iter().map(|flag| *flag as u32 as u64);
    let namespaces = namespaces.map(|flag| only(0, Compare::MaskedEq(flag), flag));
    rules.insert(libc::SYS_clone, namespaces.collect::<Result<_, _>>()?);
    let families = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
    let other = families.map(|family| SeccompCondition::new(0, Length::Dword, Compare::Ne, family as u64));
    rules.insert(libc::SYS_socket, vec![SeccompRule::new(other.into_iter().collect::<Result<_, _>>()?)?]);
    // Input for a terminal.
    let controls = [libc::TIOCSTI, TIOCLINUX].map(|control| only(1, Compare::Eq, control as u32 as u64));
    rules.insert(libc::SYS_ioctl, controls.into_iter().collect::<Result<_, _>>()?);
    let program = compiled(rules, SeccompAction::Allow, SeccompAction::Errno(libc::ENOSYS as u32))?;
    let instruction =
        |step: &seccompiler::sock_filter| libc::sock_filter { code: step.code, jt: step.jt, jf: step.jf, k: step.k };
    Ok(program.iter().map(instruction).collect())
}

/// Returns a filter that reports each call of [`OPENING`] and [`LOOKING`]; the call waits for the reply. Calls of
/// the x32 ABI, whose numbers are in neither list, fail with `ENOSYS`.
pub(super) fn watch() -> Vec<libc::sock_filter> {
    let step = |code: u32, yes: u8, value: u32| libc::sock_filter { code: code as u16, jt: yes, jf: 0, k: value };
    let calls: Vec<_> = OPENING.iter().chain(LOOKING).collect();
    let count = calls.len() as u8;
    let mut steps = vec![
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, count + 2, X32_CALLS),
    ];
    for (place, call) in (0..).zip(&calls) {
        steps.push(step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, count - place, **call as u32));
    }
    let results =
        [libc::SECCOMP_RET_ALLOW, libc::SECCOMP_RET_USER_NOTIF, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32];
    steps.extend(results.map(|result| step(libc::BPF_RET | libc::BPF_K, 0, result)));
    steps
}

fn only(argument: u8, compare: Compare, value: u64) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(argument, Length::Dword, compare, value)?])
}

fn compiled(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    others: SeccompAction,
    matching: SeccompAction,
) -> Result<BpfProgram, BackendError> {
    let target = TargetArch::try_from(std::env::consts::ARCH)?;
    SeccompFilter::new(rules, others, matching, target)?.try_into()
}

const NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

/// The first number of a system call of the x32 ABI, which has the same architecture value as x86-64.
const X32_CALLS: u32 = 0x4000_0000;

/// The `fcntl` commands for Python programs: copies of descriptors, and their flags. Not locks, leases and notifications, through which two
/// running programs could communicate by a file that both may read; nor the size of a pipe.
const DESCRIPTOR_COMMANDS: [libc::c_int; 7] = [
    libc::F_DUPFD,
    libc::F_DUPFD_CLOEXEC,
    libc::F_GETFD,
    libc::F_SETFD,
    libc::F_GETFL,
    libc::F_SETFL,
    libc::F_GETPIPE_SZ,
];

/// The socket options that Python programs may set. Not filters, which are programs for the kernel.
const SOCKET_OPTIONS: [libc::c_int; 5] =
    [libc::SO_REUSEADDR, libc::SO_SNDBUF, libc::SO_RCVBUF, libc::SO_SNDTIMEO, libc::SO_RCVTIMEO];

/// The request that pastes into a virtual console.
const TIOCLINUX: libc::Ioctl = 0x541C;
