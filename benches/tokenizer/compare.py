"""Compares the stages `tokenizer` and `pack` with Hugging Face's tokenizers on the same files in one run.

    cargo build --release --example throughput
    pip install tokenizers
    python benches/tokenizer/compare.py target/release/examples/throughput EXPORT_FOLDER 32768

Prints seconds, peak memory and ratios; says how many ids of the two vocabularies are equal; checks that the packed
tokens hold each of the first 1,000 files as the peer encodes it, and that the peer decodes them to the file.
"""

import array
import glob
import gzip
import json
import resource
import struct
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


def packed_documents(folder):
    """The ids of each packed document, without its end-of-text token, as a set."""
    data = open(f"{folder}/tokens.bin", "rb").read()
    (width,) = struct.unpack_from("<I", data, 12)
    ids = array.array("H" if width == 2 else "I", data[64:])
    index = open(f"{folder}/documents.bin", "rb").read()
    places = [struct.unpack_from("<QQ", index, at + 32) for at in range(40, len(index), 48)]
    return {ids[start : start + tokens - 1].tobytes() for start, tokens in places if start + tokens <= len(ids)}


def main(program, export, vocabulary):
    output = tempfile.mkdtemp()
    run = subprocess.run([program, export, output, vocabulary], check=True, capture_output=True, text=True)
    ours = {step["step"]: step for step in map(json.loads, run.stdout.splitlines())}
    print(json.dumps(ours, indent=1))

    documents = list(texts(export))
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
    same = sum(theirs.token_to_id(token) == id for token, id in learned.get_vocab().items())
    some = documents[:1000]
    mebibytes = sum(len(text.encode()) for text in some) / 2**20
    start = time.perf_counter()
    encodings = learned.encode_batch_fast(some)
    encode = mebibytes / (time.perf_counter() - start)

    packed = packed_documents(output)
    kind = "H" if learned.get_vocab_size() <= 1 << 16 else "I"
    found = 0
    for text, encoding in zip(some, encodings):
        assert learned.decode(encoding.ids, skip_special_tokens=False) == text
        found += array.array(kind, encoding.ids).tobytes() in packed
    # The dropped tail of less than a sequence cuts the documents at the end.
    assert found >= len(some) - 5, found
    seconds, rate = ours["tokenizer"]["seconds"], ours["pack"]["mebibytes_a_second"]
    print(f"equal ids in the vocabularies: {same} of {learned.get_vocab_size()}")
    print(f"files with equal ids: {found} of {len(some)}")
    print(f"train: theirs {train:.1f} s (peak {peak:.0f} MiB with the texts), ours {seconds:.1f} s (peak {ours['tokenizer']['peak_mebibytes']} MiB): {train / seconds:.1f} times")
    print(f"encode: theirs {encode:.1f} MiB/s, ours with reading and packing {rate:.1f} MiB/s: {rate / encode:.1f} times")


if __name__ == "__main__":
    main(*sys.argv[1:])
