#!/usr/bin/env python3
"""Compares training on the CPU with transformers and PyTorch: the same GPT-2, weights, batch and threads, in turn.

    python3 benches/train/compare.py [--rounds 3] [--steps N] [--shapes 5M,110M,110M-4] [--threads 2] [--compile] [--program FILE]

Builds the bench `train_speed` unless `--program` names it. Each round runs ours, PyTorch eager and, with `--compile`, PyTorch with
torch.compile, each alone: the processes take turns and nothing else is started meanwhile. All use AdamW (PyTorch's fused one) after
clipping. Checks that the losses are equal to a thousandth, and prints of each the median tokens per second, processor seconds a step, peak memory
and the seconds of the matrix products alone, then the minimum and the median ratio of tokens per second. The peers are installed from PyPI, once,
into a virtual environment (`--peers`, in the system's temporary directory unless told otherwise).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent
WANTED = ["torch==2.15.0", "transformers==5.24.0", "numpy"]
# Layers, width, heads, vocabulary, sequences, tokens of a sequence, steps.
SHAPES = {
    "5M": [4, 256, 4, 8192, 4, 256, 40],
    "110M": [12, 768, 12, 32768, 1, 512, 6],
    "110M-4": [12, 768, 12, 32768, 4, 512, 4],
}


def install(folder):
    """The Python of a virtual environment with the peers."""
    listed = folder / "wanted.txt"
    if not listed.exists() or listed.read_text().split() != WANTED:
        print(f"installs {', '.join(WANTED)} into {folder}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(folder / "bin" / "pip"), "install", "--quiet", *WANTED], check=True)
        listed.write_text("\n".join(WANTED))
    return str(folder / "bin" / "python")


def build():
    """The path of the bench `train_speed`, built."""
    command = ["cargo", "bench", "--workspace", "--bench", "train_speed", "--no-run", "--message-format=json"]
    lines = subprocess.run(command, cwd=HERE, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    built = [json.loads(line) for line in lines]
    return next(item["executable"] for item in built if item.get("executable") and item["target"]["name"] == "train_speed")


def run(command, threads):
    environment = {**os.environ, "RAYON_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    result = subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE, text=True)
    return json.loads(result.stdout.splitlines()[-1])


def compare(name, sizes, given, program, python):
    sizes = [str(size) for size in sizes]
    with tempfile.TemporaryDirectory() as folder:
        weights = os.path.join(folder, "initial.safetensors")
        peer = [python, str(HERE / "transformers_train.py"), weights, *sizes, str(given.threads)]
        commands = {"ours": [program, *sizes, f"weights={weights}", "products"], "eager": [*peer, "eager"]}
        if given.compile:
            commands["compile"] = [*peer, "compile"]
        rounds = [{who: run(command, given.threads) for who, command in commands.items()} for _ in range(given.rounds)]
    first = rounds[0]
    print(f"\n{name}: {first['ours']['parameters']:,} parameters, {sizes[4]} x {sizes[5]}, {given.threads} threads, "
          f"{given.rounds} rounds of {sizes[6]} steps; {first['eager']['version']}")
    for who in commands:
        for ours, theirs in zip(first["ours"]["losses"], first[who]["losses"]):
            assert abs(ours - theirs) < 1e-3 * max(1.0, theirs), f"losses differ: {first['ours']['losses']}, {first[who]['losses']}"
    print(f"  {'':8} {'tokens/s':>9} {'s/step':>8} {'cpu s/step':>10} {'products s':>10} {'step/products':>13} {'peak MiB':>9}")
    for who in commands:
        of = lambda key: median(each[who][key] for each in rounds)
        print(f"  {who:8} {of('tokens_per_second'):9.0f} {of('seconds_per_step'):8.3f} {of('processor_seconds_per_step'):10.3f} "
              f"{of('products_seconds'):10.3f} {of('seconds_per_step') / of('products_seconds'):13.2f} {of('peak_mib'):9.0f}")
    for who in list(commands)[1:]:
        for key, title in [("tokens_per_second", "speed"), ("processor_seconds_per_step", "processor time")]:
            ratios = [each["ours"][key] / each[who][key] for each in rounds]
            ratios = ratios if title == "speed" else [1 / ratio for ratio in ratios]
            print(f"  {title} against {who}: minimum {min(ratios):.2f}, median {median(ratios):.2f}")


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--steps", type=int)
    arguments.add_argument("--shapes", default=",".join(SHAPES))
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--compile", action="store_true")
    arguments.add_argument("--program")
    arguments.add_argument("--peers", type=Path, default=Path(tempfile.gettempdir()) / "train-peers")
    given = arguments.parse_args()
    python, program = install(given.peers), given.program or build()
    for name in given.shapes.split(","):
        sizes = SHAPES[name][:6] + [given.steps or SHAPES[name][6]]
        compare(name, sizes, given, program, python)


main()
