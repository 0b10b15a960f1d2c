"""The gallery of a report: pictures with what the runs said of them, evaluation by evaluation, and what it scored."""

import base64
import io
from collections.abc import Sequence
from typing import Any

from PIL import Image

from rewards.cider_d import CiderD
from rlcap.data.images import BadImage, open_image
from rlcap.tracking.evaluated_pictures import EvaluatedPicture
from rlcap.tracking.report_runs import Run

THUMBNAIL = (288, 288)  # pixels, longest sides
FRAMES = 4  # of a clip, side by side
MAX_STAGES = 24  # evaluations of a run that can be chosen


def gallery(runs: Sequence[Run], limit: int) -> dict[str, Any]:
    """At most `limit` pictures with their captions at every stage (an evaluation of a run) and their CIDEr-D.

    The page opens on the last run that can be shown: `before` is its first evaluation and `after` its best, or its last
    where the first is the best. Of its pictures a third are those that gained most between the two, a third those that
    lost most, the rest evenly from between. CIDEr-D is in [0, 10], with document frequencies of the validation
    references and without EOS: its mean x 100 is `eval/cider`. Runs validated on other pictures are left out.

    Without a picture to show only `reason` is there.
    """
    shown = [run for run in runs if run.evaluations and run.pictures]
    if not shown or limit == 0:
        return {"reason": _why_none(runs, limit)}
    last = shown[-1]
    ids = [image_id for image_id in last.pictures if any(image_id in own for own in last.evaluations.values())]
    if len(ids) < 2:
        return {"reason": f"{last.name} was validated on {len(ids)} picture(s); CIDEr-D needs two or more"}
    references = {image_id: last.pictures[image_id].references for image_id in ids}
    same = [run for run in shown if _same_pictures(run, references)]
    stages = [_stage(runs.index(run), run, step) for run in same for step in _steps(run)]
    captions = [runs[stage["run"]].evaluations[stage["step"]] for stage in stages]
    before, after = _pair(stages, runs.index(last))

    reward = CiderD(corpus=references, eos=False)
    ends = {stage: _scores(reward, captions[stage], references) for stage in {before, after}}
    gains = {name: ends[after][name] - ends[before][name] for name in ids if all(name in own for own in ends.values())}
    if not gains:
        return {"reason": f"no picture of {last.name} has a caption in both its first and its best evaluation"}
    chosen = _chosen(gains, limit)
    kept = {image_id: references[image_id] for image_id in chosen}
    scores = [_scores(reward, own, kept) for own in captions]
    return {
        "stages": stages,
        "before": before,
        "after": after,
        "pictures": [
            {
                "id": image_id,
                "thumbnail": thumbnail(last.pictures[image_id]),
                "references": references[image_id],
                "captions": [own.get(image_id) for own in captions],
                "scores": [own.get(image_id) for own in scores],
            }
            for image_id in chosen
        ],
        "of": len(gains),
        "changed": sum(captions[before][name] != captions[after][name] for name in gains),
        "gained": sum(gain > 1e-9 for gain in gains.values()),
        "lost": sum(gain < -1e-9 for gain in gains.values()),
        "left_out": [run.name for run in runs if run not in same],
    }


def thumbnail(picture: EvaluatedPicture) -> str | None:
    """A small JPEG of a picture, or of up to four frames side by side, as a data URI; None where no file opens."""
    count = len(picture.files)
    wanted = sorted({round(i * (count - 1) / (FRAMES - 1)) for i in range(FRAMES)}) if count else []
    frames = []
    for index in wanted:
        try:
            frame = open_image(picture.files[index])
        except BadImage:
            continue
        side = THUMBNAIL if count == 1 else (THUMBNAIL[0] // 2, THUMBNAIL[1] // 2)
        frame.thumbnail(side)
        frames.append(frame)
    if not frames:
        return None
    strip = Image.new("RGB", (sum(frame.width for frame in frames), max(frame.height for frame in frames)))
    left = 0
    for frame in frames:
        strip.paste(frame, (left, 0))
        left += frame.width
    file = io.BytesIO()
    strip.save(file, "JPEG", quality=78, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def _why_none(runs: Sequence[Run], limit: int) -> str:
    if limit == 0:
        return "no pictures were asked for (--pictures 0)"
    if not any(run.evaluations for run in runs):
        return "no evaluation has been made: set eval_strategy, and captions of the validation pictures are kept"
    return "the runs have captions, but not captions/eval-pictures.json, which says what pictures they are of"


def _same_pictures(run: Run, references: dict[str, list[str]]) -> bool:
    common = run.pictures.keys() & references.keys()
    return bool(common) and all(run.pictures[name].references == references[name] for name in common)


def _steps(run: Run) -> list[int]:
    """The steps of the evaluations to choose from: all, or evenly spaced with the first, the best and the last."""
    steps = list(run.evaluations)
    if len(steps) <= MAX_STAGES:
        return steps
    spaced = {steps[round(i * (len(steps) - 1) / (MAX_STAGES - 2))] for i in range(MAX_STAGES - 1)}
    return [step for step in steps if step in spaced or step == run.best_step]


def _stage(index: int, run: Run, step: int) -> dict[str, Any]:
    steps = list(run.evaluations)
    marks = [name for name, at in (("first", steps[0]), ("best", run.best_step), ("last", steps[-1])) if at == step]
    return {"run": index, "step": step, "marks": marks}


def _pair(stages: list[dict[str, Any]], run: int) -> tuple[int, int]:
    """Which stages a page compares at first: of `run` the first and the best, or what there is."""
    own = [index for index, stage in enumerate(stages) if stage["run"] == run]
    best = next((index for index in own if "best" in stages[index]["marks"]), own[-1])
    after = own[-1] if best == own[0] else best
    if len(own) > 1:
        return own[0], after
    others = [index for index, stage in enumerate(stages) if stage["run"] != run and "best" in stage["marks"]]
    return (others[-1] if others else after), after


def _scores(reward: CiderD, captions: dict[str, str], references: dict[str, list[str]]) -> dict[str, float]:
    ids = [image_id for image_id in references if image_id in captions]
    if not ids:
        return {}
    values = reward(
        [captions[image_id] for image_id in ids],
        references=[references[image_id] for image_id in ids],
        image_id=ids,
    )
    return dict(zip(ids, values, strict=True))


def _chosen(gains: dict[str, float], limit: int) -> list[str]:
    order = sorted(gains, key=lambda image_id: (-gains[image_id], image_id))
    if len(order) <= limit:
        return order
    third = limit // 3
    between = order[third : len(order) - third]
    rest = limit - 2 * third
    spaced = [between[(2 * i + 1) * len(between) // (2 * rest)] for i in range(rest)]
    return [*order[:third], *spaced, *order[len(order) - third :]]
