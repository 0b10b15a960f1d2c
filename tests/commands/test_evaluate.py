"""`rlcap evaluate` from files to the table and the JSON file."""

import json
from pathlib import Path

import pytest
from PIL import Image

from rlcap.cli import main as rlcap
from rlcap.commands.evaluate import main

pytest.importorskip("pycocoevalcap", reason="the COCO metrics are optional: pip install 'rlcap[coco]'")

PREDICTIONS = {"1": "A dog runs on grass.", "2": "a red bus on a"}
REFERENCES = {"1": ["A dog runs on the grass.", "a brown dog runs"], "2": ["A red bus on a street."]}


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    (tmp_path / "p.json").write_text(json.dumps(PREDICTIONS))
    (tmp_path / "r.json").write_text(json.dumps(REFERENCES))
    return ["--predictions", str(tmp_path / "p.json"), "--references", str(tmp_path / "r.json"), "--no-java"]


def test_table_and_file(files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "train.txt").write_text("a dog runs on grass\n")
    main(
        [*files, "--output", str(tmp_path / "o.json"), "--train-captions", str(tmp_path / "train.txt"), "--per-caption"]
    )
    out = capsys.readouterr().out
    assert "bad_ending_rate" in out
    assert "50.00" in out
    result = json.loads((tmp_path / "o.json").read_text())
    assert result["bad_ending_rate"] == 50
    assert result["novel_share"] == 50
    assert result["captions"] == 2
    assert 0 < result["bleu_4"] < 100
    assert result["counts"] == {"predictions": 2, "references": 2, "scored": 2}
    assert result["settings"]["no_java"] is True
    assert result["versions"]["pycocoevalcap"]
    assert result["per_caption"]["2"]["caption"] == "a red bus on a"
    assert result["per_caption"]["2"]["bad_ending_errors"] == ["a"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["o.json", "p.json", "r.json", "train.txt"]


def test_other_pictures_are_refused_unless_allowed(files: list[str], tmp_path: Path, capsys) -> None:
    (tmp_path / "p.json").write_text(json.dumps({**PREDICTIONS, "9": "a cat"}))
    (tmp_path / "r.json").write_text(json.dumps({**REFERENCES, "5": ["a cow"], "6": ["a hen"]}))
    with pytest.raises(SystemExit) as stopped:
        rlcap(["evaluate", *files])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert "1 picture (9) without references, 2 pictures (5, 6) without a prediction" in error
    assert "--allow-missing" in error
    main([*files, "--allow-missing", "--metrics", "diversity", "--output", str(tmp_path / "o.json")])
    result = json.loads((tmp_path / "o.json").read_text())
    assert result["captions"] == 2
    assert any("left out: 1 picture (9) without references" in note for note in result["notes"])
    assert "cider" not in result


def test_nothing_in_common(files: list[str], tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(json.dumps({"x": ["a"]}))
    with pytest.raises(ValueError, match="no picture has both"):
        main([*files, "--allow-missing"])


def test_flickr8k_references_without_their_pictures(shared: Path, tmp_path: Path) -> None:
    """The first reference of each test picture against all five: every n-gram of it is there."""
    karpathy = shared / "data/flickr8k/dataset_flickr8k.json"
    images = [image for image in json.loads(karpathy.read_text())["images"] if image["split"] == "test"]
    captions = {image["filename"].removesuffix(".jpg"): image["sentences"][0]["raw"] for image in images}
    (tmp_path / "p.json").write_text(json.dumps(captions))
    output = tmp_path / "o.json"
    given = ["--predictions", str(tmp_path / "p.json"), "--references", str(karpathy), "--split", "test"]
    wanted = ["--metrics", "bleu", "bad_ending", "novel", "--train-captions", str(karpathy)]
    main([*given, *wanted, "--output", str(output)])
    result = json.loads(output.read_text())
    assert result["captions"] == 1000
    assert result["bleu_4"] == pytest.approx(100, abs=1e-4)
    assert result["bad_ending_rate"] < 1
    assert 90 < result["novel_share"] < 100


def test_captions_retrieve_their_pictures(tmp_path: Path) -> None:
    """Two pictures, of which a caption finds one: what the ranks by themselves say, through the command."""
    pytest.importorskip("open_clip", reason="the encoder is open_clip's: pip install 'rlcap[clip]'")
    from tiny_clip import random_state, write_open_clip

    from rewards.clip_features import Features
    from rewards.dual_encoder_loading import load_dual_encoder
    from rlcap.evaluation.retrieval import caption_hits

    encoder = write_open_clip(tmp_path / "clip", random_state())
    captions = {"1": "a dog runs", "2": "a red bus"}
    (tmp_path / "photos").mkdir()
    for name, colour in (("1", "red"), ("2", "blue")):
        Image.new("RGB", (32, 32), colour).save(tmp_path / "photos" / f"{name}.png")
    rows = [{"image": f"{name}.png", "references": [text]} for name, text in captions.items()]
    (tmp_path / "r.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "p.json").write_text(json.dumps(captions))
    files = ["--predictions", str(tmp_path / "p.json"), "--references", str(tmp_path / "r.jsonl")]
    look = ["--images", str(tmp_path / "photos"), "--retrieval-encoder", str(encoder), "--retrieval-prefix", ""]
    main([*files, *look, "--metrics", "retrieval", "--output", str(tmp_path / "o.json")])
    result = json.loads((tmp_path / "o.json").read_text())
    features = Features(load_dual_encoder(encoder), device="cpu", autocast=None, batch_size=2, capacity=0)
    visuals = {name: {"image": str(tmp_path / "photos" / f"{name}.png")} for name in captions}
    hits = caption_hits(features, captions, visuals, "")
    assert result["retrieval_1"] == 50 * sum(own[0] for own in hits.values())
    assert result["retrieval_5"] == 100
    assert "bleu_4" not in result
