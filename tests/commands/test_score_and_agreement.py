"""`rlcap score` and `rlcap agreement` from the command line to their files."""

import json
import os
import sys
from pathlib import Path

import pytest
from PIL import Image

from rlcap.cli import main as rlcap
from rlcap.commands.score import main as score

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "evaluation"))
import judged

REWARDS = """
class Width:
    __name__ = "width"
    needs = frozenset({"images", "references"})

    def __init__(self, times=1):
        self.times = times

    def __call__(self, completions, *, images, references, **columns):
        return [self.times * image.width + len(own) for image, own in zip(images, references)]

    def describe(self):
        return {"name": "width", "times": self.times}
"""


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Captions of two pictures, their data, and a reward of the user's own that looks at both."""
    (tmp_path / "my_rewards.py").write_text(REWARDS)
    monkeypatch.syspath_prepend(str(tmp_path))
    rows = [{"image": f"{n}.png", "references": ["a dog"] * (n + 1), "split": "test"} for n in range(2)]
    for n in range(2):
        Image.new("RGB", (10 * (n + 1), 4)).save(tmp_path / f"{n}.png")
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "captions.json").write_text(json.dumps({"0": "a dog", "1": ["a cat", "a bus runs"]}))
    return [*("--captions", str(tmp_path / "captions.json")), *("--output", str(tmp_path / "out.json"))]


def test_score(given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = ["--data", str(tmp_path / "data.jsonl"), "--split", "test"]
    own = ["--reward", "my_rewards:Width", "--reward_options", '{"times": 2}']
    score([*own, *given, *data])
    result = json.loads((tmp_path / "out.json").read_text())
    assert [row["score"] for row in result["scores"]] == [21, 42, 42]
    assert [row["caption"] for row in result["scores"]] == ["a dog", "a cat", "a bus runs"]
    assert result["header"]["reward"] == {"name": "width", "times": 2}
    assert result["header"]["options"] == {"times": 2}
    assert len(result["header"]["captions"]["sha256"]) == 64
    assert "corpus" not in result["header"]
    assert "3 of 3 captions scored, mean 35.0000" in capsys.readouterr().out


def test_scores_of_other_pictures_or_references_are_not_taken_for_these(given: list[str], tmp_path: Path) -> None:
    rows = [{"image": f"{n}.png", "other": "1.png", "references": ["a dog"]} for n in range(2)]
    data, own = tmp_path / "data.jsonl", ["--reward", "my_rewards:Width", *given, "--id-column", "image"]
    (tmp_path / "captions.json").write_text(json.dumps({"0.png": "a dog", "1.png": "a cat"}))

    def scores(*options: str) -> list[float]:
        score([*own, "--data", str(data), "--overwrite", *options])
        return [row["score"] for row in json.loads((tmp_path / "out.json").read_text())["scores"]]

    data.write_text("\n".join(map(json.dumps, rows)))
    assert scores() == [11, 21]
    assert scores("--image-column", "other") == [21, 21]
    data.write_text("\n".join(json.dumps({**row, "references": ["a dog"] * 3}) for row in rows))
    assert scores("--image-column", "other") == [23, 23]


def test_score_with_document_frequencies_of_the_data(given: list[str], tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_text(
        '{"image": "0.png", "references": ["a dog", "the dog"]}\n{"image": "1.png", "references": ["a red bus"]}'
    )
    score(["--reward", "cider-d", *given, "--data", str(tmp_path / "data.jsonl")])
    result = json.loads((tmp_path / "out.json").read_text())
    assert result["header"]["corpus"]["pictures"] == 2
    assert result["header"]["reward"]["documents"] == 2
    first, second, third = (row["score"] for row in result["scores"])
    assert first > third > second == 0


def test_a_reward_that_hangs_is_named(given: list[str], tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("import time\ndef slow(completions, **columns): time.sleep(60)\n")
    with pytest.raises(RuntimeError, match=r"^slow: no answer within 0.2 seconds"):
        score(["--reward", "slow:slow", *given, "--reward-timeout", "0.2"])


def test_score_of_captions_alone(given: list[str], tmp_path: Path) -> None:
    score(["--reward", "repetition", "--reward-options", '{"n": 1}', *given])
    result = json.loads((tmp_path / "out.json").read_text())
    assert result["mean"] == 0


def test_ranks_of_torchrun(given: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = ["--reward", "bad-ending", *given, "--batch-size", "1"]
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in ("1", "0"):
        assert not (tmp_path / "out.json").exists()
        monkeypatch.setenv("RANK", rank)
        score(own)
    assert json.loads((tmp_path / "out.json").read_text())["scored"] == 3


def test_several_rewards_are_summed_with_their_weights(given: list[str], tmp_path: Path) -> None:
    data = ["--data", str(tmp_path / "data.jsonl")]
    options = ["--reward-options", '{"my_rewards:Width": {"times": 2}, "repetition": {"n": 1}}']
    score(["--reward", "my_rewards:Width", "repetition", "--reward-weights", "0.5", "-1", *options, *given, *data])
    result = json.loads((tmp_path / "out.json").read_text())
    assert [row["score"] for row in result["scores"]] == [10.5, 21, 21]
    assert result["header"]["reward"]["name"] == "width + repetition"
    assert result["header"]["reward"]["weights"] == {"width": 0.5, "repetition": -1.0}
    assert result["header"]["reward"]["rewards"][0] == {"name": "width", "times": 2}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--reward", "bleu", "grammar", "--reward-options", '{"n": 1}'], "an object of names (bleu, grammar) and"),
        (["--reward", "bleu", "repetition", "--reward-weights", "1"], "1 weights for 2 rewards (bleu, repetition)"),
        (["--reward", "my_rewards:Width"], "needs images and references: name their --data"),
        (["--reward", "bleu", "--data", "DATA", "--split", "test"], "has captions of 1 picture (0) that"),
        (["--reward", "bleu", "--reward-options", "[1]"], "--reward-options must be a JSON object, not [1]"),
        (["--reward", "bleu", "--reward-options", "{n: 1}"], "--reward-options is not JSON"),
    ],
)
def test_what_is_wrong_is_one_message(
    given: list[str], tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "one.jsonl"
    data.write_text('{"image": "1.png", "references": ["a dog"], "split": "test"}')
    named = [str(data) if argument == "DATA" else argument for argument in arguments]
    with pytest.raises(SystemExit) as end:
        rlcap(["score", *named, *given])
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_rewards_count_on_the_corpus_of_the_command_line(tmp_path: Path) -> None:
    judged.foil(tmp_path)
    (tmp_path / "train.json").write_text('{"a": ["a dog runs"], "b": ["a red bus", "a bus"], "c": ["two cats"]}')
    what = ["agreement", "--benchmark", "foil", "--data", str(tmp_path), "--metric", "own=rewards.cider_d:CiderD"]
    documents = []
    for more in ([], ["--corpus", str(tmp_path / "train.json")]):
        rlcap([*what, "--resamples", "0", "--output", str(tmp_path / "out.json"), *more])
        described = json.loads((tmp_path / "out.json").read_text())["metrics"]["own"]["metric"]
        documents.append(described["documents"])
    assert documents == [2, 3]


def test_the_corpus_may_be_one_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    judged.foil(tmp_path)
    splits = ["train", "train", "train", "val"]
    rows = [{"image": f"{n}.png", "references": ["a dog runs"], "split": own} for n, own in enumerate(splits)]
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    what = ["agreement", "--benchmark", "foil", "--data", str(tmp_path), "--metric", "own=rewards.cider_d:CiderD"]
    what += ["--resamples", "0", "--output", str(tmp_path / "out.json"), "--corpus-split", "train"]
    rlcap([*what, "--corpus", str(tmp_path / "data.jsonl")])
    assert json.loads((tmp_path / "out.json").read_text())["metrics"]["own"]["metric"]["documents"] == 3
    with pytest.raises(SystemExit):
        rlcap(what)
    assert "--corpus-split is 'train': name the --corpus" in capsys.readouterr().err


def test_agreement(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pycocoevalcap")
    pytest.importorskip("matplotlib")
    judged.foil(tmp_path)
    names = {ending: str(tmp_path / f"out.{ending}") for ending in ("json", "md", "png")}
    what = ["agreement", "--benchmark", "foil", "--data", str(tmp_path), "--metric", "bleu-1", "three=bleu"]
    options = ["--metric-options", '{"three": {"n": 3}}', "--resamples", "20", "--per-caption"]
    rlcap([*what, *options, "--output", names["json"], "--markdown", names["md"], "--plot", names["png"]])
    result = json.loads(Path(names["json"]).read_text())
    assert result["benchmark"]["judgments"] == 3
    assert result["benchmark"]["images"] == 2
    assert result["metrics"]["bleu-1"]["metric"]["tokenizer"]
    assert result["metrics"]["three"]["metric"]["n"] == 3
    # foils share fewer words with the other references than the captions: "a red bus" "bus", "a red car" none
    assert result["metrics"]["bleu-1"]["accuracy"] == {"value": 100, "interval": [100, 100]}
    assert set(result["per_caption"][0]) == {"image_id", "caption", "bleu-1", "three"}
    assert Path(names["md"]).read_text() in capsys.readouterr().out
    with Image.open(names["png"]) as plot:
        assert plot.width > 300
    assert os.path.getsize(names["png"]) > 5000
