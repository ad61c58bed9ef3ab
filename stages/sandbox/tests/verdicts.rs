//! What a verdict says, and that values cross between the candidate and its tests unchanged.
#![cfg(target_os = "linux")]

mod support;

use std::{collections::BTreeSet, time::Duration};

use sandbox::{Broken, Failure, Layer, Limits, Program, Sandbox, Settings, Unavailable, Verdict};
use support::{failure, program, run, sandbox};

#[test]
fn a_correct_program_passes_and_a_wrong_one_fails() {
    let Some(sandbox) = sandbox([]) else { return };
    let tests = "assert add(2, 3) == 5\nassert add('a', 'b') == 'ab'\n";
    assert_eq!(run(&sandbox, "def add(a, b):\n    return a + b\n", &["add"], tests), Verdict::Passed);
    let (why, detail) = failure(&sandbox, "def add(a, b):\n    return 5\n", &["add"], tests);
    assert_eq!((why, detail.as_str()), (Failure::Assertion, "AssertionError"));
}

#[test]
fn nothing_of_the_working_directory_is_imported() {
    let folder = tempfile::tempdir().unwrap();
    let ran = folder.path().join("ran");
    for module in ["glob", "json", "re", "os", "sitecustomize"] {
        let code = format!("open({:?}, 'w').write(__name__)\n", ran.display().to_string());
        std::fs::write(folder.path().join(format!("{module}.py")), code).unwrap();
    }
    let test = "a_correct_program_passes_and_a_wrong_one_fails";
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test]).current_dir(folder.path());
    for path in [".", folder.path().to_str().unwrap()] {
        let output = command.env("PYTHONPATH", path).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "no test of this name");
        assert!(!ran.exists(), "'{}' was imported", std::fs::read_to_string(&ran).unwrap());
    }
}

#[test]
fn garbage_in_cycles_is_collected() {
    let Some(sandbox) = sandbox([]) else { return };
    // Far more than the limit of memory, of which a little is in use at a time.
    let make = "    for _ in range(2000):\n        item = [bytearray(1 << 20)]\n        item.append(item)\n        \
                [[] for _ in range(2000)]\n";
    let candidate = format!("def f():\n{make}    return 1\n");
    let tests = format!("def g():\n{make}\ng()\nassert f() == 1\n");
    let limits = Limits { cpu: Duration::from_secs(60), wall: Duration::from_secs(120), ..Limits::default() };
    assert_eq!(sandbox.run(&program(&candidate, &["f"], &tests), &limits).unwrap(), Verdict::Passed);
}

#[test]
fn relative_paths_are_in_a_directory_of_the_program() {
    let Some(sandbox) = sandbox([]) else { return };
    let candidate = "import os\ndef f():\n    with open('file', 'x') as file:\n        file.write('text')\n    \
                     return os.listdir('.'), open('/tmp/file').read()\n";
    let tests = "assert f() == (['file'], 'text')\nassert open('file').read() == 'text'\n";
    for _ in 0..2 {
        assert_eq!(run(&sandbox, candidate, &["f"], tests), Verdict::Passed);
    }
}

#[test]
fn each_failure_has_its_kind() {
    let Some(sandbox) = sandbox([]) else { return };
    let tests = "assert f() == 1\n";
    let cases = [
        ("def f(:\n", Failure::Syntax),
        ("def f():\n  return 1\n return 2\n", Failure::Syntax),
        ("def g():\n    return 1\n", Failure::Name),
        ("def f():\n    return missing\n", Failure::Name),
        ("missing\n", Failure::Name),
        ("def f():\n    return 2\n", Failure::Assertion),
        ("def f():\n    assert False, 'own'\n", Failure::Assertion),
        ("def f():\n    return [][1]\n", Failure::Exception),
        ("def f():\n    return f()\n", Failure::Exception),
        ("def f():\n    raise SystemExit(0)\n", Failure::Exception),
        ("def f():\n    return input()\n", Failure::Exception),
        ("raise KeyboardInterrupt\n", Failure::Exception),
        ("def f():\n    return bytearray(1 << 40)\n", Failure::Memory),
        ("def f():\n    open('/new', 'w')\n", Failure::Refused),
        ("import socket\ndef f():\n    socket.socket()\n", Failure::Refused),
        ("import os\nos._exit(0)\n", Failure::Ended),
        ("import os\ndef f():\n    os._exit(0)\n", Failure::Ended),
        ("import os\ndef f():\n    os.close(3)\n", Failure::Ended),
        ("import os\ndef f():\n    os.write(3, b'x' * 100)\n", Failure::Ended),
        ("def f():\n    print('x' * (4 << 20))\n    return 1\n", Failure::Output),
    ];
    for (candidate, expected) in cases {
        let (why, detail) = failure(&sandbox, candidate, &["f"], tests);
        assert_eq!(why, expected, "{candidate}: {detail}");
    }
}

#[test]
fn time_is_limited() {
    let Some(sandbox) = sandbox([]) else { return };
    let limits = Limits { cpu: Duration::from_secs(1), wall: Duration::from_secs(60), ..Limits::default() };
    let looping = program("def f():\n    while True: pass\n", &["f"], "f()\n");
    assert_eq!(sandbox.run(&looping, &limits).unwrap().failure(), Some(Failure::Timeout));
    let looping = program("def f():\n    return 1\n", &["f"], "while f(): pass\n");
    assert_eq!(sandbox.run(&looping, &limits).unwrap().failure(), Some(Failure::Timeout));
    let limits = Limits { wall: Duration::from_millis(300), ..Limits::default() };
    let sleeping = program("import time\ndef f():\n    time.sleep(100)\n", &["f"], "f()\n");
    assert_eq!(sandbox.run(&sleeping, &limits).unwrap().failure(), Some(Failure::Timeout));
}

#[test]
fn a_run_is_stopped_while_the_program_runs() {
    let Some(sandbox) = sandbox([]) else { return };
    // Neither of them would end within the test.
    let limits = Limits { cpu: Duration::from_secs(3600), wall: Duration::from_secs(3600), ..Limits::default() };
    for candidate in ["import time\ndef f():\n    time.sleep(3600)\n", "def f():\n    while True: pass\n"] {
        let asked = std::sync::atomic::AtomicUsize::new(0);
        let stops = || asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) >= 2;
        let stopped = sandbox.run_unless(&stops, &program(candidate, &["f"], "f()\n"), &limits);
        assert!(matches!(stopped, Err(Broken::Stopped)), "{stopped:?}");
        assert_eq!(run(&sandbox, "def f():\n    return 1\n", &["f"], "assert f() == 1\n"), Verdict::Passed);
    }
}

#[test]
fn the_tests_of_a_problem_are_new_for_each_program() {
    let Some(sandbox) = sandbox([]) else { return };
    // The tests change their module, a builtin module and a list that is a constant's copy, and notice what was changed before.
    let tests = "import string\nassert not hasattr(string, 'seen') and 'seen' not in globals() and helper == [1]\n\
                 string.seen = seen = 1\nhelper.append(f())\nassert f() == 2\n";
    let program = |answer: u32| Program {
        setup: "helper = [1]\n".into(),
        ..program(&format!("def f():\n    return {answer}\n"), &["f"], tests)
    };
    for answer in [2, 3, 2, 2, 3] {
        let verdict = sandbox.run(&program(answer), &Limits::default()).unwrap();
        assert_eq!(verdict.failure(), (answer == 3).then_some(Failure::Assertion), "{verdict:?}");
        assert_eq!(verdict.passed(), answer == 2);
    }
}

#[test]
fn tests_of_any_size_and_depth_run_twice() {
    let Some(sandbox) = sandbox([]) else { return };
    // The code of the tests is sent to the host up to 1 MiB: below, about there, and above; and not if it is nested too deeply.
    let mut all: Vec<String> =
        [10, (1 << 20) - 600, (1 << 20) + 600, 3 << 20].map(|size| format!("text = '{}'\n", "x".repeat(size))).into();
    all.push(format!("values = {}1,{}\n", "(".repeat(60), ")".repeat(60)));
    for more in all {
        let tests = format!("{more}assert f() == 1\n");
        for answer in [1, 2, 1] {
            let candidate = format!("def f():\n    return {answer}\n");
            assert_eq!(run(&sandbox, &candidate, &["f"], &tests).passed(), answer == 1, "{} bytes", more.len());
        }
    }
}

#[test]
fn limits_may_be_as_large_as_their_types() {
    let Some(sandbox) = sandbox([]) else { return };
    let limits = Limits {
        cpu: Duration::MAX,
        wall: Duration::MAX,
        memory: u64::MAX,
        disk: u64::from(u32::MAX),
        processes: u32::MAX,
        output: u64::MAX,
        ..Limits::default()
    };
    let program = program("def f():\n    return 1\n", &["f"], "assert f() == 1\n");
    assert_eq!(sandbox.run(&program, &limits).unwrap(), Verdict::Passed);
}

#[test]
fn a_busy_machine_changes_no_verdict() {
    let Some(sandbox) = sandbox([]) else { return };
    let done = std::sync::atomic::AtomicBool::new(false);
    let busy = || {
        while !done.load(std::sync::atomic::Ordering::Relaxed) {
            std::hint::spin_loop();
        }
    };
    let limits = Limits { cpu: Duration::from_secs(20), wall: Duration::from_secs(1), ..Limits::default() };
    let spin = "import time\ndef f():\n    while time.process_time() < 0.7: pass\n    return 1\n";
    let sleep = "import time\ndef f():\n    time.sleep(60)\n    return 1\n";
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let run = |candidate| sandbox.run(&program(candidate, &["f"], "assert f() == 1\n"), &limits).unwrap();
    let [busy, asleep] = std::thread::scope(|scope| {
        // More than a program's share of one second: it gets a sixth of a core.
        (0..5 * cores).for_each(|_| drop(scope.spawn(busy)));
        let verdicts = [run(spin), run(sleep)];
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        verdicts
    });
    assert_eq!((busy, asleep.failure()), (Verdict::Passed, Some(Failure::Timeout)));
}

#[test]
fn values_cross_unchanged() {
    let Some(sandbox) = sandbox([]) else { return };
    let tests = r#"
import math
from collections import OrderedDict
from decimal import Decimal
from fractions import Fraction
values = [
    None, True, 0, -1, 1 << 70, -(1 << 20000), 1.5, -0.0, float("inf"), "text", "\ud800", "\0", b"\0\xff", bytearray(b"x"),
    [1, [2, []]], (1, (2,), ()), {"a": 1, 2: (3,), (4, 5): [6]}, {1, (2, 3)}, frozenset({1}), set(), {}, 1 + 2j,
    Decimal("1.10"), Fraction(1, 3),
]
for value in values:
    back = same(value)
    assert type(back) is type(value) and back == value, repr(value)
assert math.isnan(same(float("nan")))
assert str(same(-0.0)) == "-0.0"
assert same(OrderedDict(a=1)) == {"a": 1}
"#;
    assert_eq!(run(&sandbox, "def same(value):\n    return value\n", &["same"], tests), Verdict::Passed);
}

#[test]
fn arguments_changed_in_place_are_changed_for_the_tests() {
    let Some(sandbox) = sandbox([]) else { return };
    let candidate = "def f(a, b, c):\n    a.sort()\n    b['x'] = [1]\n    c.discard(1)\n";
    let tests = "a, b, c = [3, 1, 2], {}, {1, 2}\nf(a, b, c=c)\nassert (a, b, c) == ([1, 2, 3], {'x': [1]}, {2})\n";
    assert_eq!(run(&sandbox, candidate, &["f"], tests), Verdict::Passed);
}

#[test]
fn objects_of_the_candidate_can_be_used_but_not_trusted() {
    let Some(sandbox) = sandbox([]) else { return };
    let candidate = r#"
from dataclasses import dataclass
@dataclass
class Pair:
    left: int
    right: int
    def total(self):
        return self.left + self.right
    def __eq__(self, other):
        return True
def swap(pair):
    return Pair(pair.right, pair.left)
def numbers():
    yield 1
    yield [2]
def apply(function, value):
    return function(value) + 1
def fail():
    raise KeyError("key")
"#;
    let tests = r#"
pair = swap(Pair(1, 2))
assert (pair.left, pair.right, pair.total()) == (2, 1, 3)
assert not pair == 3 and pair != Pair(2, 1)
assert list(numbers()) == [1, [2]]
assert apply(lambda value: value * 2, 5) == 11
try:
    fail()
    assert False
except KeyError as error:
    assert error.args == ("'key'",)
"#;
    let calls = ["Pair", "swap", "numbers", "apply", "fail"];
    assert_eq!(run(&sandbox, candidate, &calls, tests), Verdict::Passed);
}

#[test]
fn names_of_the_setup_serve_the_tests_and_the_candidate_replaces_only_its_own() {
    let Some(sandbox) = sandbox([]) else { return };
    let setup = "import math\n\ndef helper(x):\n    return x + 1\n\ndef f(x):\n    \"\"\"Adds two.\"\"\"\n";
    let program = Program {
        candidate: "def helper(x):\n    return 'patched'\n\ndef f(x):\n    return x + 2\n".into(),
        setup: setup.into(),
        calls: vec!["f".into()],
        tests: "def check(candidate):\n    assert candidate(1) == helper(2) == math.floor(3.5)\n\ncheck(f)\n".into(),
    };
    assert_eq!(sandbox.run(&program, &Limits::default()).unwrap(), Verdict::Passed);
}

#[test]
fn tests_that_cannot_run_are_an_error_and_not_a_failure() {
    let Some(sandbox) = sandbox([]) else { return };
    for (setup, tests) in [("", "assert f( == 1\n"), ("raise ValueError\n", "")] {
        let program = Program { setup: setup.into(), ..program("def f():\n    return 1\n", &["f"], tests) };
        assert!(matches!(sandbox.run(&program, &Limits::default()), Err(Broken::Tests(_))));
    }
}

#[test]
fn what_hangs_after_the_tests_delays_nothing() {
    let Some(sandbox) = sandbox([]) else { return };
    let candidate = r#"
import atexit, threading, time
class Hang:
    def __del__(self):
        time.sleep(1000)
hang = Hang()
atexit.register(time.sleep, 1000)
threading.Thread(target=time.sleep, args=(1000,)).start()
def f():
    return 1
"#;
    let limits = Limits { wall: Duration::from_secs(20), ..Limits::default() };
    assert_eq!(sandbox.run(&program(candidate, &["f"], "assert f() == 1\n"), &limits).unwrap(), Verdict::Passed);
}

#[test]
fn every_run_is_the_same() {
    let Some(sandbox) = sandbox([]) else { return };
    let candidate =
        "import random\ndef f():\n    raise ValueError(str([random.random(), hash('x'), list({'a', 'b', 'c'})]))\n";
    let first = failure(&sandbox, candidate, &["f"], "f()\n");
    assert_eq!(failure(&sandbox, candidate, &["f"], "f()\n"), first);
    let Some(other) = self::sandbox([]) else { return };
    assert_eq!(failure(&other, candidate, &["f"], "f()\n"), first);
}

#[test]
fn a_sandbox_starts_while_threads_allocate() {
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                std::hint::black_box(vec![0_u8; 100_000]);
            }
        });
        for _ in 0..5 {
            if let Some(sandbox) = sandbox([]) {
                assert_eq!(run(&sandbox, "def f():\n    return 1\n", &["f"], "assert f() == 1\n"), Verdict::Passed);
            }
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn a_program_sees_one_processor() {
    let Some(sandbox) = sandbox([]) else { return };
    let candidate = "import os\ndef f():\n    return os.sched_getaffinity(0), os.cpu_count()\n";
    let tests = "import os\nassert f() == (os.sched_getaffinity(0), 1) and len(f()[0]) == 1\n";
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| assert_eq!(run(&sandbox, candidate, &["f"], tests), Verdict::Passed));
        }
    });
}

#[test]
fn many_threads_share_a_sandbox() {
    let Some(sandbox) = sandbox([]) else { return };
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let sandbox = &sandbox;
            scope.spawn(move || {
                for number in 0..10 {
                    let answer = thread * 100 + number;
                    let candidate = format!("def f():\n    return {answer}\n");
                    let verdict = run(sandbox, &candidate, &["f"], &format!("assert f() == {answer}\n"));
                    assert_eq!(verdict, Verdict::Passed);
                }
            });
        }
    });
}

#[test]
fn a_missing_interpreter_is_reported() {
    let settings = Settings { python: "/nowhere/python3".into(), ..Settings::default() };
    assert!(matches!(Sandbox::new(settings), Err(Unavailable::Python { .. })));
}

#[test]
fn a_layer_that_is_switched_off_is_not_missing() {
    let all: BTreeSet<_> = Layer::ALL.into_iter().collect();
    let Some(sandbox) = sandbox(all) else { return };
    assert_eq!(run(&sandbox, "def f():\n    return 1\n", &["f"], "assert f() == 1\n"), Verdict::Passed);
}

#[test]
fn tests_that_the_machine_kills_are_an_error_and_not_a_failure() {
    let Some(sandbox) = sandbox([]) else { return };
    let candidate = "def f():\n    return 1\n";
    let killed = program(candidate, &["f"], "import os\nos.kill(os.getpid(), 9)\n");
    let verdict = sandbox.run(&killed, &Limits::default());
    assert!(matches!(&verdict, Err(Broken::Server(reason)) if reason.contains("was killed")), "{verdict:?}");
    // A limit that was exceeded is the program's own fault, though its processes are killed, too.
    let limits = Limits { cpu: Duration::from_secs(1), ..Limits::default() };
    let looping = program(candidate, &["f"], "while True: f()\n");
    assert_eq!(sandbox.run(&looping, &limits).unwrap().failure(), Some(Failure::Timeout));
    // Where the tests share the candidate's process, the candidate may have done it.
    if let Some(sandbox) = self::sandbox([Layer::Checker]) {
        assert_eq!(sandbox.run(&killed, &Limits::default()).unwrap().failure(), Some(Failure::Ended));
    }
}
