"""How long `rlcap data check` takes for 100,000 rows: small JPEG files of their own, five captions each.

    python benchmarks/data_check.py [--rows 100000]

Seconds are of the processor (one core, no workers), so that a busy machine does not matter, and by the clock.
"""

import argparse
import io
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from rlcap.data import load_captions
from rlcap.data.check import check

SIDE = 64  # pixels
DRAWN = 64  # pictures that are drawn; each file gets bytes of its own behind its end


def main() -> None:
    """Writes the files, then times reading the captions and checking."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    rows = parser.parse_args().rows
    random = np.random.default_rng(0)
    words = [f"word{n}" for n in range(2000)]
    contents = [_jpeg(random.integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)) for _ in range(DRAWN)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (folder / "captions.jsonl").open("w") as file:
            for n in range(rows):
                (folder / f"{n}.jpg").write_bytes(contents[n % DRAWN] + n.to_bytes(4, "big"))
                captions = [" ".join(random.choice(words, 10)) for _ in range(5)]
                split = "val" if n % 20 == 0 else "train"
                file.write(json.dumps({"image": f"{n}.jpg", "captions": captions, "split": split}) + "\n")
        started = _now()
        dataset = load_captions(folder / "captions.jsonl", drop_empty=None)
        read = _now()
        report = check(dataset)
        ended = _now()
        texts = check(dataset, pictures=False)
        assert report.ok, report.findings
        assert texts.ok, texts.findings
        for what, before, after in (
            ("reading captions", started, read),
            ("checking captions and pictures", read, ended),
            ("checking captions alone", ended, _now()),
        ):
            print(f"{what}: {after[0] - before[0]:.1f} s of the processor, {after[1] - before[1]:.1f} s by the clock")


def _jpeg(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=60)
    return buffer.getvalue()


def _now() -> tuple[float, float]:
    return time.process_time(), time.perf_counter()


if __name__ == "__main__":
    main()
