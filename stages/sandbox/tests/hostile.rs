//! Candidates that want to pass without being right, or to disturb the next program: the design of the verdict stops them, not a
//! layer.
#![cfg(target_os = "linux")]

mod support;

use std::time::Duration;

use sandbox::{Failure, Layer, Limits, Verdict};
use support::{failure, program, run, sandbox};

#[test]
fn a_false_value_is_the_plain_value_below_it() {
    let Some(sandbox) = sandbox([]) else { return };
    let answers = [
        ("int", "Any(7)"),
        ("float", "Any(7.5)"),
        ("str", "Any('7')"),
        ("tuple", "Any((7,))"),
        ("dict", "Any(a=7)"),
        ("set", "Any({7})"),
        ("bytes", "Any(b'7')"),
        ("list", "[Any([7])]"),
        ("int", "{'a': (Any(7),)}"),
        ("complex", "Any(7, 1)"),
    ];
    let names = ["eq", "ne", "lt", "gt", "le", "ge", "sub", "rsub", "add", "radd", "abs", "bool", "index", "contains"];
    for (base, answer) in answers {
        let mut candidate = format!("class Any({base}):\n    __hash__ = {base}.__hash__\n");
        for name in names {
            candidate += &format!("    def __{name}__(self, *rest):\n        return 42\n");
        }
        candidate += &format!("def f():\n    return {answer}\n");
        let tests = "answer = f()\nassert answer == 42 or answer == [42] or answer == {'a': (42,)}\n";
        let (why, detail) = failure(&sandbox, &candidate, &["f"], tests);
        assert_eq!(why, Failure::Assertion, "{candidate}: {detail}");
    }
}

#[test]
fn an_exception_of_the_candidate_ends_no_loop_of_the_tests() {
    let Some(sandbox) = sandbox([]) else { return };
    let loops = [
        "for got, want in zip(map(c, [1, 2]), [1, 2]):\n    assert got == want\n",
        "assert all(got == 1 for got in map(c, [1]))\n",
        "assert list(map(c, [1])) == []\n",
    ];
    for raised in ["StopIteration", "StopAsyncIteration", "Own", "GeneratorExit"] {
        let candidate = format!("class Own(StopIteration):\n    pass\ndef c(value):\n    raise {raised}('text')\n");
        for tests in loops {
            let (why, detail) = failure(&sandbox, &candidate, &["c"], tests);
            assert_eq!((why, detail), (Failure::Exception, format!("RuntimeError: {raised}: text")));
        }
    }
}

#[test]
fn an_object_stays_what_it_is() {
    let Some(sandbox) = sandbox([]) else { return };
    let candidates = [
        // Patched after it was returned.
        "class Late:\n    pass\nlate = Late()\ndef f():\n    import threading\n    def patch():\n        \
         Late.__eq__ = lambda *rest: True\n        Late.__float__ = lambda *rest: 42.0\n    \
         threading.Timer(0.0, patch).start()\n    return late\n",
        // Lazy, so that it could answer by what is asked.
        "def f():\n    yield 42\n",
        "def f():\n    return (lambda: 42)\n",
        "class Lazy:\n    def __getattr__(self, name):\n        return lambda *rest: True\ndef f():\n    return Lazy()\n",
        "def f():\n    return type\n",
        // Neither greater nor less.
        "def f():\n    return float('nan')\n",
        "def f():\n    return f\n",
        "def f():\n    return NotImplemented\n",
    ];
    for candidate in candidates {
        failure(&sandbox, candidate, &["f"], "answer = f()\nassert answer == 42\n");
        failure(&sandbox, candidate, &["f"], "answer = f()\nassert not answer != 42\n");
        failure(&sandbox, candidate, &["f"], "answer = f()\nassert abs(answer - 42) < 1e-6\n");
        failure(&sandbox, candidate, &["f"], "answer = f()\nassert answer in [41, 42]\n");
    }
}

#[test]
fn the_tests_are_nowhere_in_the_candidates_process() {
    let Some(sandbox) = sandbox([]) else { return };
    let searches = [
        "def texts():\n    import gc\n    return [str(item) for item in gc.get_objects() if type(item) in (dict, list, tuple, str)]\n",
        "def texts():\n    import sys\n    found = []\n    for frame in sys._current_frames().values():\n        while frame:\n            \
         found += [str(frame.f_locals), str(frame.f_globals), str(frame.f_code.co_consts)]\n            frame = frame.f_back\n    return found\n",
        "def texts():\n    import sys, linecache\n    return [str(sys.modules), str(linecache.cache), str(vars(sys.modules['__main__']))]\n",
        "caught = []\ndef texts():\n    import traceback\n    for error in caught:\n        frame = error.__traceback__\n        while frame:\n            \
         yield str(frame.tb_frame.f_locals) + str(frame.tb_frame.f_globals)\n            frame = frame.tb_next\n",
        "import sys\nseen = []\nsys.settrace(lambda frame, *rest: seen.append(str(frame.f_locals) + str(frame.f_code.co_consts)))\n\
         def texts():\n    return seen\n",
        "import os\ndef texts():\n    return [os.pread(number, 1 << 20, 0).decode() for number in range(256) if regular(number)]\n\
         def regular(number):\n    try:\n        os.pread(number, 1, 0)\n        return True\n    except OSError:\n        return False\n",
    ];
    for search in searches {
        let candidate = format!(
            "{search}\ndef f(given):\n    try:\n        given()\n    except Exception as error:\n        \
             globals().setdefault('caught', []).append(error)\n    for text in texts():\n        at = text.find('the answer ' + 'is ')\n        \
             if at >= 0:\n            return text[at + 14:at + 16]\n    return 'unknown'\n"
        );
        let tests = "answer = 'the answer is 42'\ndef given():\n    raise ValueError(answer[:3])\nassert f(given) == answer[-2:]\n";
        let (why, detail) = failure(&sandbox, &candidate, &["f"], tests);
        assert_eq!(why, Failure::Assertion, "{search}: {detail}");
    }
}

#[test]
fn a_program_that_sends_descriptors_or_absurd_shapes_does_not_pass() {
    let Some(sandbox) = sandbox([]) else { return };
    let frame = "import json, os, socket\ndef send(data):\n    os.write(3, len(data).to_bytes(8, 'little') + data)\n";
    let bodies = [
        // Descriptors for the tests' process.
        "import array\nlink = socket.socket(fileno=3)\nfor _ in range(300):\n    \
         link.sendmsg([b'\\0'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [0, 1, 2]))])\n",
        "send(b'[' * 200000 + b']' * 200000)\n",
        "send(b'[\"value\",' + b'[' * 900 + b']' * 900 + b']')\n",
        "send(b'[\"value\",' + b'{\"t\":[' * 400 + b']}' * 400 + b']')\n",
        "send(b'[\"value\",{\"F\":[1,0]}]')\n",
        "send(b'[\"value\",{\"D\":\"1E+999999999999\"}]')\n",
        "send(b'[\"value\",{\"s\":[[1]]}]')\n",
        "send(b'[\"value\",{\"t\":[1],\"s\":[1]}]')\n",
        "send(b'[\"value\",{\"y\":-1}]')\n",
        "send(b'[\"value\",{\"i\":\"' + b'f' * 5000000 + b'\"}]')\n",
        "send(b'[\"value\",[41,[[0,[1]],[-1,[2]]]]]')\n",
        "send(b'[\"raise\",[\"UnicodeDecodeError\",\"ExceptionGroup\"],\"x\",null]')\n",
        "send(b'[\"raise\",\"Exception\",{},[]]')\n",
        "send(b'[\"value\",\"\\\\ud800\"]')\n",
        "send(b'\\xff\\xfe')\n",
        "os.write(3, (1 << 27).to_bytes(8, 'little') + b'[')\nos._exit(0)\n",
    ];
    for body in bodies {
        // Before the tests call anything, and as an answer.
        let early = format!("{frame}{body}\ndef f():\n    return 41\n");
        let indented: String = body.lines().map(|line| format!("    {line}\n")).collect();
        let late = format!("{frame}def f():\n{indented}    return 41\n");
        for candidate in [early, late] {
            failure(&sandbox, &candidate, &["f"], "assert f() == 42\n");
        }
    }
    assert_eq!(run(&sandbox, "def f():\n    return 42\n", &["f"], "assert f() == 42\n"), Verdict::Passed);
}

#[test]
fn data_without_an_end_is_stopped() {
    let Some(sandbox) = sandbox([]) else { return };
    let recursive = "def f():\n    data = []\n    data.append(data)\n    return data\n";
    assert_eq!(failure(&sandbox, recursive, &["f"], "assert f() == []\n").0, Failure::Exception);
    let deep = "def f():\n    data = []\n    for _ in range(100000):\n        data = [data]\n    return data\n";
    assert_eq!(failure(&sandbox, deep, &["f"], "assert f() == []\n").0, Failure::Exception);
    let limits = Limits { cpu: Duration::from_secs(1), wall: Duration::from_secs(60), ..Limits::default() };
    let endless = "def f():\n    while True:\n        yield 'x' * 1000\n";
    let verdict = sandbox.run(&program(endless, &["f"], "assert list(f()) == []\n"), &limits).unwrap();
    assert!(matches!(verdict.failure(), Some(Failure::Timeout | Failure::Memory)), "{verdict:?}");
    let wide = "def f():\n    return ['x' * 1000] * 1000000\n";
    let verdict = sandbox.run(&program(wide, &["f"], "assert f() == []\n"), &limits).unwrap();
    assert!(!verdict.passed(), "{verdict:?}");
}

#[test]
fn text_that_is_not_unicode_is_reported_as_the_exception_that_it_is() {
    let Some(sandbox) = sandbox([]) else { return };
    let candidate = "def f():\n    raise ValueError('a\\ud800b')\n";
    let (why, detail) = failure(&sandbox, candidate, &["f"], "f()\n");
    assert_eq!((why, detail.as_str()), (Failure::Exception, "ValueError: a\\ud800b"));
    let (why, _) = failure(&sandbox, "print('\\ud800')\ndef f():\n    return 1\n", &["f"], "assert f() == 2\n");
    assert_eq!(why, Failure::Exception);
}

#[test]
fn signals_timers_and_zombies_change_only_their_own_process() {
    let Some(sandbox) = sandbox([]) else { return };
    let tests = "assert f() == 42\n";
    for candidate in [
        // A handler that answers in the place of the function.
        "import os, signal\ndef answer(*rest):\n    os.write(3, (14).to_bytes(8, 'little') + b'[\"value\",null]')\n\
         signal.signal(signal.SIGALRM, answer)\nsignal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)\n\
         def f():\n    while True: pass\n",
        "import fcntl, os\nfcntl.fcntl(3, fcntl.F_SETOWN, -1)\nfcntl.fcntl(3, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)\n\
         def f():\n    return 41\n",
        "import socket\nlink = socket.socket(fileno=3)\nlink.shutdown(socket.SHUT_RD)\ndef f():\n    return 42\n",
        "import sys\nsys.setrecursionlimit(50)\nsys.setswitchinterval(1e-6)\ndef f():\n    return 41\n",
        "class Final:\n    def __del__(self):\n        import os\n        os.kill(-1, 9)\ndef f():\n    Final()\n    return 41\n",
    ] {
        failure(&sandbox, candidate, &["f"], tests);
    }
    let zombies =
        "import os\nfor _ in range(6):\n    if os.fork() == 0:\n        os._exit(0)\ndef f():\n    return 42\n";
    for _ in 0..3 {
        assert_eq!(run(&sandbox, zombies, &["f"], tests), Verdict::Passed);
    }
}

#[test]
fn a_candidate_that_stops_itself_runs_out_of_time() {
    let Some(sandbox) = sandbox([]) else { return };
    let limits = Limits { wall: Duration::from_millis(300), ..Limits::default() };
    for candidate in [
        "import os, signal\ndef f():\n    os.kill(os.getpid(), signal.SIGSTOP)\n",
        "import os, signal\ndef f():\n    try:\n        os.kill(-1, signal.SIGSTOP)\n    except OSError:\n        pass\n    \
         signal.pause()\n",
    ] {
        let verdict = sandbox.run(&program(candidate, &["f"], "f()\n"), &limits).unwrap();
        assert_eq!(verdict.failure(), Some(Failure::Timeout), "{candidate}");
    }
    assert_eq!(run(&sandbox, "def f():\n    return 42\n", &["f"], "assert f() == 42\n"), Verdict::Passed);
}

#[test]
fn a_candidate_does_not_change_the_code_of_the_tests_for_others() {
    let Some(sandbox) = sandbox([]) else { return };
    // It writes to every descriptor, before the tests' process has compiled them and after, and ends with a code and a verdict of its own.
    let hostile = "import os\ndef put():\n    for number in range(256):\n        for data in (b'\\x08' + b'\\0' * 15, \
                   b'[\"x\",\"passed\",\"\"]'):\n            try:\n                os.write(number, data)\n            except OSError:\n                \
                   pass\nput()\ndef f():\n    put()\n    return 41\n";
    let tests = "assert f() == 42\n";
    failure(&sandbox, hostile, &["f"], tests);
    assert_eq!(failure(&sandbox, "def f():\n    return 41\n", &["f"], tests).0, Failure::Assertion);
    assert_eq!(run(&sandbox, "def f():\n    return 42\n", &["f"], tests), Verdict::Passed);
}

#[test]
fn the_code_of_the_tests_is_nowhere_in_a_later_candidates_process() {
    let Some(sandbox) = sandbox([]) else { return };
    // Runs of one problem, of which all but the first receive compiled tests. Texts of the tests are searched in all objects of the
    // candidate's process and in all files that it has open.
    let candidate = "import gc, os\ndef texts(item, depth):\n    if type(item) is str:\n        yield item\n    elif type(item) is bytes:\n        \
                     yield item.decode('latin-1')\n    elif type(item) in (tuple, list) and depth:\n        for part in item:\n            yield from texts(part, \
                     depth - 1)\n    elif hasattr(item, 'co_consts'):\n        yield from texts(item.co_consts, depth)\n    elif type(item) is dict and depth:\n        \
                     yield from texts(list(item.values()), depth - 1)\n\
                     def f():\n    files = []\n    for number in range(256):\n        try:\n            files.append(os.pread(number, 1 << 20, 0))\n        \
                     except OSError:\n            pass\n    for item in gc.get_objects() + files:\n        for text in texts(item, 3):\n            \
                     at = text.find('the answer ' + 'is ')\n            if at >= 0:\n                return text[at + 14:at + 16]\n    return 'unknown'\n";
    let tests = "answer = 'the answer is 42'\nassert f() == answer[-2:]\n";
    for _ in 0..3 {
        let (why, detail) = failure(&sandbox, candidate, &["f"], tests);
        assert_eq!(why, Failure::Assertion, "{detail}");
    }
    // Where they share a process, the same search finds them.
    let Some(together) = self::sandbox([Layer::Checker]) else { return };
    for _ in 0..2 {
        assert_eq!(run(&together, candidate, &["f"], tests), Verdict::Passed);
    }
}

#[test]
fn a_process_has_no_descriptor_but_its_own() {
    let Some(sandbox) = sandbox([]) else { return };
    // Not the ring that pins the zygote's memory, nor another one of the server's.
    let candidate = "import os\ndef f():\n    found = []\n    for number in range(1024):\n        try:\n            os.fstat(number)\n            \
                     found.append(number)\n        except OSError:\n            pass\n    return found\n";
    assert_eq!(run(&sandbox, candidate, &["f"], "assert f() == [0, 1, 2, 3, 4, 5], f()\n"), Verdict::Passed);
}

#[test]
fn a_changed_source_is_not_read_again() {
    let Some(sandbox) = sandbox([]) else { return };
    // The source is in a file of its own, which ends with the program.
    let candidate = "import os\nfor number in range(256):\n    try:\n        os.pwrite(number, b'def f():\\n    return 42\\n', 0)\n    \
                     except OSError:\n        pass\ndef f():\n    return 41\n";
    failure(&sandbox, candidate, &["f"], "assert f() == 42\n");
    let Some(together) = self::sandbox([Layer::Checker]) else { return };
    assert_eq!(run(&together, "def f():\n    return 42\n", &["f"], "assert f() == 42\n"), Verdict::Passed);
}
