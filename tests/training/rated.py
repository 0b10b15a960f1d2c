"""Captions with ratings that a tiny model can learn."""

import json
from pathlib import Path

from PIL import Image

COLOURS = ["red", "blue", "green"]


def ratings(folder: Path) -> Path:
    """Captions on a scale from 1 to 5 that says how much red and how many words there are; no two splits share a
    picture.
    """
    lines = []
    for number in range(36):
        Image.new("RGB", (16, 16), COLOURS[number % 3]).save(folder / f"{number}.png")
        split = "val" if number >= 30 else "test" if number >= 24 else "train"
        for colour in COLOURS:
            for extra in ("", " in the picture"):
                objectives = {"redness": float(colour == "red"), "long": [len(extra), len(extra)]}
                lines.append(
                    {
                        **{"image": f"{number}.png", "split": split, "caption": f"a {colour} circle{extra}"},
                        **{"rating": [5, 5] if colour == "red" else 1, "objectives": objectives},
                    }
                )
    path = folder / "ratings.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path
