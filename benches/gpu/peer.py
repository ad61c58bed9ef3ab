#!/usr/bin/env python3
"""PyTorch as the peer of training on a GPU: what the machine can do, and how fast PyTorch trains the same GPT-2.

    pip install torch
    peer.py matmul  --device cuda:0 [--sizes 8192x8192x8192,12288x768x3072]
    peer.py speed   --device cuda:0 --precision bf16 --mode compile [--find-batch 64,48,32,24,16,12,8,4]

Prints one JSON object a line to stdout; progress goes to stderr. Status 1: no batch fits in memory; 2: invalid arguments.

matmul   a line a size M x K x N: TFLOP/s (2 M K N operations) of [M, K] . [K, N] on normal random numbers in bf16, in f32
         with TF32 and in f32 without; then a line for a device-to-device copy, in bytes read and written a second. Medians of
         10 after 3 warm-ups.
speed    a line: training from random weights, after `--warmup` steps. A step is forward (with head and loss), backward and
         optimizer (clipping, AdamW, clearing the gradients); each is timed by CUDA events, and the host waits for the device only
         after the first step, after the warm-up and at the end. `tokens_per_second` counts all input tokens over
         the time of all measured steps. `first_step_seconds` runs from before the model is made: with `--mode compile` it
         includes the compilation, and a failed compilation is reported as `skipped` with its reason. Memory is PyTorch's peak,
         allocated and reserved. A step that has begun when `--time-limit` passes is finished, except the first.

The model, its initialization, loss and optimizer are those of stages/model: pre-norm GPT-2 with biases, learned positions, tanh
GELU and a tied head, without dropout; a sequence of n tokens gives n - 1 predictions; AdamW (betas 0.9, 0.999, epsilon
1e-8, decay 0.1 on matrices and embeddings) at a constant rate, after clipping to a global norm of 1. `bf16` is autocast:
weights, moments, residual stream and loss are f32. `f32` allows TF32 in matrix products.
Token i is (i * 7919) % vocabulary.
"""

import argparse
import contextlib
import gc
import json
import math
import signal
import statistics
import sys
import time

STARTED = time.perf_counter()  # before PyTorch, whose import takes seconds

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Block(nn.Module):
    """A block: `[batch, sequence, width]` to the same."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.ModuleDict({"c_attn": nn.Linear(width, 3 * width), "c_proj": nn.Linear(width, width)})
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)})

    def forward(self, x: Tensor) -> Tensor:
        parts = self.attn["c_attn"](self.ln_1(x)).chunk(3, dim=2)
        query, key, value = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in parts)
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.attn["c_proj"](attended.transpose(1, 2).flatten(2))
        return x + self.mlp["c_proj"](F.gelu(self.mlp["c_fc"](self.ln_2(x)), approximate="tanh"))


class Gpt2(nn.Module):
    """GPT-2; its tensors have Hugging Face's names, linear weights are transposed."""

    def __init__(self, vocabulary: int, positions: int, layers: int, width: int, heads: int, seed: int):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocabulary, width), nn.Embedding(positions, width)
        self.h = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.ln_f = nn.LayerNorm(width)
        random = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                residual = name.endswith("c_proj.weight")
                nn.init.normal_(parameter, 0.0, 0.02 / math.sqrt(2 * layers) if residual else 0.02, generator=random)
            elif name.endswith(".bias"):
                nn.init.zeros_(parameter)

    def forward(self, ids: Tensor) -> Tensor:
        """The mean loss in nats of ids `[batch, sequence]`; the last position predicts nothing, as in transformers."""
        x = self.wte(ids) + self.wpe.weight[: ids.shape[1]]
        for block in self.h:
            x = block(x)
        logits = F.linear(self.ln_f(x), self.wte.weight)
        labels = F.pad(ids, (0, 1), value=-100)[:, 1:]
        return F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=-100)


class Training:
    """A model at its first weights, its optimizer and the tokens of all steps, on the device."""

    def __init__(self, given: argparse.Namespace, batch: int, precision: str, mode: str, steps: int):
        allow_tf32(uses_tf32(given, precision))
        self.device = torch.device(given.device)
        self.autocast = lambda: torch.autocast(self.device.type, torch.bfloat16, enabled=precision == "bf16")
        self.tokens = tokens(given, steps * batch).view(steps, batch, given.sequence).to(self.device)
        sizes = given.vocabulary, given.sequence, given.layers, given.width, given.heads
        model = Gpt2(*sizes, seed=0).to(self.device)
        self.parameters = list(model.parameters())
        groups = [
            {"params": [p for p in self.parameters if p.dim() == 2], "weight_decay": 0.1},
            {"params": [p for p in self.parameters if p.dim() == 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=5e-4, fused=True)
        self.model = model
        if mode == "compile":
            torch.compiler.reset()
            self.model = torch.compile(model, dynamic=False)

    def step(self, number: int) -> tuple[Tensor, list]:
        """The loss before the update, on the device, and the moments before, between and after the three parts."""
        moments = [now(self.device)]
        with self.autocast():
            loss = self.model(self.tokens[number])
        moments.append(now(self.device))
        loss.backward()
        moments.append(now(self.device))
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        moments.append(now(self.device))
        return loss.detach(), moments


class TimeUp(BaseException):
    """The time limit passed in a step that may compile. No `Exception`, which the compiler would wrap."""


class Deadline:
    """The time limit, in seconds from the start of the program."""

    def __init__(self, limit: float | None):
        self.end = STARTED + limit if limit else math.inf

    def passed(self) -> bool:
        return time.perf_counter() >= self.end

    @contextlib.contextmanager
    def interrupts(self):
        """Raises `TimeUp` in its body when the limit passes, again each second until the body ends."""
        if self.end < math.inf:
            signal.signal(signal.SIGALRM, lambda *_: time_up())
            signal.setitimer(signal.ITIMER_REAL, max(self.end - time.perf_counter(), 1e-3), 1.0)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)


def time_up():
    raise TimeUp


def tokens(given: argparse.Namespace, sequences: int) -> Tensor:
    """Ids of so many sequences, one after another."""
    return torch.arange(sequences * given.sequence) * 7919 % given.vocabulary


def uses_tf32(given: argparse.Namespace, precision: str) -> bool:
    return precision == "f32" and torch.device(given.device).type == "cuda"


def allow_tf32(allowed: bool):
    torch.set_float32_matmul_precision("high" if allowed else "highest")


def now(device: torch.device):
    """This moment in the device's order of work: a CUDA event, on the CPU seconds."""
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def milliseconds(start, end) -> float:
    """From one moment to another; the device must have reached both."""
    return (end - start) * 1e3 if isinstance(start, float) else start.elapsed_time(end)


def wait(device: torch.device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def out_of_memory(error: Exception) -> bool:
    text = str(error)
    return any(part in text for part in ("out of memory", "ALLOC_FAILED", "can't allocate memory", "not enough memory"))


def median_milliseconds(device: torch.device, work) -> float:
    """The median of 10 calls after 3 warm-ups."""
    times = []
    for _ in range(13):
        start = now(device)
        work()
        end = now(device)
        wait(device)
        times.append(milliseconds(start, end))
    return statistics.median(times[3:])


def write(given: argparse.Namespace, **figures):
    """One line: the command and the machine, then the figures."""
    cuda = torch.device(given.device).type == "cuda"
    machine = {
        "command": given.command,
        "device": torch.cuda.get_device_name(given.device) if cuda else "cpu",
        "torch": torch.__version__,
    }
    rounded = {key: float(f"{value:.6g}") if isinstance(value, float) else value for key, value in figures.items()}
    print(json.dumps(machine | rounded), flush=True)


def progress(text: str):
    print(f"{time.perf_counter() - STARTED:7.1f} s  {text}", file=sys.stderr, flush=True)


def matmul(given: argparse.Namespace):
    device = torch.device(given.device)
    for size in given.sizes:
        m, k, n = size
        figures = {}
        for name, dtype in [("bf16", torch.bfloat16), ("tf32", torch.float32), ("f32", torch.float32)]:
            if name == "tf32" and device.type != "cuda":
                figures["tf32_tflops"] = None
                continue
            allow_tf32(name == "tf32")
            a, b = (torch.randn(shape, device=device, dtype=dtype) for shape in [(m, k), (k, n)])
            c = torch.empty(m, n, device=device, dtype=dtype)
            figures[f"{name}_tflops"] = 2e-9 * m * k * n / median_milliseconds(device, lambda: torch.mm(a, b, out=c))
            progress(f"matmul {m}x{k}x{n} {name}: {figures[f'{name}_tflops']:.4g} TFLOP/s")
        write(given, size=f"{m}x{k}x{n}", **figures)
    size = 1 << (32 if device.type == "cuda" else 28)
    source = torch.empty(size, dtype=torch.uint8, device=device).random_()
    target = torch.empty_like(source)
    time_taken = median_milliseconds(device, lambda: target.copy_(source))
    write(given, copied_bytes=size, gigabytes_per_second=2e-6 * size / time_taken)


def measure(given: argparse.Namespace, batch: int, deadline: Deadline) -> dict:
    """The figures of `speed` for one micro-batch."""
    start, device = time.perf_counter(), torch.device(given.device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    losses, steps, first_step, stopped = [], [], None, None
    training = Training(given, batch, given.precision, given.mode, given.warmup + given.steps)
    try:
        for number in range(given.warmup + given.steps):
            if number == given.warmup:
                wait(device)
            if deadline.passed():
                raise TimeUp
            with deadline.interrupts() if number == 0 else contextlib.nullcontext():
                loss, moments = training.step(number)
            losses.append(loss)
            if number >= given.warmup:
                steps.append(moments)
            if number == 0:
                wait(device)
                first_step = time.perf_counter() - start
                progress(f"batch {batch}: first step after {first_step:.1f} s, loss {loss.item():.4f}")
    except TimeUp:
        stopped = "time limit"
    wait(device)
    cuda = device.type == "cuda"
    whole = [milliseconds(moments[0], moments[3]) for moments in steps]
    seconds = milliseconds(steps[0][0], steps[-1][3]) / 1e3 if steps else None
    figures = {
        "parameters": sum(parameter.numel() for parameter in training.parameters),
        "batch": batch,
        "sequence": given.sequence,
        "precision": given.precision,
        "tf32": uses_tf32(given, given.precision),
        "mode": given.mode,
        "measured_steps": len(steps),
        "stopped": stopped,
        "tokens_per_second": len(steps) * batch * given.sequence / seconds if steps else None,
        "step_milliseconds": statistics.median(whole) if steps else None,
        "best_step_milliseconds": min(whole, default=None),
    }
    for part, name in enumerate(["forward", "backward", "optimizer"]):
        times = [milliseconds(moments[part], moments[part + 1]) for moments in steps]
        figures[f"{name}_milliseconds"] = statistics.median(times) if steps else None
    return figures | {
        "allocated_bytes": torch.cuda.max_memory_allocated(device) if cuda else None,
        "reserved_bytes": torch.cuda.max_memory_reserved(device) if cuda else None,
        "first_loss": losses[0].item() if losses else None,
        "last_loss": losses[-1].item() if losses else None,
        "first_step_seconds": first_step,
    }


def speed(given: argparse.Namespace):
    deadline, failed = Deadline(given.time_limit), []
    for batch in given.find_batch or [given.batch]:
        try:
            figures = measure(given, batch, deadline)
        except Exception as error:
            if not out_of_memory(error):
                if given.mode != "compile":
                    raise
                reason = f"cannot compile: {type(error).__name__}: {error}"
                return write(given, mode=given.mode, precision=given.precision, skipped=reason[:400])
            figures = None
        if figures:
            return write(given, **figures, batches_out_of_memory=failed)
        # Outside `except`: the exception holds the tensors of the failed step.
        failed.append(batch)
        progress(f"batch {batch}: out of memory")
        gc.collect()
        if torch.device(given.device).type == "cuda":
            torch.cuda.empty_cache()
    write(given, mode=given.mode, precision=given.precision, batch=None, batches_out_of_memory=failed)
    sys.exit(1)


def arguments() -> argparse.Namespace:
    sizes = "8192x8192x8192,12288x768x2304,12288x768x3072,12288x3072x768,12288x768x32768"
    numbers = lambda separator: lambda text: [int(part) for part in text.split(separator)]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    products = commands.add_parser("matmul")
    split = lambda text: [numbers("x")(size) for size in text.split(",")]
    products.add_argument("--sizes", type=split, default=sizes, help="MxKxN, separated by commas")
    training = commands.add_parser("speed")
    training.add_argument("--layers", type=int, default=12)
    training.add_argument("--width", type=int, default=768)
    training.add_argument("--heads", type=int, default=12)
    training.add_argument("--vocabulary", type=int, default=32768)
    training.add_argument("--batch", type=int, default=12, help="sequences a step")
    training.add_argument("--sequence", type=int, default=1024, help="tokens a sequence")
    training.add_argument("--mode", choices=["eager", "compile"], default="eager")
    training.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    training.add_argument("--steps", type=int, default=30)
    training.add_argument("--warmup", type=int, default=5, help="steps before the measured ones")
    training.add_argument("--time-limit", type=float, help="seconds from the start of the program")
    training.add_argument("--find-batch", type=numbers(","), help="batches to try in this order until one fits")
    for command in (products, training):
        command.add_argument("--device", default="cuda:0")
    return parser.parse_args()


if __name__ == "__main__":
    given = arguments()
    if torch.device(given.device).type == "cuda":
        torch.cuda.set_device(given.device)
    {"matmul": matmul, "speed": speed}[given.command](given)
