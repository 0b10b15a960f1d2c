"""Readers of benchmarks, on small files in the layouts of the published ones."""

import csv
import json
import os
import pickle
from pathlib import Path

import datasets
import judged
import numpy as np
import pytest
from PIL import Image

from rlcap.data.collate import open_visual
from rlcap.evaluation.agreement import Pair, Ratings, Reading, load_benchmark
from rlcap.evaluation.agreement.table import counts


def test_flickr8k_expert_leaves_out_own_captions(tmp_path: Path) -> None:
    judged.flickr8k(tmp_path)
    benchmark = load_benchmark("flickr8k-expert", tmp_path)
    assert [(c.image_id, c.caption) for c in benchmark.candidates] == [
        ("1000_ab", "a cat sits ."),
        ("1000_ab", "a horse runs ."),
        ("1001_ab", "a horse sits ."),
    ]
    assert benchmark.candidates[0].references == tuple(judged.CAPTIONS["1000_ab.jpg"])
    assert benchmark.candidates[0].visual == {"image": str(tmp_path / "1000_ab.jpg")}
    assert isinstance(benchmark.judgments, Ratings)
    assert benchmark.judgments.values.tolist() == [[1, 2, 1], [2, 2, 3], [3, 3, 3]]
    assert benchmark.rows(0) == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_flickr8k_captions_from_the_token_file(tmp_path: Path) -> None:
    judged.flickr8k(tmp_path)
    from_karpathy = load_benchmark("flickr8k-expert", tmp_path)
    (tmp_path / "dataset_flickr8k.json").unlink()
    lines = [f"{name}#{n}\t{text}\n" for name, own in judged.CAPTIONS.items() for n, text in enumerate(own)]
    (tmp_path / "Flickr8k.token.txt").write_text("".join(lines))
    assert load_benchmark("flickr8k-expert", tmp_path).candidates == from_karpathy.candidates


def test_flickr8k_cf_takes_judged_captions_out_of_the_references(tmp_path: Path) -> None:
    judged.flickr8k(tmp_path)
    benchmark = load_benchmark("flickr8k-cf", tmp_path)
    own, other, third = benchmark.candidates
    assert own.caption == "a dog eats ."
    assert own.references == other.references == ("a dog runs .", "a dog sits .", "a dog jumps .", "a dog sleeps .")
    assert third.references == tuple(judged.CAPTIONS["1001_ab.jpg"])
    assert isinstance(benchmark.judgments, Ratings)
    assert benchmark.judgments.values.ravel().tolist() == pytest.approx([1, 1 / 3, 0])


def test_clipscores_json_layout(tmp_path: Path) -> None:
    document = {
        "a": {
            "image_path": "Flicker8k_Dataset/a.jpg",
            "ground_truth": ["one", "two"],
            "human_judgement": [
                {"caption": "x", "rating": 4.0},
                {"caption": "x", "rating": 3.0},
                {"caption": "y", "rating": float("nan")},
                {"caption": "z", "rating": 1},
            ],
        }
    }
    (tmp_path / "flickr8k.json").write_text(json.dumps(document))
    for name, data in (("flickr8k-expert", tmp_path), ("flickr8k-cf", tmp_path / "flickr8k.json")):
        benchmark = load_benchmark(name, data)
        assert [c.caption for c in benchmark.candidates] == ["x", "z"]
        assert benchmark.candidates[0].visual == {"image": str(tmp_path / "a.jpg")}
        assert isinstance(benchmark.judgments, Ratings)
        assert benchmark.judgments.count == 3
        assert np.array_equal(benchmark.judgments.values, [[4, 3], [1, np.nan]], equal_nan=True)
        assert benchmark.rows(0) == [0, 0, 1]


def test_composite(tmp_path: Path) -> None:
    judged.composite(tmp_path)
    benchmark = load_benchmark("composite", tmp_path)
    assert [c.caption for c in benchmark.candidates] == 3 * ["a man walks slowly", "a bus", "a cat"]
    assert {c.references for c in benchmark.candidates} == {("a red bus drives", "two people")}
    assert [c.image_id for c in benchmark.candidates][::3] == ["flickr8k-1001", "flickr30k-2002", "coco-3"]
    assert isinstance(benchmark.judgments, Ratings)
    assert benchmark.judgments.values.ravel().tolist() == 3 * [5, 3, 1]


def test_pascal_50s(tmp_path: Path) -> None:
    judged.pascal_50s(tmp_path, votes=[40, 3, 24, 25])
    benchmark = load_benchmark("pascal-50s", tmp_path)
    pairs = benchmark.judgments
    assert isinstance(pairs, list)
    assert len(pairs) == 4 * 5
    assert counts(benchmark)["judgments"] == 4  # whatever the draws
    assert [pair.category for pair in pairs[::5]] == ["HC", "HI", "HM", "MM"]
    better = [benchmark.candidates[pair.better[0]].caption for pair in pairs]
    assert better[::5][:2] == ["first 0", "second 1"]
    assert better[15] == "first 3"
    assert len(set(better[10:15])) == 1  # a tie is broken once, not in each draw
    draws = [benchmark.candidates[pair.better[0]] for pair in pairs[:5]]
    assert [c.draw for c in draws] == [0, 1, 2, 3, 4]
    assert all(len(set(c.references)) == 5 for c in draws)
    assert len({c.references for c in draws}) == 5
    assert load_benchmark("pascal-50s", tmp_path) == benchmark
    assert load_benchmark("pascal-50s", tmp_path, Reading(seed=1)) != benchmark
    few = load_benchmark("pascal-50s", tmp_path, Reading(references=2))
    assert {len(c.references) for c in few.candidates} == {2}


def test_pascal_50s_whose_files_do_not_fit(tmp_path: Path) -> None:
    judged.pascal_50s(tmp_path, votes=[40])
    (tmp_path / "other").mkdir()
    judged.pascal_50s(tmp_path / "other", votes=[40, 8])
    os.replace(tmp_path / "other" / "pair_pascal.mat", tmp_path / "pair_pascal.mat")
    with pytest.raises(ValueError, match="2 pairs, 2 categories and 48 votes"):
        load_benchmark("pascal-50s", tmp_path)


def test_foil(tmp_path: Path) -> None:
    judged.foil(tmp_path)
    benchmark = load_benchmark("foil", tmp_path)
    assert benchmark.judgments == [Pair((0,), (1,), "7"), Pair((0,), (2,), "7"), Pair((3,), (4,), "8")]
    assert benchmark.candidates[2].caption == "a cow runs"
    assert benchmark.candidates[2].references == ("a dog on grass", "the dog")
    one = load_benchmark("foil", tmp_path, Reading(references=1))
    assert one.candidates[0].references == ("a dog on grass",)


def test_vatex_eval(tmp_path: Path) -> None:
    judged.vatex_eval(tmp_path)
    benchmark = load_benchmark("vatex-eval", tmp_path, Reading(references=1))
    assert benchmark.candidates[2].caption == "three words here"
    assert benchmark.candidates[2].references == ("reference 0 of 2",)
    assert benchmark.candidates[2].visual == {"video": str(tmp_path / "v2.mp4"), "video_frames": "linspace:10"}
    assert isinstance(benchmark.judgments, Ratings)
    assert not benchmark.judgments.pooled
    assert benchmark.judgments.values.tolist() == [[1, 4, 1], [2, 3, 1], [3, 2, 5], [4, 1, 5]]


class _Opens:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch opened",)


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judged.vatex_eval(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "candidates_list.pkl").write_bytes(pickle.dumps(_Opens()))
    with pytest.raises(ValueError, match=r"candidates_list.pkl is not read: it holds posix.system"):
        load_benchmark("vatex-eval", tmp_path)
    assert not (tmp_path / "opened").exists()


def test_activitynet_foil(tmp_path: Path) -> None:
    judged.activitynet_foil(tmp_path)
    benchmark = load_benchmark("activitynet-foil", tmp_path)
    assert benchmark.judgments == [Pair((0, 1), (2, 3), "v_1")]
    first, second, wrong, _ = benchmark.candidates
    assert wrong.caption == "a dog runs"
    assert first.references == wrong.references == ("a runner",)
    assert second.references == ("a runner", "somebody else")  # none is covered: all
    assert second.visual is not None
    assert second.visual["video_frames"] == "times:" + ",".join(f"{30.5 + n:g}" for n in range(10))


ROWS = [("a dog", ["one dog", "the dog"], 0.75), ("a cat", ["one cat"], 0.25), ("a bus", ["one dog", "the dog"], 0.0)]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_polaris_tables(tmp_path: Path, kind: str) -> None:
    for name, colour in (("a.png", "red"), ("b.png", "blue")):
        Image.new("RGB", (4, 4), colour).save(tmp_path / name)
    files = ["a.png", "b.png", "a.png"]
    path = tmp_path / f"polaris.{kind}"
    if kind == "csv":
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["mt", "refs", "score", "imgid"])
            writer.writerows(
                (cand, str(refs), score, name) for (cand, refs, score), name in zip(ROWS, files, strict=True)
            )
    elif kind == "jsonl":
        lines = [
            json.dumps({"cand": cand, "refs": refs, "human_score": score, "img": name})
            for (cand, refs, score), name in zip(ROWS, files, strict=True)
        ]
        path.write_text("\n".join(lines))
    else:
        columns = {name: [row[n] for row in ROWS] for n, name in enumerate(("cand", "refs", "human_score"))}
        table = datasets.Dataset.from_dict({**columns, "img": [str(tmp_path / name) for name in files]})
        table.cast_column("img", datasets.Image()).to_parquet(path)
    benchmark = load_benchmark("polaris", path)
    assert [(c.caption, list(c.references)) for c in benchmark.candidates] == [(c, r) for c, r, _ in ROWS]
    first, second, third = benchmark.images
    assert first == third != second
    assert isinstance(benchmark.judgments, Ratings)
    assert benchmark.judgments.values.ravel().tolist() == [0.75, 0.25, 0.0]
    visuals = [c.visual for c in benchmark.candidates]
    assert all(visual is not None for visual in visuals)
    colours = [open_visual(visual).getpixel((0, 0)) for visual in visuals]  # type: ignore[union-attr, arg-type]
    assert colours == [(255, 0, 0), (0, 0, 255), (255, 0, 0)]


def split_table(path: Path, splits: list[str] | None) -> Path:
    """Three captions as a table of the file's kind, each row of a split."""
    rows = [
        {"cand": cand, "refs": refs, "human_score": score, "imgid": "a.png", **({"split": splits[n]} if splits else {})}
        for n, (cand, refs, score) in enumerate(ROWS)
    ]
    if path.suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    elif path.suffix == ".parquet":
        datasets.Dataset.from_list(rows).to_parquet(path)
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0], delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    return path


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_a_split_of_a_polaris_table(kind: str, tmp_path: Path) -> None:
    path = split_table(tmp_path / f"polaris.{kind}", ["val", "test", "test"])
    for split, captions in (("val", ["a dog"]), ("test", ["a cat", "a bus"]), (None, ["a cat", "a bus"])):
        assert [c.caption for c in load_benchmark("polaris", path, Reading(split=split)).candidates] == captions
    with pytest.raises(ValueError, match="has no split 'train'; there are val, test"):
        load_benchmark("polaris", path, Reading(split="train"))
    split_table(path, None)
    assert len(load_benchmark("polaris", path).candidates) == 3
    with pytest.raises(ValueError, match=r"polaris\.\w+.* [01] is of no split, and the split 'val' is to"):
        load_benchmark("polaris", path, Reading(split="val"))


@pytest.mark.parametrize("benchmark", ["polaris", "jsonl"])
def test_references_tell_rows_apart(benchmark: str, tmp_path: Path) -> None:
    rows = [{"image": "a.png", "caption": "x", "references": [own], "rating": n} for n, own in enumerate("rsr")]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    read = load_benchmark(benchmark, path)
    assert [c.references for c in read.candidates] == [("r",), ("s",)]
    assert isinstance(read.judgments, Ratings)
    assert np.array_equal(read.judgments.values, [[0, 2], [1, np.nan]], equal_nan=True)


def test_own_ratings_and_pairs(tmp_path: Path) -> None:
    rows = [
        {"image": "a.jpg", "caption": "x", "ratings": [1, 2], "references": ["r"], "split": "test"},
        {"image": "a.jpg", "caption": "y", "rating": 3, "split": "val"},
    ]
    path = tmp_path / "own.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    benchmark = load_benchmark("jsonl", path)
    assert benchmark.images == ["a.jpg", "a.jpg"]
    assert isinstance(benchmark.judgments, Ratings)
    assert benchmark.judgments.count == 3
    assert [c.caption for c in load_benchmark("jsonl", path, Reading(split="val")).candidates] == ["y"]

    pair = {"image_id": 3, "better": "x", "worse": "y", "category": "colour"}
    path.write_text(json.dumps(pair))
    assert load_benchmark("jsonl", path).judgments == [Pair((0,), (1,), "3", "colour")]
    path.write_text("\n".join(map(json.dumps, [pair, rows[0]])))
    with pytest.raises(ValueError, match="mixes ratings and pairs"):
        load_benchmark("jsonl", path)


def test_segments_of_a_video_are_pictures_of_their_own(tmp_path: Path) -> None:
    rows = [{"video": "v.mp4", "video_frames": f"times:{n}", "caption": "x", "rating": n} for n in (1, 2, 1)]
    path = tmp_path / "own.jsonl"
    path.write_text("\n".join(map(json.dumps, [*rows, {"video": "v.mp4", "caption": "x", "rating": 3}])))
    assert load_benchmark("jsonl", path).images == ["v.mp4#times:1", "v.mp4#times:2", "v.mp4"]
    path.write_text("\n".join(json.dumps({**row, "image_id": 7}) for row in rows))
    with pytest.raises(ValueError, match=r'line 2: the image_id "7" is another picture, or other frames,'):
        load_benchmark("jsonl", path)


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no benchmark 'polari'; there are flickr8k-expert"):
        load_benchmark("polari", tmp_path)
    with pytest.raises(ValueError, match="foil has no splits, but the split 'test'"):
        load_benchmark("foil", tmp_path, Reading(split="test"))
    with pytest.raises(ValueError, match=r"foilv1.0_test_2017.json is not there, nor in a folder in it \(FOIL\)"):
        load_benchmark("foil", tmp_path)
    judged.flickr8k(tmp_path)
    annotations = tmp_path / "ExpertAnnotations.txt"
    annotations.write_text("1000_ab.jpg\t1001_ab.jpg#7\t1\t1\t1\n")
    with pytest.raises(ValueError, match=r"line 1: there is no caption '1001_ab\.jpg#7'"):
        load_benchmark("flickr8k-expert", tmp_path)
    annotations.write_text("1000_ab.jpg\t1001_ab.jpg#1\t1\tgood\t1\n")
    with pytest.raises(ValueError, match="line 1: a rating must be a number, not 'good'"):
        load_benchmark("flickr8k-expert", tmp_path)
    annotations.write_text("1000_ab.jpg\t1001_ab.jpg#1\t1\t1\n")
    with pytest.raises(ValueError, match="line 1 has 4 fields, not 5"):
        load_benchmark("flickr8k-expert", tmp_path)


def test_only_some_pictures(tmp_path: Path) -> None:
    judged.flickr8k(tmp_path)
    kept = load_benchmark("flickr8k-expert", tmp_path, only=["1001_ab"])
    assert [c.caption for c in kept.candidates] == ["a horse sits ."]
    assert isinstance(kept.judgments, Ratings)
    assert kept.judgments.values.tolist() == [[3, 3, 3]]
    judged.foil(tmp_path)
    pairs = load_benchmark("foil", tmp_path, only=["8"])
    assert pairs.judgments == [Pair((0,), (1,), "8")]
    assert [c.caption for c in pairs.candidates] == ["a red bus", "a red car"]
    with pytest.raises(ValueError, match="none of the 1 pictures that are to be kept was judged"):
        load_benchmark("foil", tmp_path, only=["9"])
