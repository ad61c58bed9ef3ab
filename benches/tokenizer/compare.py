"""Compares the stages `tokenizer` and `pack` with Hugging Face's tokenizers on the same files in one run.

    cargo build --release --example throughput
    pip install tokenizers
    python benches/tokenizer/compare.py target/release/examples/throughput EXPORT_FOLDER 32768

Prints seconds, peak memory and ratios; checks that both learn the same vocabulary, that the first 1,000 files get the
same ids, and that decoding gives each file back.
"""

import glob
import gzip
import json
import resource
import subprocess
import sys
import tempfile
import time

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers


def texts(export):
    for shard in sorted(glob.glob(f"{export}/*.json.gz")):
        with gzip.open(shard, "rt", encoding="utf-8") as lines:
            for line in lines:
                yield json.loads(line)["content"]


def main(program, export, vocabulary):
    output = tempfile.mkdtemp()
    run = subprocess.run([program, export, output, vocabulary], check=True, capture_output=True, text=True)
    ours = {step["step"]: step for step in map(json.loads, run.stdout.splitlines())}
    print(json.dumps(ours, indent=1))

    documents = list(texts(export))
    mebibytes = sum(len(text.encode()) for text in documents) / 2**20
    theirs = Tokenizer(models.BPE())
    theirs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    theirs.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=int(vocabulary),
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    start = time.perf_counter()
    theirs.train_from_iterator(documents, trainer)
    train = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    learned = Tokenizer.from_file(f"{output}/tokenizer.json")
    learned.encode_special_tokens = True
    theirs.encode_special_tokens = True
    same = sum(theirs.token_to_id(token) == id for token, id in learned.get_vocab().items())
    start = time.perf_counter()
    count = sum(len(encoding) for first in range(0, len(documents), 1000) for encoding in learned.encode_batch_fast(documents[first : first + 1000]))
    encode = time.perf_counter() - start

    for text in documents[:1000]:
        ids = learned.encode(text).ids
        assert learned.decode(ids, skip_special_tokens=False) == text
    assert count == ours["pack"]["ledger"]["text_tokens"], (count, ours["pack"]["ledger"])
    print(f"equal ids in the vocabularies: {same} of {learned.get_vocab_size()}")
    print(f"train:  theirs {train:.1f} s (peak {peak:.0f} MiB with the texts), ours {ours['tokenizer']['seconds']:.1f} s (peak {ours['tokenizer']['peak_mebibytes']} MiB): {train / ours['tokenizer']['seconds']:.1f} times")
    print(f"encode: theirs {encode:.1f} s ({mebibytes / encode:.1f} MiB/s), ours with packing {ours['pack']['seconds']:.2f} s ({ours['pack']['mebibytes_a_second']:.0f} MiB/s): {encode / ours['pack']['seconds']:.1f} times")
    print(f"tokens: {count}, the same in both")


if __name__ == "__main__":
    main(*sys.argv[1:])
