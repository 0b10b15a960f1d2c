"""`rlcap chains` and `rlcap chains show`, as a user runs them."""

import json
import sys
from pathlib import Path

import pytest
from commands import rlcap

from rlcap.data import load_chains

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "degrading"))
from chat_server import said, server

PIPELINE = Path(__file__).resolve().parents[3] / "shared" / "data" / "weights" / "en_core_web_sm"


@pytest.fixture
def captions(tmp_path: Path) -> Path:
    """Two pictures with two captions each."""
    (tmp_path / "images").mkdir()
    rows = []
    for name, colour in (("a", "red"), ("b", "green")):
        (tmp_path / "images" / f"{name}.jpg").write_bytes(b"never opened")
        texts = [f"Two men in {colour} hats sit on a bench .", f"a man with a {colour} hat is sitting near a small dog"]
        rows.append(json.dumps({"image": f"{name}.jpg", "captions": texts, "split": "train"}))
    path = tmp_path / "captions.jsonl"
    path.write_text("\n".join(rows))
    return path


def test_rules_then_show(captions: Path, tmp_path: Path) -> None:
    pytest.importorskip("spacy", reason="needs spaCy: pip install 'rlcap[chains]'")
    if not PIPELINE.is_dir():
        pytest.skip("needs the spaCy pipeline of ../shared")
    out = tmp_path / "made" / "chains.jsonl"
    words = ["chains", "--data", str(captions), "--output", str(out), "--length", "4", "--parser", str(PIPELINE)]
    done = rlcap(words, tmp_path)
    assert done.code == 0, done.err
    assert "4 chains of 4 captions" in done.out
    chains = load_chains(out)
    assert len(chains) == 4
    assert Path(chains[0]["image"]).samefile(tmp_path / "images" / "a.jpg")
    assert [len(captions) for captions in chains["captions"]] == [4, 4, 4, 4]
    assert chains[0]["references"][0].startswith("Two men in red")
    summary = json.loads((out.parent / "chains.jsonl.summary.json").read_text())
    assert summary["header"]["degrader"] == "rules"
    assert summary["lengths"] == {"4": 4}
    shown = rlcap(["chains", "show", str(out), "--image-id", "a"], tmp_path)
    assert shown.code == 0, shown.err
    assert "a#0" in shown.out
    assert "b#0" not in shown.out
    edit = json.loads(out.read_text().splitlines()[0])["edits"][0]
    assert edit["kind"] in shown.out
    assert "(was: " in shown.out
    assert "Two men in red hats sit on a bench ." in shown.out
    captions.write_text(captions.read_text().replace("red", "blue"))
    refused = rlcap(words, tmp_path)
    assert refused.code == 2
    assert "chains.jsonl was made with other settings than these: data.sha256 was" in refused.err
    assert rlcap([*words, "--overwrite"], tmp_path).code == 0
    assert load_chains(out)[0]["captions"][0].startswith("Two men in blue")
    none = rlcap(["chains", "show", str(out), "--image-id", "z"], tmp_path)
    assert none.code == 2
    assert "no such chains" in none.err


def test_an_endpoint_that_goes_down_loses_nothing(captions: Path, tmp_path: Path) -> None:
    pytest.importorskip("httpx", reason="needs httpx: pip install 'rlcap[chains]'")
    out = tmp_path / "chains.jsonl"
    down = True

    def answer(body: dict) -> tuple[int, object]:  # type: ignore[type-arg]
        caption = body["messages"][-1]["content"].split("Caption:\n")[1]
        if down and "green" in caption:
            return 401, {"error": "down"}
        return said(json.dumps({"kind": "object", "caption": caption.replace("hat", "crown")}))

    with server(answer) as (url, requests):
        words = ["chains", "--data", str(captions), "--output", str(out), "--degrader", "llm", "--model", "m"]
        words += ["--endpoint", url, "--length", "2", "--in-flight", "1", "--tries", "1"]
        done = rlcap(words, tmp_path)
        assert done.code == 2
        assert "gives no answers (HTTP 401" in done.err
        assert not out.exists()
        asked, down = len(requests), False
        done = rlcap(words, tmp_path)
        assert done.code == 0, done.err
        assert len(requests) - asked == 2  # the red ones were kept
    chains = load_chains(out)
    assert len(chains) == 4
    assert chains["captions"][0][1] == "Two men in red crowns sit on a bench ."


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--length", "1"], "--length is 1; it must be 2 or more"),
        (["--shortest", "6"], "--shortest 6 is more than --length 5"),
        (["--kinds", "colour"], "no kind of edit 'colour'"),
        (["--degrader", "llm"], "--degrader llm needs a --model"),
        (
            ["--degrader", "llm", "--model", "m", "--endpoint", "server:80/v1"],
            "--endpoint is 'server:80/v1'; it must be",
        ),
        (["--degrader", "llm", "--model", "no/folder/here"], "--model no/folder/here is neither the folder nor"),
        (["--model", "m"], "are for --degrader llm"),
        (["--join", "0"], "--join is 0"),
        (["--parser", "nowhere"], "spaCy"),
    ],
)
def test_what_cannot_be(captions: Path, tmp_path: Path, words: list[str], told: str) -> None:
    done = rlcap(["chains", "--data", str(captions), "--output", str(tmp_path / "o.jsonl"), *words], tmp_path)
    assert done.code == 2
    assert told in done.err
