#!/usr/bin/env python3
"""A trained model in Hugging Face transformers: does the folder load, and is its loss the one that `eval-loss` measured?

    pip install torch transformers safetensors
    pipeline export MANIFEST train.model model
    python3 benches/model/transformers_loss.py --model model --run cache/runs/NAME/latest [--pack pack] [--loss loss]

Loads the exported folder with `from_pretrained`, as a user of transformers would, and scores every validation sequence with
it. Then it loads the folder's tokenizer, decodes every document that the sequences hold whole, and encodes it again. Ends
with 1 where the losses differ by more than 1e-4 or ids do not come back.
"""

import argparse
import json
import struct
import sys
from pathlib import Path

import numpy
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def sequences(file):
    """The ids of a packed file, a row a sequence (the format is that of stages/tokens/src/packed.rs)."""
    data = file.read_bytes()
    magic, _, width, _, _, length, count = struct.unpack_from("<8sIIIIQQ", data)
    assert magic == b"plTokens", f"{file} is no packed file"
    ids = numpy.frombuffer(data, dtype="<u2" if width == 2 else "<u4", offset=64)
    return ids.reshape(count, length).astype("int64")


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--model", type=Path, required=True, help="the exported folder")
    arguments.add_argument("--run", type=Path, required=True, help="the run's folder in the store")
    arguments.add_argument("--pack", default="pack", help="the name of the stage of kind pack")
    arguments.add_argument("--loss", default="loss", help="the name of the stage of kind eval-loss")
    given = arguments.parse_args()
    report = json.loads((given.run / given.loss / "report" / "report.json").read_text())
    rows = sequences(given.run / given.pack / "valid" / "tokens.bin")
    rows = rows[: report["sequences"]]
    model = AutoModelForCausalLM.from_pretrained(given.model).eval()
    print(f"{type(model).__name__}: {model.num_parameters()} parameters")
    total, count = 0.0, 0
    with torch.inference_mode():
        for start in range(0, len(rows), 16):
            batch = torch.from_numpy(rows[start : start + 16])
            logits = model(batch).logits[:, :-1].double()
            targets = batch[:, 1:]
            total += torch.nn.functional.cross_entropy(logits.transpose(1, 2), targets, reduction="sum").item()
            count += targets.numel()
    loss = total / count
    difference = abs(loss - report["loss"])
    print(f"tokens {count} here, {report['tokens']} in the report")
    print(f"loss {loss:.7f} here, {report['loss']:.7f} in the report, difference {difference:.1e}")

    tokenizer = AutoTokenizer.from_pretrained(given.model)
    flat, documents, wrong = rows.reshape(-1), 0, 0
    index = (given.run / given.pack / "valid" / "documents.bin").read_bytes()
    for at in range(40, len(index), 48):
        start, tokens = struct.unpack_from("<QQ", index, at + 32)
        if start + tokens > len(flat):
            continue
        # Its last token is the end of text.
        ids = flat[start : start + tokens - 1].tolist()
        text = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        documents, wrong = documents + 1, wrong + (tokenizer.encode(text, add_special_tokens=False) != ids)
    print(f"{documents} documents decoded and encoded again, {wrong} of them to other ids")
    sys.exit(1 if difference > 1e-4 or count != report["tokens"] or wrong or not documents else 0)


if __name__ == "__main__":
    main()
