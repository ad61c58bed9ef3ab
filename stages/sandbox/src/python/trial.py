# A program that runs once when a server starts, to find the pages that every program writes.
TRIAL = """from typing import List, Dict


def f(numbers: List[float], limit: float = 0.5) -> Dict[str, int]:
    \"\"\" Counts the numbers.
    >>> f([1.0])
    {'1.0': 1}
    \"\"\"
    found = {}
    for index, number in enumerate(sorted(numbers)):
        if number >= limit and index % 2 != -1:
            found[str(number)] = found.get(str(number), 0) + 1
    return {key: value for key, value in found.items()}
"""
TRIAL_TESTS = """METADATA = {'author': 'x', 'dataset': 'test'}


def check(candidate):
    assert candidate([1.0, 2.0, 3.9, 2.0], 0.3) == {'1.0': 1, '2.0': 2, '3.9': 1}, "first"
    assert candidate([]) == {}
    for i in range(8):
        assert candidate([i, i + 1]) == ({str(i): 1, str(i + 1): 1} if i else {'1': 1}), "loop " + str(i)
    assert abs(len(candidate([1, 2])) - 2) < 1e-6
    assert candidate("a") is None


check(f)
"""


def written_in_a_trial(proc):
    """Runs a program in two processes as the zygotes will, and returns the pages of this process that each of them wrote."""
    memory = Memory(proc)
    near, far = socket.socketpair()
    code = marshal.dumps((compile(TRIAL, "setup", "exec"), compile(TRIAL_TESTS, "tests", "exec")))
    request = json.dumps({"nonce": "", "calls": ["f"]}).encode() + b"\n" + code
    roles = [
        (near, TRIAL.encode(), lambda source, output: run_candidate(near.fileno(), source)),
        (far, request, lambda source, output: run_checker(far.fileno(), source, output, None)),
    ]
    reports = []
    for link, text, run in roles:
        source, source_end = os.pipe()
        write_all(source_end, text)
        os.close(source_end)
        report, report_end = os.pipe()
        output = os.open("/dev/null", os.O_WRONLY)
        if not os.fork():
            try:
                (far if link is near else near).close()
                os.close(report)
                gc.enable()
                run(source, output)
            except LinkFault:
                pass
            finally:
                try:
                    write_all(report_end, memory.entries())
                finally:
                    os._exit(0)
        for descriptor in (source, report_end, output):
            os.close(descriptor)
        reports.append(report)
    near.close()
    far.close()
    written = []
    for report in reports:
        with open(report, "rb") as report:
            written.append(memory.written(report.read()))
    for _ in roles:
        os.wait()
    return written
