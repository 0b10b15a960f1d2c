"""Benchmarks of human judgments by name; one module each, whose `read` takes the data and the folder of pictures."""

import importlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from rlcap.evaluation.agreement.benchmark import Benchmark

BENCHMARKS = {
    "flickr8k-expert": "Flickr8k captions rated 1 to 4 by three experts each",
    "flickr8k-cf": "Flickr8k captions, share of crowd workers who accept them",
    "composite": "captions of Flickr8k, Flickr30k and COCO rated 1 to 5",
    "pascal-50s": "pairs of captions (HC, HI, HM, MM), the majority of 48 votes",
    "foil": "COCO captions against the same with one wrong word",
    "polaris": "tables of caption, references, picture and a score",
    "vatex-eval": "captions of videos, rated by three people",
    "activitynet-foil": "paragraphs on videos against the same with wrong words",
    "jsonl": "your own: JSON lines with ratings, or with better and worse",
}
SPLIT = {"polaris", "jsonl"}  # the benchmarks whose files may have splits


@dataclass(frozen=True)
class Reading:
    """What a benchmark is read with.

    images: folder of the pictures or videos; default: beside the data. references: how many references a caption is
    compared with; default: the benchmark's. split: in files that have splits. seed: of what the protocol leaves to
    chance (Pascal-50S: references and tied votes).
    """

    images: Path | None = None
    references: int | None = None
    split: str | None = None
    seed: int = 42


def load_benchmark(
    name: str, data: str | Path, reading: Reading = Reading(), only: Collection[str] | None = None
) -> Benchmark:
    """Reads a benchmark of BENCHMARKS from a folder or file; `only`: the ids of the pictures to keep.

    Raises ValueError for an unknown name, a missing file, a split where there are none, and what is wrong in a file.
    """
    if name not in BENCHMARKS:
        raise ValueError(f"there is no benchmark {name!r}; there are {', '.join(BENCHMARKS)}")
    if reading.split is not None and name not in SPLIT:
        raise ValueError(f"{name} has no splits, but the split {reading.split!r} is asked for")
    module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
    benchmark: Benchmark = module.read(str(data), reading)
    if reading.references is not None:
        benchmark = benchmark.with_references(reading.references)
    return benchmark if only is None else benchmark.only(set(only))
