"""A million rows in tar shards: seconds to the first batch, memory from tenth to tenth, rows a second of the loader.

    python benchmarks/streaming.py [--rows 1000000] [--workers 2] [--folder DIR]

Shards of 10,000 rows, each a small JPEG and a JSON with five captions, are written to a folder (about 3.5 GB for a
million; kept and read again where --folder names one). One epoch then goes through what `rlcap xe` trains on with
`shuffle_buffer: 2000`: the loader of `TrainingRows`, whose workers decode and preprocess. Memory is the resident set of
this process and of its workers, looked at after each tenth.

The last line compares the same loader on pictures of 224 px with what a step of `benchmarks/scst_step.py` (vit-gpt2)
consumes, each alone on the machine.

Exit code 1 where the first batch takes 10 s or more, the memory of the last tenth is more than 10 % above the first's,
or the loader gives less than 1.5 times what the step takes.
"""

import argparse
import io
import json
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import scst_step
from PIL import Image
from transformers import ViTImageProcessor

from captioners.preprocess import Preprocessor
from rlcap.data.collate import VisualCollator
from rlcap.data.stream import CaptionStream
from rlcap.training.scst_arguments import SCSTArguments
from rlcap.training.training_rows import TrainingRows

ROWS_A_SHARD, BATCH, BUFFER, DRAWN = 10_000, 64, 2000, 64
FIRST_BATCH, GROWTH, HEADROOM = 10.0, 1.1, 1.5  # the goals


def write_shards(folder: Path, rows: int, pixels: int) -> None:
    """Writes what is not there yet; a shard appears whole."""
    random = np.random.default_rng(0)
    words = [f"word{n}" for n in range(2000)]
    pictures = [
        _jpeg(random.integers(0, 255, (pixels // 8, pixels // 8, 3), dtype=np.uint8), pixels) for _ in range(DRAWN)
    ]
    for first in range(0, rows, ROWS_A_SHARD):
        shard = folder / f"{first // ROWS_A_SHARD:05d}.tar"
        if shard.exists():
            continue
        with tarfile.open(shard.with_suffix(".part"), "w") as archive:
            for number in range(first, min(first + ROWS_A_SHARD, rows)):
                captions = [" ".join(random.choice(words, 10)) for _ in range(5)]
                _add(archive, f"{number:08d}.jpg", pictures[number % DRAWN])
                _add(archive, f"{number:08d}.json", json.dumps({"captions": captions}).encode())
        shard.with_suffix(".part").rename(shard)


def _jpeg(pixels: np.ndarray, side: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((side, side)).save(buffer, "JPEG")
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def batches(folder: Path, workers: int, side: int) -> Iterator[dict]:
    """What training iterates over: rows decoded, resized to `side` and normalised, without end."""
    with tempfile.TemporaryDirectory() as output:
        args = SCSTArguments(
            output_dir=output,
            per_device_train_batch_size=BATCH,
            max_steps=1,
            dataloader_num_workers=workers,
            use_cpu=True,
        )
    stream = CaptionStream(str(folder), buffer=BUFFER)
    preprocess = Preprocessor(ViTImageProcessor(size={"height": side, "width": side}))
    rows = TrainingRows(stream, args)
    for batch in rows.stream_loader(stream, VisualCollator(preprocess)):
        rows.count(batch)
        yield batch


def resident() -> float:
    """The resident sets of this process and its children, in MiB."""
    own = Path("/proc/self/task").iterdir()
    children = {child for task in own for child in (task / "children").read_text().split()}
    return scst_step.status("VmRSS") + sum(_resident_of(child) for child in children)


def _resident_of(process: str) -> float:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


def epoch(folder: Path, rows: int, workers: int, pixels: int) -> tuple[float, list[float], float]:
    """Seconds to the first batch, MiB after each tenth, and rows a second after the first batch."""
    started = time.perf_counter()
    memory: list[float] = []
    seen, first = 0, 0.0
    for batch in batches(folder, workers, pixels):
        first = first or time.perf_counter()
        seen += len(batch["rows"])
        while seen >= rows * (len(memory) + 1) // 10:
            memory.append(resident())
            print(f"{seen:>9,} rows: {memory[-1]:,.0f} MiB", flush=True)
        if seen >= rows:
            break
    return first - started, memory, (seen - BATCH) / (time.perf_counter() - first)


def rate_of_a_step(pixels: int, steps: int = 5) -> float:
    """Pictures a second that an SCST step takes."""
    bench = scst_step.of_model("vit-gpt2", "leave_one_out", pixels)
    bench.rlcap()
    return scst_step.PICTURES / statistics.median(bench.rlcap()["step"] for _ in range(steps))


def main() -> None:
    """Writes the shards, goes through them, and compares with a step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--pixels", type=int, default=32, help="height and width of the million pictures")
    parser.add_argument("--folder", type=Path, help="where shards are kept; default: a folder that is deleted")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.folder or Path(temporary)) / f"{arguments.rows}x{arguments.pixels}"
        folder.mkdir(parents=True, exist_ok=True)
        write_shards(folder, arguments.rows, arguments.pixels)
        first, memory, rate = epoch(folder, arguments.rows, arguments.workers, arguments.pixels)
        growth = memory[-1] / memory[0]
        print(f"first batch after {first:.1f} s; {rate:,.0f} rows a second by {arguments.workers} workers")
        print(f"memory of the last tenth over the first: {growth:.3f}")
        large = Path(temporary) / "224"
        large.mkdir()
        write_shards(large, 4000, 224)
        _, _, loaded = epoch(large, 4000, arguments.workers, 224)
    taken = rate_of_a_step(224)
    ratio = loaded / taken
    print(f"224 px: the loader gives {loaded:,.0f} pictures a second, a step takes {taken:,.1f}: {ratio:.1f} times")
    missed = [first >= FIRST_BATCH, growth > GROWTH, ratio < HEADROOM]
    sys.exit("a goal is missed" if any(missed) else 0)


if __name__ == "__main__":
    main()
