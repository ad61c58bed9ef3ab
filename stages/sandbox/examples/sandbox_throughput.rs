//! Prints how many programs per second the sandbox runs with every layer on, and the CPU time of a program by process.
//!
//! `cargo run --release --example sandbox_throughput -- [PROGRAMS] [THREADS] [PROBLEMS.jsonl]`
//!
//! The programs are one small function, or the reference solutions of a file of problems in HumanEval's format, in turn.

use std::{
    collections::BTreeMap,
    fs,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Instant,
};

use sandbox::{Limits, Program, Sandbox, Settings};
use serde::Deserialize;

#[derive(Deserialize)]
struct Problem {
    prompt: String,
    canonical_solution: String,
    test: String,
    entry_point: String,
}

impl Problem {
    fn program(self) -> Program {
        let Self { prompt, canonical_solution, test, entry_point } = self;
        Program {
            candidate: format!("{prompt}{canonical_solution}\n"),
            tests: format!("{test}\ncheck({entry_point})\n"),
            setup: prompt,
            calls: vec![entry_point],
        }
    }
}

fn small() -> Program {
    Program {
        candidate: "from typing import List\n\n\ndef below_zero(operations: List[int]) -> bool:\n    balance = 0\n    \
                    for operation in operations:\n        balance += operation\n        if balance < 0:\n            \
                    return True\n    return False\n"
            .into(),
        setup: "from typing import List\n".into(),
        calls: vec!["below_zero".into()],
        tests: "def check(candidate):\n    assert candidate([]) == False\n    assert candidate([1, 2, -3, 1, 2, -3]) == \
                False\n    assert candidate([1, 2, -4, 5, 6]) == True\n    assert candidate([1, -1, 2, -2, 5, -5, 4, -4]) \
                == False\n    assert candidate([1, -1, 2, -2, 5, -5, 4, -5]) == True\n    assert candidate([1, -2, 2, -2, \
                5, -5, 4, -4]) == True\n\n\ncheck(below_zero)\n"
            .into(),
    }
}

/// The CPU time in ticks of this process and of those below it, by depth: the host, the servers' parents, the servers, the two zygotes
/// of each; then what the zygotes have waited for, the candidates and the checkers.
fn ticks() -> BTreeMap<&'static str, u64> {
    let mut all = BTreeMap::new();
    let mut level = vec![std::process::id().to_string()];
    for name in ["1 host", "2 parents", "3 servers", "4 zygotes"] {
        let mut next = Vec::new();
        for process in level {
            let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
            let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
            let times: Vec<u64> = fields.split_whitespace().skip(11).take(4).flat_map(str::parse).collect();
            let [user, system, user_below, system_below] = times[..] else { continue };
            *all.entry(name).or_default() += user + system;
            if name == "4 zygotes" {
                *all.entry("5 programs").or_default() += user_below + system_below;
            }
            for task in fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten() {
                let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
                next.extend(children.split_whitespace().map(str::to_owned));
            }
        }
        level = next;
    }
    all
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let count = arguments.next().map_or(Ok(2000), |count| count.parse::<usize>())?;
    let threads = arguments.next().map_or(Ok(4), |threads| threads.parse::<usize>())?;
    let programs = match arguments.next() {
        None => vec![small()],
        Some(file) => {
            let lines = fs::read_to_string(file)?;
            let problems = lines.lines().map(serde_json::from_str::<Problem>).collect::<Result<Vec<_>, _>>()?;
            problems.into_iter().map(Problem::program).collect()
        }
    };
    let sandbox = Sandbox::new(Settings::default())?;
    let limits = Limits::default();
    let next = AtomicUsize::new(0);
    let run = |count: usize| {
        next.store(0, Relaxed);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Relaxed);
                        if number >= count {
                            break;
                        }
                        match sandbox.run(&programs[number % programs.len()], &limits) {
                            Ok(verdict) if verdict.passed() => {}
                            other => eprintln!("unexpected: {other:?}"),
                        }
                    }
                });
            }
        });
    };
    // Every thread's slot starts here.
    run(threads * 4);
    let (start, before) = (Instant::now(), ticks());
    run(count);
    let (seconds, after) = (start.elapsed().as_secs_f64(), ticks());
    println!("{count} programs, {threads} threads: {:.0} programs per second", count as f64 / seconds);
    let mut whole = 0.0;
    for (name, after) in after {
        // A tick is 10 ms on every Linux that is common.
        let milliseconds = (after - before.get(name).copied().unwrap_or(0)) as f64 * 10.0 / count as f64;
        whole += milliseconds;
        print!("{}: {milliseconds:.2}, ", &name[2..]);
    }
    println!("all: {whole:.2} ms of CPU time a program");
    Ok(())
}
