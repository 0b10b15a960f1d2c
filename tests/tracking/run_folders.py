"""Run folders as trainers leave them, made from captions."""

import math
from pathlib import Path
from typing import Any

from PIL import Image

from rlcap.evaluation.metrics import evaluate_captions
from rlcap.tracking import run_directory
from rlcap.tracking.evaluated_pictures import pictures_file, write_pictures

SCRIPT = "<script>document.title = 'taken'</script>"
ATTRIBUTE = '"><img src=x onerror="document.title = \'taken\'">'
REFERENCES = {
    "gains": ["a red square above a blue circle", "a red square over a circle"],
    "loses": ["a green star on a black ground", "one green star"],
    "stays": ["two yellow crosses", "two crosses that are yellow"],
    SCRIPT: ["a brown diamond & a pink one", ATTRIBUTE],
}
CAPTIONS = {
    0: {"gains": "a a square", "loses": "a green star on a black ground", "stays": "two crosses", SCRIPT: "a diamond"},
    5: {"gains": "a red square", "loses": "a green star", "stays": "two crosses", SCRIPT: f"a {SCRIPT} diamond"},
    10: {"gains": "a red square above a blue circle", "loses": "a star", "stays": "two crosses", SCRIPT: "a pink one"},
}


def rows(folder: Path) -> list[dict[str, Any]]:
    """A picture of 400 x 300 pixels for each id of REFERENCES but the last, whose file is missing."""
    found = []
    for number, (image_id, references) in enumerate(REFERENCES.items()):
        path = folder / f"{number}.png"
        if image_id != SCRIPT:
            Image.new("RGB", (400, 300), (60 * number, 90, 120)).save(path)
        found.append({"image_id": image_id, "image": str(path), "references": references})
    return found


def make_run(folder: Path, *, evaluations: dict[int, dict[str, str]] = CAPTIONS, **settings: Any) -> Path:
    """A run of ten steps with a line a step, validated as `evaluations` say."""
    folder.mkdir(parents=True)
    chosen = {"metric_for_best_model": "cider", "greater_is_better": True, "note": SCRIPT, **settings}
    run_directory.write_run(folder, command="scst", settings=chosen, seed=3)
    path = folder / "metrics.jsonl"
    for step in range(11):
        if step:
            logs = {"reward": 0.1 * step, "rewards/cider-d/mean": 0.1 * step, "entropy": 2 - 0.1 * step, "kl": math.nan}
            logs |= {"completions/mean_length": 9.0, "repetition/rep_4": 0.2, "grammar/bad_ending_rate": 1.0}
            run_directory.append_metrics(path, step, logs | {"time/sample": 0.5, "loss": 3.0, "custom": float(step)})
        if step in evaluations:
            measured = evaluate_captions(evaluations[step], REFERENCES, java=False)
            run_directory.append_metrics(path, step, {f"eval/{name}": value for name, value in measured.items()})
            run_directory.write_json(folder / "captions" / f"eval-{step:06d}.json", evaluations[step])
    write_pictures(pictures_file(folder), rows(folder))
    return folder
