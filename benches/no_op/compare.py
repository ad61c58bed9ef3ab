#!/usr/bin/env python3
"""How long a run takes in which nothing changed: ours against DVC, Snakemake and Ninja, on an equal graph.

    python3 benches/no_op/compare.py --pipeline target/release/pipeline [--stages 1000] [--files 10000] [--rounds 5]
                                     [--before OTHER_PIPELINE]

Makes a folder with `--files` source files and a graph of `--stages` stages, each of which reads its share of the files
and the output of one earlier stage (a binary tree). Each tool builds it once, then its no-op is timed `--rounds` times,
ours alone and then the tools in turn, and the best and the median of each are printed with their ratio to ours in turn.
The peers are installed from PyPI, once, into a virtual environment (`--peers`, in `target/` unless told otherwise).

With `--before`, another version of the program takes the place of the peers: both have a folder and a store of their own, and take turns in a
random order.
"""

import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def sources(folder, stages, files):
    """A folder of files for each stage."""
    share = files // stages
    for stage in range(stages):
        place = folder / "src" / f"{stage:04}"
        place.mkdir(parents=True)
        for number in range(share):
            (place / f"{number}.txt").write_text(f"{stage} {number}\n")


def parent(stage):
    return (stage - 1) // 2 if stage else None


def for_pipeline(folder, stages):
    text = "[run]\nname = \"no-op\"\n"
    for stage in range(stages):
        up = parent(stage)
        text += f"[stages.s{stage:04}]\nkind = \"command\"\nprogram = \"/bin/sh\"\n"
        text += "arguments = [\"-c\", \"echo done > \\\"$0/out\\\"\", \"{output:files}\"]\n"
        text += f"files = [\"src/{stage:04}/*.txt\"]\n"
        if up is not None:
            text += f"inputs = {{ up = \"s{up:04}\" }}\n"
    (folder / "no-op.toml").write_text(text)


def for_dvc(folder, stages):
    text = "stages:\n"
    for stage in range(stages):
        up = parent(stage)
        text += f"  s{stage:04}:\n    cmd: echo {stage} > out/{stage:04}\n    deps:\n    - src/{stage:04}\n"
        if up is not None:
            text += f"    - out/{up:04}\n"
        text += f"    outs:\n    - out/{stage:04}\n"
    (folder / "dvc.yaml").write_text(text)
    (folder / "out").mkdir(exist_ok=True)


def for_snakemake(folder, stages, files):
    share = files // stages
    text = "rule all:\n    input: " + ", ".join(f"'snake/{stage:04}'" for stage in range(stages)) + "\n"
    for stage in range(stages):
        up = parent(stage)
        inputs = [f"'src/{stage:04}/{number}.txt'" for number in range(share)]
        if up is not None:
            inputs.append(f"'snake/{up:04}'")
        text += f"rule s{stage:04}:\n    input: {', '.join(inputs)}\n    output: 'snake/{stage:04}'\n"
        text += f"    shell: 'echo {stage} > {{output}}'\n"
    (folder / "Snakefile").write_text(text)


def for_ninja(folder, stages, files):
    share = files // stages
    text = "rule r\n  command = echo $out > $out\n"
    for stage in range(stages):
        up = parent(stage)
        inputs = [f"src/{stage:04}/{number}.txt" for number in range(share)]
        if up is not None:
            inputs.append(f"ninja/{up:04}")
        text += f"build ninja/{stage:04}: r {' '.join(inputs)}\n"
    (folder / "build.ninja").write_text(text)


PEERS = {"dvc": "3.67.1", "snakemake": "9.27.1", "ninja": "1.13.2"}


def install(folder):
    """The virtual environment with the peers, at these versions."""
    wanted = [f"{name}=={version}" for name, version in PEERS.items()]
    listed = folder / "peers.txt"
    if not listed.exists() or listed.read_text().split() != wanted:
        print(f"installs {', '.join(wanted)} into {folder}", file=sys.stderr)
        for command in [
            [sys.executable, "-m", "venv", str(folder)],
            [str(folder / "bin" / "pip"), "install", "--quiet", *wanted],
        ]:
            if subprocess.run(command).returncode != 0:
                print("not all peers could be installed", file=sys.stderr)
                return
        listed.write_text("\n".join(wanted))


def tool(name, peers):
    """A peer's program; where it is not installed that is said."""
    program = peers / "bin" / name
    if program.exists():
        return str(program)
    print(f"skipped: {name} is not installed")
    return None


def seconds_of(command, folder):
    started = time.perf_counter()
    run(command, folder, {**os.environ, "PYTHONWARNINGS": "ignore"})
    return time.perf_counter() - started


def run(command, folder, environment=None):
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")


def no_ops(program):
    return {
        "pipeline run": [program, "run", "no-op.toml", "--quiet"],
        "pipeline plan": [program, "plan", "no-op.toml"],
    }


def built(program, folder, stages, files):
    """Fills a folder with sources and a manifest, and builds it."""
    sources(folder, stages, files)
    for_pipeline(folder, stages)
    # Files that are two seconds old may be remembered by what `stat` says of them.
    time.sleep(3)
    run([program, "run", "no-op.toml", "--quiet"], folder)


def compare_versions(programs, given):
    with tempfile.TemporaryDirectory(prefix="no-op-") as place:
        folders = {name: Path(place) / name for name in programs}
        for name, program in programs.items():
            folders[name].mkdir()
            built(program, folders[name], given.stages, given.files)
        print(f"{given.stages} stages, {given.files} source files, {given.rounds} rounds in a random order")
        print("| no-op of | best, s | median, s |\n|---|---|---|")
        for what in no_ops(""):
            seconds = {name: [] for name in programs}
            for _ in range(given.rounds):
                for name in random.sample(list(programs), len(programs)):
                    seconds[name].append(seconds_of(no_ops(programs[name])[what], folders[name]))
            for name, times in seconds.items():
                print(f"| {what}, {name} | {min(times):.3f} | {statistics.median(times):.3f} |")


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--pipeline", default="target/release/pipeline")
    arguments.add_argument("--stages", type=int, default=1000)
    arguments.add_argument("--files", type=int, default=10000)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--peers", type=Path, default=Path("target/no-op-peers"))
    arguments.add_argument("--before", type=Path, help="another version of the program, to compare with in place of the peers")
    given = arguments.parse_args()
    program = str(Path(given.pipeline).resolve())
    if given.before:
        compare_versions({"before": str(given.before.resolve()), "now": program}, given)
        return
    peers = given.peers.resolve()
    install(peers)
    folder = Path(tempfile.mkdtemp(prefix="no-op-"))
    try:
        built(program, folder, given.stages, given.files)
        timed = no_ops(program)
        alone = {
            f"{name}, alone": [seconds_of(command, folder) for _ in range(given.rounds)] for name, command in timed.items()
        }
        if ninja := tool("ninja", peers):
            for_ninja(folder, given.stages, given.files)
            run([ninja], folder)
            timed["ninja"] = [ninja]
        if snakemake := tool("snakemake", peers):
            for_snakemake(folder, given.stages, given.files)
            (folder / "snake").mkdir(exist_ok=True)
            for stage in range(given.stages):
                (folder / "snake" / f"{stage:04}").write_text(f"{stage}\n")
            run([snakemake, "--cores", "2", "--quiet", "all", "--touch"], folder)
            timed["snakemake -n"] = [snakemake, "-n", "--quiet"]
        if dvc := tool("dvc", peers):
            for_dvc(folder, given.stages)
            run([dvc, "init", "--no-scm", "--quiet"], folder)
            run([dvc, "config", "core.analytics", "false"], folder)
            for stage in range(given.stages):
                (folder / "out" / f"{stage:04}").write_text(f"{stage}\n")
            run([dvc, "commit", "--force", "--quiet"], folder)
            timed["dvc status"] = [dvc, "status", "--quiet"]
        seconds = {name: [] for name in timed}
        for _ in range(given.rounds):
            for name, command in timed.items():
                seconds[name].append(seconds_of(command, folder))
        ours = min(seconds["pipeline run"])
        print(f"{given.stages} stages, {given.files} source files, {given.rounds} rounds in turn")
        print("| no-op of | best, s | median, s | ratio of the best to ours |\n|---|---|---|---|")
        for name, times in {**seconds, **alone}.items():
            print(f"| {name} | {min(times):.3f} | {statistics.median(times):.3f} | {min(times) / ours:.1f} |")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
