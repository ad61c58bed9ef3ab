#!/usr/bin/env python3
"""The peer of the bench `transformers_generation`: greedy generation with Hugging Face transformers on the CPU.

    transformers_generation.py MODEL THREADS

Loads the directory MODEL, then reads one JSON object a line from standard input, `{"prompts": [[id, ...], ...], "new": N}`
(prompts of equal length), generates N tokens for each, and prints `{"seconds": S, "tokens": [[id, ...], ...]}`. The first line of the
output is `{"version": "..."}`. The time of loading is not counted.
"""

import json
import sys
import time

import torch
import transformers


def main():
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(int(sys.argv[2]))
    model = transformers.AutoModelForCausalLM.from_pretrained(sys.argv[1]).eval()
    print(json.dumps({"version": f"transformers {transformers.__version__}, torch {torch.__version__}"}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        ids, new = torch.tensor(request["prompts"]), request["new"]
        started = time.perf_counter()
        with torch.inference_mode():
            all_ids = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                min_new_tokens=new,
                max_new_tokens=new,
                pad_token_id=0,
            )
        seconds = time.perf_counter() - started
        print(json.dumps({"seconds": seconds, "tokens": all_ids[:, ids.shape[1] :].tolist()}), flush=True)


main()
