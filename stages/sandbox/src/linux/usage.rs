//! The processor time and the memory of running processes, from `/proc`.
//!
//! | value | source | accuracy |
//! |---|---|---|
//! | processor time | `utime` and `stime` of `/proc/PID/stat` | exact: the kernel scales its ticks to the time that the scheduler measured, and threads that ended count |
//! | memory | `Pss` of `/proc/PID/smaps_rollup` | pages in memory, a shared one divided among those that share it |
//! | memory, quickly | the second number of `/proc/PID/statm`, in pages | an upper bound: counts shared pages in full |
//! | time spent waiting for a processor | the second number of `/proc/PID/task/TID/schedstat`, in nanoseconds | elapsed time caused by a busy machine, not by the program |
//!
//! The kernel's own limit of processor time counts ticks without that scaling: on a busy machine it is ahead by a fifth or more. So it is
//! only a second line of defence, and the host checks the time here. If `/proc` has no values, all are zero.
//!
//! A process that ended is in no file, and if its parent ignores `SIGCHLD`, its time is in no later report either: [`Spent`] keeps it.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    time::Duration,
};

use nix::unistd::{SysconfVar, sysconf};

/// The maximum number of processes to examine: the limits of a program allow far fewer.
const MOST_PROCESSES: usize = 4096;

/// Returns the processes below `root`, and itself.
pub(super) fn tree(root: u32) -> BTreeSet<u32> {
    let mut found = below(root, &BTreeSet::new());
    found.insert(root);
    found
}

/// Returns the processes below `root`, without `others` and their descendants.
pub(super) fn below(root: u32, others: &BTreeSet<u32>) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    let mut unvisited = vec![root];
    while let Some(process) = unvisited.pop() {
        for task in tasks(process) {
            let children = fs::read_to_string(format!("/proc/{process}/task/{task}/children")).unwrap_or_default();
            for child in children.split_whitespace().filter_map(|child| child.parse().ok()) {
                if found.len() < MOST_PROCESSES && !others.contains(&child) && found.insert(child) {
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
        // The name before it may contain anything, including parentheses.
        let (_, fields) = text.rsplit_once(')')?;
        let mut times = fields.split_whitespace().skip(11).map(str::parse::<u64>);
        Some(times.next()?.ok()? + times.next()?.ok()?)
    };
    let a_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100).max(1) as u64;
    Duration::from_millis(ticks().unwrap_or(0).saturating_mul(1000) / a_second)
}

/// The CPU time of the processes of one program, including those that ended after they were seen.
#[derive(Default)]
pub(super) struct Spent {
    /// The time of each process that was there at the last look.
    seen: HashMap<u32, Duration>,
    /// The time of those that have ended since.
    ended: Duration,
}

impl Spent {
    /// Looks at the program's processes again; returns the time of all of them until now.
    pub fn look(&mut self, processes: impl Iterator<Item = (u32, Duration)>) -> Duration {
        let mut before = std::mem::take(&mut self.seen);
        for (process, used) in processes {
            match before.remove(&process) {
                // The number belongs to another process now.
                Some(earlier) if earlier > used => self.ended += earlier,
                _ => {}
            }
            self.seen.insert(process, used);
        }
        self.ended += before.into_values().sum::<Duration>();
        self.ended + self.seen.values().sum::<Duration>()
    }
}

/// Returns whether the given processes together use more memory than `limit`.
pub(super) fn holds_more(processes: &BTreeSet<u32>, limit: u64) -> bool {
    let total = |of: fn(u32) -> u64| processes.iter().fold(0, |sum: u64, process| sum.saturating_add(of(*process)));
    total(resident) > limit && total(proportional) > limit
}

/// Returns the size of a process's pages in memory, in bytes.
fn resident(process: u32) -> u64 {
    let pages = || {
        let text = fs::read_to_string(format!("/proc/{process}/statm")).ok()?;
        text.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().unwrap_or(4096).max(1) as u64;
    pages().unwrap_or(0).saturating_mul(page)
}

/// Returns the same, with each page divided among the processes that share it, if the kernel reports this.
fn proportional(process: u32) -> u64 {
    let kilobytes = || {
        let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    kilobytes().map_or_else(|| resident(process), |kilobytes| kilobytes.saturating_mul(1024))
}

/// Returns the total time that the tasks of the given processes have waited for a processor.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_processes_that_ended_counts() {
        let mut spent = Spent::default();
        let mut look = |processes: &[(u32, u64)]| {
            spent.look(processes.iter().map(|(process, used)| (*process, Duration::from_millis(*used)))).as_millis()
        };
        assert_eq!(look(&[]), 0);
        assert_eq!(look(&[(1, 10), (2, 20)]), 30);
        assert_eq!(look(&[(1, 15), (2, 20)]), 35);
        assert_eq!(look(&[(1, 15), (3, 5)]), 40, "2 has ended");
        assert_eq!(look(&[(1, 15), (3, 1)]), 41, "3 is another process");
        assert_eq!(look(&[]), 41);
    }
}
