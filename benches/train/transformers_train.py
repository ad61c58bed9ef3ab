#!/usr/bin/env python3
"""The peer of benches/train/compare.py: trains GPT-2 with Hugging Face transformers and PyTorch on the CPU.

    transformers_train.py WEIGHTS LAYERS WIDTH HEADS VOCABULARY BATCH SEQUENCE STEPS THREADS MODE

Loads the initial weights from a safetensors file, trains STEPS steps on one batch of ids from a formula with fused AdamW and clipping,
as `train_speed` does, and prints the same line of JSON. MODE is `eager` or `compile`.
"""

import json
import resource
import statistics
import sys
import time

import torch
import transformers
from safetensors.torch import load_file


def products(config, batch, positions):
    """The seconds that the matrix products of a step take without those of attention."""

    def of(rows, inputs, outputs):
        x, w, dy = torch.rand(rows, inputs), torch.rand(inputs, outputs), torch.rand(rows, outputs)
        seconds = []
        for _ in range(5):
            start = time.perf_counter()
            x @ w, dy @ w.T, x.T @ dy
            seconds.append(time.perf_counter() - start)
        return statistics.median(seconds)

    width, rows = config.n_embd, batch * positions
    linear = [(width, 3 * width), (width, width), (width, 4 * width), (4 * width, width)]
    layer = sum(of(rows, *sizes) for sizes in linear)
    return config.n_layer * layer + of(batch * (positions - 1), width, config.vocab_size)


def main(weights, *arguments):
    layers, width, heads, vocabulary, batch, positions, steps, threads = map(int, arguments[:8])
    torch.set_num_threads(threads)
    transformers.logging.set_verbosity_error()
    config = transformers.GPT2Config(
        vocab_size=vocabulary, n_positions=positions, n_embd=width, n_layer=layers, n_head=heads,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )
    model = transformers.GPT2LMHeadModel(config)
    model.transformer.load_state_dict(load_file(weights))
    model.train()
    decays = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    others = [parameter for parameter in model.parameters() if parameter.dim() == 1]
    optimizer = torch.optim.AdamW(
        [{"params": decays, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
        lr=1e-3, betas=(0.9, 0.999), eps=1e-8, fused=True,
    )
    forward = torch.compile(model) if arguments[8] == "compile" else model
    ids = torch.tensor([place * 7919 % vocabulary for place in range(batch * positions)]).reshape(batch, positions)
    losses = []
    for step in range(steps):
        loss = forward(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        if step == 0:
            start, processor = time.perf_counter(), time.process_time()
    seconds, counted = time.perf_counter() - start, steps - 1
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({
        "version": f"transformers {transformers.__version__}, torch {torch.__version__}",
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "losses": losses,
        "tokens_per_second": counted * batch * positions / seconds,
        "seconds_per_step": seconds / counted,
        "processor_seconds_per_step": (time.process_time() - processor) / counted,
        "peak_mib": peak,
        "products_seconds": products(config, batch, positions),
    }))


main(*sys.argv[1:])
