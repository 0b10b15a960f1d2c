"""What a report says of runs: series, results, the gallery's choice and scores, and that it needs nothing else."""

import base64
import io
import json
import re
from pathlib import Path

import pytest
from PIL import Image
from run_folders import ATTRIBUTE, CAPTIONS, REFERENCES, SCRIPT, make_run, rows

from rlcap.cli import main
from rlcap.evaluation.metrics import IN_SHORT, METRICS, evaluate_captions
from rlcap.tracking import report_curves, report_gallery, run_directory
from rlcap.tracking.evaluated_pictures import EvaluatedPicture, pictures_file, write_pictures
from rlcap.tracking.evaluations import best_step, evaluation_records
from rlcap.tracking.report import as_script_data, page, write_report
from rlcap.tracking.report_runs import read_runs

pytest.importorskip("pycocoevalcap", reason="validation CIDEr comes from pycocoevalcap: pip install 'rlcap[coco]'")


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "scst")


def _charts(groups: list[dict]) -> dict[str, str]:
    return {chart["metric"]: group["title"] for group in groups for kind in ("charts", "more") for chart in group[kind]}


def test_every_number_is_drawn_in_its_group(run_folder: Path) -> None:
    groups = report_curves.curves(read_runs([run_folder]))
    found = _charts(groups)
    of_samples = [title for title in report_curves.ORDER if title != "Order of chains"]
    assert [group["title"] for group in groups] == [*of_samples, "Other"]
    assert found["rewards/cider-d/mean"] == found["reward"] == "Rewards"
    assert found["completions/mean_length"] == found["eval/length"] == "Length and words"
    assert found["repetition/rep_4"] == found["eval/rep_4_count"] == "Repetition"
    assert found["grammar/bad_ending_rate"] == found["eval/bad_ending_rate"] == "Grammar"
    assert (found["eval/cider"], found["entropy"], found["time/sample"], found["custom"]) == (
        *("Validation", "Entropy and objective", "Phase times", "Other"),
    )
    assert "kl" not in found  # null in every line
    (reward,) = [own for group in groups for own in group["charts"] if own["metric"] == "reward"]
    assert reward["series"][0]["points"] == [[step, pytest.approx(0.1 * step)] for step in range(1, 11)]


def test_measures_of_chains_have_a_group_and_a_text(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "ranking", evaluations={})
    names = ("ranking/pair_accuracy", "rewards/position_2", "rewards/margin", "log_probs/best", "kl_lower_bound")
    kinds = (
        "eval/assessment/adjacent_accuracy/count",
        "eval/ranking/exact_order",
        "eval/kl_lower_bound",
        "eval/log_probs/best",
    )
    line = {"step": 11, **dict.fromkeys((*names, *kinds), 0.5)}
    (folder / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    (group,) = report_curves.curves(read_runs([folder]))
    assert group["title"] == "Order of chains"
    charts = {own["metric"]: own["text"] for own in (*group["charts"], *group["more"])}
    assert set(charts) == {*names, *kinds}
    assert all(charts.values())
    assert charts["eval/assessment/adjacent_accuracy/count"].endswith("by log-probability; edits of the kind count")


def test_a_long_series_is_thinned_to_means(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "long", evaluations={})
    lines = [json.dumps({"step": step, "loss": float(step % 2)}) for step in range(1, 10_001)]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    (group,) = report_curves.curves(read_runs([folder]))
    (series,) = group["charts"][0]["series"]
    assert series["mean_of"] == 25
    assert len(series["points"]) == report_curves.MAX_POINTS
    assert series["points"][-1] == [10_000, pytest.approx(0.48)]
    assert sum(value for _, value in series["points"]) / 400 == pytest.approx(0.5)


def test_runs_are_laid_over_each_other(run_folder: Path, tmp_path: Path) -> None:
    other = make_run(tmp_path / "xe", evaluations={}, learning_rate=1e-3)
    charts = {
        own["metric"]: own for group in report_curves.curves(read_runs([run_folder, other])) for own in group["charts"]
    }
    assert [own["run"] for own in charts["reward"]["series"]] == [0, 1]
    assert [own["run"] for own in charts["eval/cider"]["series"]] == [0]


def test_results_are_those_of_the_first_best_and_last_evaluation(run_folder: Path) -> None:
    (run,) = read_runs([run_folder])
    measured = evaluation_records(run.records)
    table = {row["metric"]: row for row in report_curves.results([run])}
    assert next(iter(table)) == "cider"
    for metric, row in table.items():
        (cells,) = row["cells"]
        assert cells["first"] == {"step": 0, "value": measured[0][metric]}
        assert cells["best"] == {"step": run.best_step, "value": measured[run.best_step][metric]}
        assert cells["last"] == {"step": 10, "value": measured[10][metric]}
        assert row["main"] == (metric in IN_SHORT)
    assert [table[name]["better"] for name in ("cider", "rep_4_count", "length")] == [1, -1, 0]
    assert set(IN_SHORT) <= METRICS.keys()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"metric_for_best_model": "cider", "greater_is_better": True}, 2),
        ({"metric_for_best_model": "rep_1_count"}, 3),
        ({"metric_for_best_model": "cider", "early_stopping_threshold": 2.0}, 1),
        ({"metric_for_best_model": "meteor"}, None),
    ],
)
def test_the_best_step_is_chosen_as_training_chooses_it(settings: dict, expected: int | None) -> None:
    values = {1: (50.0, 3.0), 2: (51.0, 2.0), 3: (40.0, 1.0)}
    records = [{"step": step, "eval/cider": c, "eval/rep_1_count": r} for step, (c, r) in values.items()]
    assert best_step(evaluation_records(records), settings) == expected


def test_the_gallery_scores_each_caption_as_validation_does(run_folder: Path) -> None:
    runs = read_runs([run_folder])
    shown = report_gallery.gallery(runs, 10)
    assert [stage["step"] for stage in shown["stages"]] == [0, 5, 10]
    assert shown["stages"][shown["before"]]["marks"] == ["first"]
    assert "best" in shown["stages"][shown["after"]]["marks"]
    for index, stage in enumerate(shown["stages"]):
        mean = sum(picture["scores"][index] for picture in shown["pictures"]) / len(REFERENCES)
        measured = evaluate_captions(CAPTIONS[stage["step"]], REFERENCES, java=False, metrics=["cider"])
        assert 100 * mean == pytest.approx(measured["cider"], abs=1e-6)
        assert [own["captions"][index] for own in shown["pictures"]] == [
            CAPTIONS[stage["step"]][own["id"]] for own in shown["pictures"]
        ]
    assert (shown["pictures"][0]["id"], shown["pictures"][-1]["id"]) == ("gains", "loses")
    assert (shown["of"], shown["changed"], shown["lost"]) == (4, 3, 1)


def test_pictures_are_the_extremes_and_some_from_between() -> None:
    gains = {f"{value:03d}": value - 50.0 for value in range(100)}
    chosen = report_gallery._chosen(gains, 9)
    assert chosen[:3] == ["099", "098", "097"]
    assert chosen[-3:] == ["002", "001", "000"]
    assert chosen[3:6] == ["081", "049", "018"]
    assert report_gallery._chosen(gains, 100) == sorted(gains, reverse=True)
    assert len(report_gallery._chosen(gains, 1)) == 1


def test_thumbnails_are_small_and_clips_are_strips(tmp_path: Path) -> None:
    for index in range(9):
        Image.new("RGB", (640, 320), (index * 25, 0, 0)).save(tmp_path / f"{index}.png")
    files = [str(tmp_path / f"{index}.png") for index in range(9)]

    def size(*paths: str) -> tuple[int, int]:
        uri = report_gallery.thumbnail(EvaluatedPicture(list(paths), []))
        assert uri is not None
        return Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/jpeg;base64,")))).size

    assert size(files[0]) == (288, 144)
    assert size(*files) == (4 * 144, 72)
    assert size(files[0], "missing.png") == (144, 72)
    assert report_gallery.thumbnail(EvaluatedPicture(["missing.png"], [])) is None
    assert report_gallery.thumbnail(EvaluatedPicture([], [])) is None


def test_runs_on_other_pictures_stay_out_of_the_gallery(run_folder: Path, tmp_path: Path) -> None:
    other = make_run(tmp_path / "other")
    write_pictures(pictures_file(other), [{**row, "references": ["something else"]} for row in rows(tmp_path)])
    shown = report_gallery.gallery(read_runs([other, run_folder]), 10)
    assert shown["left_out"] == ["other"]
    assert {stage["run"] for stage in shown["stages"]} == {1}


@pytest.mark.parametrize("missing", ["evaluations", "pictures", "asked"])
def test_without_a_gallery_the_page_says_why(tmp_path: Path, missing: str) -> None:
    folder = make_run(tmp_path / "run", evaluations={} if missing == "evaluations" else CAPTIONS)
    if missing == "pictures":
        pictures_file(folder).unlink()
    shown = report_gallery.gallery(read_runs([folder]), 0 if missing == "asked" else 10)
    words = {"evaluations": "no evaluation has been made", "pictures": "eval-pictures.json", "asked": "--pictures 0"}
    assert words[missing] in shown["reason"]


def test_the_page_needs_nothing_else_and_untrusted_text_stays_data(run_folder: Path) -> None:
    html = page(read_runs([run_folder]))
    assert html.count("<script") == 2
    assert html.count("</script>") == 2
    assert "taken" in html
    data, script = re.findall(r"<script[^>]*>(.*?)</script>", html, re.DOTALL)
    assert not re.search(r"[<>&]", data)
    read = json.loads(data)
    assert read["runs"][0]["settings"]["note"] == SCRIPT
    (picture,) = [own for own in read["gallery"]["pictures"] if own["id"] == SCRIPT]
    assert picture["references"][1] == ATTRIBUTE
    assert "innerHTML" not in script
    assert set(re.findall(r"https?://[^\s\"']+", html)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"<(link|script|img|iframe)[^>]*(src|href)=\"(?!data:)", html)
    assert "default-src &#x27;none&#x27;" in html


def test_script_data_is_the_same_value() -> None:
    value = {"</script><!--": ["\u2028 & \ud800", 1.5, None]}
    text = as_script_data(value)
    assert json.loads(text) == value
    assert text.isascii()
    assert not re.search(r"[<>&]", text)


def test_a_name_of_a_run_is_text_too(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "<b>{{data}}", evaluations={})
    assert "<title>&lt;b&gt;{{data}} · rlcap report</title>" in page(read_runs([folder]))


def test_the_command_writes_beside_the_last_run(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = make_run(tmp_path / "scst", evaluations={})
    main(["report", str(run_folder), str(other)])
    assert f"written to {other / 'report.html'}" in capsys.readouterr().out
    text = (other / "report.html").read_text()
    assert str(run_folder) in text  # two runs of one name are told apart by their folders
    main(["report", str(run_folder), "--output", str(tmp_path / "new" / "a.html"), "--pictures", "1"])
    assert (tmp_path / "new" / "a.html").read_text().count("data:image/jpeg") == 1


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("run.json", "holds no run: there is no run.json in it"),
        ("twice", "is named twice"),
        ("captions", "is not image id -> caption; remove it"),
        ("pictures", "is not image id -> files and references"),
        ("metrics", "line 2 is not JSON"),
        ("number", "pictures is -1"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, broken: str, message: str) -> None:
    folder = make_run(tmp_path / "run", evaluations={})
    if broken == "run.json":
        (folder / "run.json").unlink()
    if broken == "captions":
        run_directory.write_json(folder / "captions" / "eval-000001.json", ["a caption"])
    if broken == "pictures":
        pictures_file(folder).write_text('{"a": {"files": "a.png", "references": []}}')
    if broken == "metrics":
        (folder / "metrics.jsonl").write_text('{"step": 1}\n{"step"\n{"step": 3}\n')
    with pytest.raises(ValueError, match=re.escape(message)):
        write_report([folder] * (2 if broken == "twice" else 1), tmp_path / "a.html", pictures=-(broken == "number"))
    assert not (tmp_path / "a.html").exists()
