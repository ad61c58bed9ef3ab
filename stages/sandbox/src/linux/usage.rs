//! The processor usage of running processes, from `/proc`.
//!
//! | | where | |
//! |---|---|---|
//! | CPU time | `utime` and `stime` of `/proc/PID/stat` | exact: the kernel scales its ticks to the time that the scheduler measured, and threads that ended count |
//! | time spent waiting for a processor | the second number of `/proc/PID/task/TID/schedstat`, in nanoseconds | elapsed time that a busy machine took, not the program |
//!
//! The kernel's own limit of CPU time counts ticks without that scale: on a busy machine it is ahead by a fifth and more. So it
//! is only the second line, and the host looks here. Where `/proc` says nothing, both are zero.

use std::{collections::BTreeSet, fs, time::Duration};

use nix::unistd::{SysconfVar, sysconf};

/// The maximum number of processes to examine: the limits of a program allow far fewer.
const MOST_PROCESSES: usize = 4096;

/// Returns the processes below `root`, and itself.
pub(super) fn tree(root: u32) -> BTreeSet<u32> {
    let mut found = BTreeSet::from([root]);
    let mut unvisited = vec![root];
    while let Some(process) = unvisited.pop() {
        for task in tasks(process) {
            let children = fs::read_to_string(format!("/proc/{process}/task/{task}/children")).unwrap_or_default();
            for child in children.split_whitespace().filter_map(|child| child.parse().ok()) {
                if found.len() < MOST_PROCESSES && found.insert(child) {
                    unvisited.push(child);
                }
            }
        }
    }
    found
}

/// Returns the CPU time of a process.
pub(super) fn used(process: u32) -> Duration {
    let ticks = || {
        let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        // The name before it may hold anything, parentheses too.
        let (_, fields) = text.rsplit_once(')')?;
        let mut times = fields.split_whitespace().skip(11).map(str::parse::<u64>);
        Some(times.next()?.ok()? + times.next()?.ok()?)
    };
    let a_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100).max(1) as u64;
    Duration::from_millis(ticks().unwrap_or(0).saturating_mul(1000) / a_second)
}

/// Returns how long the tasks of these processes have waited for a processor, together.
pub(super) fn waited(processes: impl Iterator<Item = u32>) -> Duration {
    let waited = |process: u32, task: u32| {
        let text = fs::read_to_string(format!("/proc/{process}/task/{task}/schedstat")).ok()?;
        text.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    let nanoseconds = |process| tasks(process).filter_map(move |task| waited(process, task)).sum::<u64>();
    Duration::from_nanos(processes.map(nanoseconds).sum())
}

fn tasks(process: u32) -> impl Iterator<Item = u32> {
    let entries = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}
