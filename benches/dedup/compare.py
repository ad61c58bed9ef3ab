#!/usr/bin/env python3
"""Near-duplicates of an export: `pipeline`'s dedup beside datasketch, on the same documents in one run.

    pip install datasketch
    cargo build --release
    python benches/dedup/compare.py EXPORT_FOLDER [PIPELINE]

EXPORT_FOLDER holds shards `*.json.gz` of a query export. Both use 256 permutations, single tokens and the threshold 0.85,
and read the documents from what their own kind of program starts with: `pipeline` from the table that its import made,
datasketch from JSON lines. datasketch does what CodeParrot's script does up to the candidates (it verifies none of them),
with its own bands and with ours, and the recall of both is measured against the exact similarities of all pairs.
Times are CPU seconds of the whole process and its threads; memory is the peak of the process.
"""

import glob
import gzip
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time

MANIFEST = """\
[run]
name = "dedup-bench"
seed = 1

[stages.export]
kind = "import"
source = "{export}/*.json.gz"

[stages.unique]
kind = "dedup"
input = "export"
audit = {audit}
"""

TOKEN = re.compile("[^A-Za-z_0-9]")


def documents(export):
    for shard in sorted(glob.glob(os.path.join(export, "*.json.gz"))):
        with gzip.open(shard, "rt", encoding="utf-8") as lines:
            for line in lines:
                yield json.loads(line)["content"]


def peer(export, bands):
    """Signatures, index and queries, as CodeParrot's minhash_deduplication.py makes them."""
    from datasketch import MinHash, MinHashLSH

    start = time.process_time()
    index = MinHashLSH(threshold=0.85, num_perm=256, params=bands)
    sets, pairs = [], set()
    for number, content in enumerate(documents(export)):
        tokens = [token for token in TOKEN.split(content) if token.strip()]
        sets.append(frozenset(tokens) if len(tokens) >= 10 else None)
        if sets[-1] is None:
            continue
        sketch = MinHash(num_perm=256)
        sketch.update_batch([token.encode() for token in sets[-1]])
        pairs.update((other, number) for other in index.query(sketch))
        index.insert(number, sketch)
    seconds = time.process_time() - start
    return sets, pairs, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def near_pairs(sets, threshold=0.85):
    """All pairs that reach the threshold, through the shared tokens that one of them must have among its rarest."""
    counts = {}
    for tokens in filter(None, sets):
        for token in tokens:
            counts[token] = counts.get(token, 0) + 1
    holders, found = {}, set()
    for number, tokens in enumerate(sets):
        if not tokens:
            continue
        rarest = sorted(tokens, key=lambda token: (counts[token], token))
        rarest = rarest[: len(rarest) - int(threshold * len(rarest)) + 1]
        for other in {other for token in rarest for other in holders.get(token, ())}:
            both = len(tokens & sets[other])
            if both / (len(tokens) + len(sets[other]) - both) >= threshold:
                found.add((other, number))
        for token in rarest:
            holders.setdefault(token, []).append(number)
    return found


def ours(export, program):
    """CPU seconds, wall seconds and peak memory of a run that finds its import in the cache; the report of dedup."""
    with tempfile.TemporaryDirectory() as folder:
        manifest = os.path.join(folder, "dedup.toml")
        cache = os.path.join(folder, "cache")

        def run(*arguments):
            start = time.monotonic()
            child = subprocess.Popen([program, "run", manifest, "--cache", cache, "--quiet", *arguments])
            _, status, usage = os.wait4(child.pid, 0)
            if status != 0:
                sys.exit(f"{program} ended with status {status}")
            return usage.ru_utime + usage.ru_stime, time.monotonic() - start, usage.ru_maxrss / 1024

        with open(manifest, "w") as file:
            file.write(MANIFEST.format(export=os.path.abspath(export), audit=200))
        run("--until", "export")
        figures = run()
        reports = glob.glob(os.path.join(cache, "runs", "*", "latest", "**", "report.json"), recursive=True)
        for path in reports:
            with open(path) as file:
                report = json.load(file)
            if "near" in report:
                return figures, report
        sys.exit(f"no report of dedup below {cache}")


def main():
    export = sys.argv[1]
    program = sys.argv[2] if len(sys.argv) > 2 else "target/release/pipeline"
    rows = []
    for name, bands in [("datasketch, its bands (13 x 19)", None), ("datasketch, our bands (28 x 9)", (28, 9))]:
        sets, pairs, seconds, memory = peer(export, bands)
        truth = near_pairs(sets)
        rows.append((name, len(sets) / seconds, memory, len(pairs & truth) / max(1, len(truth)), len(pairs)))
    count = len(sets)
    print(f"{count} documents, {len(truth)} pairs with a Jaccard similarity of at least 0.85")
    if os.path.exists(program):
        (cpu, wall, memory), report = ours(export, program)
        audit = report["audit"]
        rows.insert(0, ("pipeline dedup, verified", count / cpu, memory, audit["recall"], report["near"]["candidates"]))
        print(f"pipeline: {cpu:.2f} CPU seconds, {wall:.2f} s; ratio {rows[0][1] / rows[1][1]:.1f} to datasketch")
    else:
        print(f"no program at {program}: datasketch alone", file=sys.stderr)
    print(f"{'':34}{'docs / CPU s':>14}{'peak MiB':>10}{'recall':>8}{'candidates':>12}")
    for name, rate, memory, recall, candidates in rows:
        print(f"{name:34}{rate:14.0f}{memory:10.0f}{recall:8.4f}{candidates:12}")


if __name__ == "__main__":
    main()
