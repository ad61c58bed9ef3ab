//! Prints how many small programs per second the sandbox runs, with every layer on.
//!
//! `cargo run --release --example sandbox_throughput -- [PROGRAMS] [THREADS]`

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Instant,
};

use sandbox::{Limits, Program, Sandbox, Settings};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut numbers = std::env::args().skip(1).map(|number| number.parse::<usize>());
    let programs = numbers.next().transpose()?.unwrap_or(2000);
    let threads = numbers.next().transpose()?.unwrap_or(4);
    let program = Program {
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
    };
    let sandbox = Sandbox::new(Settings::default())?;
    let limits = Limits::default();
    let next = AtomicUsize::new(0);
    let run = |count: usize| {
        next.store(0, Relaxed);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while next.fetch_add(1, Relaxed) < count {
                        match sandbox.run(&program, &limits) {
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
    let start = Instant::now();
    run(programs);
    let seconds = start.elapsed().as_secs_f64();
    println!("{programs} programs, {threads} threads: {:.0} programs per second", programs as f64 / seconds);
    Ok(())
}
