//! The share of the machine that each running stage gets: threads and memory are counted pools, and `gpu` is a pool for one stage.
//!
//! A stage starts when its memory, at least one thread and, if it computes on the device, the `gpu` pool are free. It gets all free threads
//! if no other stage is ready, else an even share, and never more than it can use. A stage that needs more memory than the whole budget
//! gets the whole budget, and runs when no other stage holds any memory. Shares affect only how long a stage takes.

use std::path::Path;

use contract::{Device, Needs, Resources};

use super::memory;
use crate::manifest::ExecSettings;
use crate::plan::fit::{Available, free_disk};

/// The resources of all stages together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Threads.
    pub threads: usize,
    /// Bytes of memory that stages share.
    pub memory: u64,
    /// The memory that one stage may need, in bytes, if known: all that `[exec]` and the machine allow.
    pub available: Option<u64>,
    /// Whether to run stages that need more than is available.
    pub allow_oversize: bool,
    /// The maximum number of stages at the same time.
    pub jobs: usize,
    /// The compute device.
    pub device: Device,
}

impl Budget {
    /// Returns all cores, half of the machine's memory, and as many stages as threads.
    pub fn of_this_machine() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let available = memory::available();
        let memory = available.unwrap_or(4 << 30) / 2;
        Self { threads, memory, available, allow_oversize: false, jobs: threads, device: Device::Auto }
    }

    /// Returns the settings of `[exec]`, else the values of this machine; the default number of jobs is that of threads.
    pub fn of(exec: &ExecSettings) -> Self {
        let machine = Self::of_this_machine();
        let threads = exec.threads.map_or(machine.threads, usize::from);
        Self {
            threads,
            memory: exec.memory.map_or(machine.memory, |size| size.0),
            available: exec.memory.map(|size| size.0).into_iter().chain(machine.available).min(),
            allow_oversize: false,
            jobs: exec.jobs.map_or(threads, usize::from),
            device: exec.device.unwrap_or(machine.device),
        }
    }

    /// Returns what one stage may use, for a store in `cache`.
    pub fn available(&self, cache: &Path) -> Available {
        Available { memory: self.available, disk: free_disk(cache), device: self.device }
    }
}

/// The free part of a budget.
#[derive(Debug)]
pub(super) struct Pools {
    budget: Budget,
    threads: usize,
    memory: u64,
    jobs: usize,
    gpu: bool,
}

/// What one running stage holds until [`Pools::release`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Share {
    /// The resources that the stage may use.
    pub(super) resources: Resources,
    gpu: bool,
}

impl Pools {
    /// Starts with everything free.
    pub(super) fn new(budget: Budget) -> Self {
        Self { budget, threads: budget.threads, memory: budget.memory, jobs: budget.jobs, gpu: true }
    }

    /// Returns whether no stage can start, whatever its needs.
    pub(super) fn are_empty(&self) -> bool {
        self.jobs == 0 || self.threads == 0
    }

    /// Returns a share for a stage with these needs when `ready` stages, including this one, want to start; `None` if it has to wait.
    pub(super) fn acquire(&mut self, needs: &Needs, ready: usize) -> Option<Share> {
        let memory = needs.memory.min(self.budget.memory);
        if self.are_empty() || memory > self.memory || (needs.gpu && !self.gpu) {
            return None;
        }
        let starting = ready.clamp(1, self.jobs);
        let threads = self.threads.div_ceil(starting).min(needs.threads).max(1);
        self.jobs -= 1;
        self.threads -= threads;
        self.memory -= memory;
        self.gpu &= !needs.gpu;
        Some(Share { resources: Resources { threads, memory, device: self.budget.device }, gpu: needs.gpu })
    }

    /// Frees a share.
    pub(super) fn release(&mut self, share: Share) {
        self.jobs += 1;
        self.threads += share.resources.threads;
        self.memory += share.resources.memory;
        self.gpu |= share.gpu;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::ByteSize;

    const BUDGET: Budget =
        Budget { threads: 4, memory: 1000, available: None, allow_oversize: false, jobs: 3, device: Device::Cpu };

    fn needs(threads: usize, memory: u64, gpu: bool) -> Needs {
        Needs { threads, memory, gpu }
    }

    #[test]
    fn no_setting_gives_a_stage_more_memory_than_the_machine_has() {
        let of = |memory| Budget::of(&ExecSettings { memory: Some(ByteSize(memory)), ..ExecSettings::default() });
        let machine = Budget::of_this_machine().available;
        assert_eq!(of(u64::MAX).available, Some(machine.unwrap_or(u64::MAX)));
        assert_eq!(of(1).available, Some(1));
    }

    #[test]
    fn a_lone_stage_gets_all_threads_and_two_share_them() {
        let mut pools = Pools::new(BUDGET);
        let all = pools.acquire(&needs(usize::MAX, 10, false), 1).unwrap();
        assert_eq!(all.resources.threads, 4);
        pools.release(all);
        let half = pools.acquire(&needs(usize::MAX, 10, false), 2).unwrap();
        let rest = pools.acquire(&needs(usize::MAX, 10, false), 1).unwrap();
        assert_eq!((half.resources.threads, rest.resources.threads), (2, 2));
        assert_eq!(pools.acquire(&needs(1, 10, false), 1), None, "no thread is left");
    }

    #[test]
    fn the_gpu_pool_has_depth_one() {
        let mut pools = Pools::new(BUDGET);
        let first = pools.acquire(&needs(1, 10, true), 2).unwrap();
        assert_eq!(pools.acquire(&needs(1, 10, true), 1), None);
        assert!(pools.acquire(&needs(1, 10, false), 1).is_some());
        pools.release(first);
        assert!(pools.acquire(&needs(1, 10, true), 1).is_some());
    }

    #[test]
    fn a_stage_larger_than_the_budget_runs_alone() {
        let mut pools = Pools::new(BUDGET);
        let small = pools.acquire(&needs(1, 1, false), 2).unwrap();
        assert_eq!(pools.acquire(&needs(1, 5000, false), 1), None);
        pools.release(small);
        assert_eq!(pools.acquire(&needs(1, 5000, false), 1).unwrap().resources.memory, 1000);
    }
}
