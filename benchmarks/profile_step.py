"""Where an SCST step spends its time, and how near each phase comes to the arithmetic that the machine can do.

    python benchmarks/profile_step.py [--models vit-gpt2 grid grid-features] [--threads 2] [--pixels 224] [--trace FILE]

The steps are those of `benchmarks/scst_step.py` (16 pictures x 5 samples x 20 tokens). The peak is measured here, by
products of fp32 matrices of 2,048 x 2,048; floating-point operations are counted by torch's FlopCounterMode, which
knows matrix products, convolutions and attention. What a phase does beside these (activations, the softmax over the
vocabulary, moving the cache, Python) is time in which none are counted. --trace writes the operations of the last
model's step, those that take longest first.
"""

import argparse
import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from scst_step import MODELS, Bench, of_model
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

PHASES = ("encode", "sample", "reward", "update", "step")
SIDE, PRODUCTS = 2048, 8


def peak() -> float:
    """Floating-point operations a second of the machine's best of several large products."""
    a, b = torch.randn(SIDE, SIDE), torch.randn(SIDE, SIDE)
    best = float("inf")
    for _ in range(PRODUCTS):
        started = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - started)
    return 2 * SIDE**3 / best


def operations(bench: Bench) -> dict[str, int]:
    """The floating-point operations of a step, by phase."""
    counter = FlopCounterMode(display=False)
    found = dict.fromkeys(PHASES, 0)
    phase = bench.trainer.phase

    @contextmanager
    def counted(name: str) -> Iterator[None]:
        before = counter.get_total_flops()
        with phase(name):
            yield
        found[name] += counter.get_total_flops() - before

    bench.trainer.phase = counted  # type: ignore[method-assign]
    with counter:
        bench.rlcap()
    bench.trainer.phase = phase  # type: ignore[method-assign]
    found["step"] = counter.get_total_flops()
    found["update"] = found["step"] - found["encode"] - found["sample"] - found["reward"]
    return found


def main() -> None:
    """Prints a table a model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--baseline", default="leave_one_out", choices=["leave_one_out", "greedy"])
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--pixels", type=int, default=224, help="height and width of the pictures")
    parser.add_argument(
        "--trace", type=Path, help="where the operations of a step are written, those that cost most first"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    can_do = peak()
    machine = f"{arguments.threads} threads, peak {can_do / 1e9:,.0f} GFLOP/s, torch {torch.__version__}"
    print(f"{machine}, {arguments.pixels} px")
    for model in arguments.models:
        bench = of_model(model, arguments.baseline, arguments.pixels)
        bench.rlcap()
        counted = operations(bench)
        times = [bench.rlcap() for _ in range(arguments.repetitions)]
        print(f"\n{model}, {arguments.baseline}: median of {arguments.repetitions}")
        print(f"{'':8}{'ms':>8}{'share':>8}{'GFLOP':>8}{'of peak':>9}")
        whole = statistics.median(own["step"] for own in times)
        for name in PHASES:
            seconds = statistics.median(own[name] for own in times)
            share, flops = seconds / whole, counted[name]
            print(
                f"{name:8}{1000 * seconds:8.0f}{share:8.0%}{flops / 1e9:8.1f}{flops / seconds / can_do:9.0%}",
                flush=True,
            )
    if arguments.trace:
        with profile(activities=[ProfilerActivity.CPU]) as trace:
            bench.rlcap()
        arguments.trace.write_text(trace.key_averages().table(sort_by="self_cpu_time_total", row_limit=40))


if __name__ == "__main__":
    main()
