"""Chains and preference pairs, from JSON lines and from data sets."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pytest
from datasets import Dataset, Features, List, Value
from drawn import png

from rlcap.commands.rank_eval import _chains, _parser
from rlcap.data import load_captions, load_chains
from rlcap.data.chain_prompts import require_prompt
from rlcap.data.collate import open_visual
from rlcap.training.chain_rows import load_chain_splits
from rlcap.training.ranking_arguments import ChainDataArguments

EDITS = [{"kind": "attribute", "before": "red", "after": "blue", "at": 2}, {"kind": "object"}]


def lines(folder: Path, *rows: dict[str, Any], name: str = "chains.jsonl") -> Path:
    """The rows as a file, and the picture a.png beside it."""
    (folder / "a.png").write_bytes(png(7))
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def chain(**more: Any) -> dict[str, Any]:
    return {"image_id": "a", "image": "a.png", "captions": ["a red cat", "a blue cat", "a blue dog"], **more}


def message(role: str, content: Any) -> list[dict[str, Any]]:
    return [{"role": role, "content": content}]


def test_rows_of_our_own(tmp_path: Path) -> None:
    path = lines(tmp_path, chain(edits=EDITS, split="validation", references=["r"]), chain(split="val", source="a#1"))
    dataset = load_chains(path)
    assert dataset.column_names == ["image_id", "image", "captions", "kinds", "split", "references"]
    assert dataset[0]["captions"] == ["a red cat", "a blue cat", "a blue dog"]
    assert dataset["kinds"][:] == [["attribute", "object"], ["", ""]]
    assert dataset["references"][:] == [["r"], []]
    assert dataset["split"][:] == ["val", "val"]
    assert open_visual(dataset[0]).getpixel((0, 0)) == (7, 0, 0)  # type: ignore[union-attr]
    assert len(load_chains(path, split="val")) == 2
    with pytest.raises(ValueError, match='no rows in the split "test"'):
        load_chains(path, split="test")


def test_a_split_keeps_the_captions_with_their_pictures(tmp_path: Path) -> None:
    rows = [chain(image_id=str(n), split=["train", "val"][n % 2], captions=[f"a {n}", f"b {n}"]) for n in range(6)]
    dataset = load_chains(lines(tmp_path, *rows), split="val")
    assert dataset["image_id"][:] == ["1", "3", "5"]
    assert dataset["captions"][:] == [["a 1", "b 1"], ["a 3", "b 3"], ["a 5", "b 5"]]


def test_clips_and_chains_made_elsewhere(tmp_path: Path) -> None:
    dataset = load_chains(lines(tmp_path, {"video": "v1", "frames": ["a.png", "a.png"], "captions": ["one", "two"]}))
    assert dataset.column_names == ["image_id", "frames", "captions", "kinds", "split"]
    assert dataset[0]["image_id"] == "v1"
    assert dataset[0]["frames"] == [str(tmp_path / "a.png")] * 2
    assert dataset[0]["kinds"] == [""]


def test_pairs_of_trl_as_lines(tmp_path: Path) -> None:
    asked = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Describe it."}]}]
    said = message("assistant", [{"type": "text", "text": "a red cat"}])
    rows = (
        {"image": "a.png", "chosen": "a red cat", "rejected": "a dog"},
        {"image": "a.png", "prompt": "Describe it.", "chosen": "a red cat", "rejected": "a dog"},
        {"image": "a.png", "prompt": asked, "chosen": said, "rejected": message("assistant", "a dog")},
        {"image": "a.png", "chosen": asked + said, "rejected": asked + message("assistant", "a dog")},
    )
    dataset = load_chains(lines(tmp_path, *rows))
    assert dataset["captions"][:] == [["a red cat", "a dog"]] * 4
    assert dataset["kinds"][:] == [[""]] * 4
    assert dataset["prompt"][:] == [None, *["Describe it."] * 3]
    assert dataset["image_id"][:] == ["a"] * 4


def test_a_data_set_that_holds_its_pictures(tmp_path: Path) -> None:
    features = Features({"images": List(datasets.Image()), "chosen": Value("string"), "rejected": Value("string")})
    rows = [{"images": [{"bytes": png(n), "path": None}], "chosen": f"a {n}", "rejected": f"b {n}"} for n in range(4)]
    Dataset.from_list(rows, features=features).to_parquet(str(tmp_path / "pairs.parquet"))
    dataset = load_chains(tmp_path / "pairs.parquet")
    assert dataset["captions"][:] == [[f"a {n}", f"b {n}"] for n in range(4)]
    assert [open_visual(row)[0].getpixel((0, 0))[0] for row in dataset] == [0, 1, 2, 3]  # type: ignore[index,union-attr]


def test_conversations_in_a_data_set(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(7))
    row = {"image": "a.png", "chosen": message("assistant", "a cat"), "rejected": message("assistant", "a dog")}
    Dataset.from_list([{**row, "prompt": message("user", "What is it?")}]).save_to_disk(tmp_path / "saved")
    dataset = load_chains(tmp_path / "saved", images=tmp_path, check_images=False)
    assert dataset["captions"][:] == [["a cat", "a dog"]]
    assert dataset["prompt"][:] == ["What is it?"]


def test_pictures_of_a_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"image": {"bytes": png(n), "path": None}, "caption": f"a {n}", "image_id": str(n)} for n in range(3)]
    features = Features({"image": datasets.Image(), "caption": Value("string"), "image_id": Value("string")})
    Dataset.from_list(rows, features=features).save_to_disk(tmp_path / "saved")
    pictures = load_captions(tmp_path / "saved")
    blind = [{"image_id": str(n), "captions": [f"a {n}", f"b {n}"]} for n in (2, 0, 2)]
    path = lines(tmp_path, *blind)
    capsys.readouterr()
    dataset = load_chains(path, pictures=pictures)
    assert capsys.readouterr().err == ""  # no bar of `datasets`
    assert [open_visual(row).getpixel((0, 0))[0] for row in dataset] == [2, 0, 2]  # type: ignore[index,union-attr]
    assert dataset["captions"][:] == [["a 2", "b 2"], ["a 0", "b 0"], ["a 2", "b 2"]]
    assert dataset["references"][:] == [["a 2"], ["a 0"], ["a 2"]]
    with pytest.raises(ValueError, match=r"line 1 has neither .*pictures=load_captions"):
        load_chains(path)
    with pytest.raises(ValueError, match="1 pictures that are not in the data: 9"):
        load_chains(lines(tmp_path, {"image_id": "9", "captions": ["a", "b"]}), pictures=pictures)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (chain(captions=["alone"]), "two captions or more, best first; here is 1"),
        (chain(captions=[]), "here is 0"),
        (chain(captions=["a", "b", "a "]), "captions 1 and 3 are the same, 'a'"),
        (chain(captions=["a", " "]), "caption 2 of the chain is empty"),
        (chain(captions=["a", 1]), '"captions" must be a text or a list of texts'),
        (chain(edits=EDITS[:1]), "3 captions are 2 steps, not 1 edits"),
        (chain(edits="none"), '"edits" must be a list of objects'),
        ({"image": "a.png", "chosen": "a"}, r'no "chosen" or "rejected" \(it has only chosen\)'),
        ({"image": "a.png", "caption": "a"}, 'has no chain: there is no "captions", nor "chosen"'),
        ({"image": "a.png", "chosen": "a", "rejected": "a"}, "captions 1 and 2 are the same"),
        ({"image": "a.png", "chosen": [1], "rejected": "a"}, '"chosen" must be a text or a list of messages'),
        ({"image": "a.png", "chosen": message("user", "a"), "rejected": "a"}, "must be the assistant's, not of 'user'"),
        ({"captions": ["a", "b"]}, "line 2 has neither a picture nor an id"),
        ({"image_id": "b", "captions": ["a", "b"]}, "line 2 has neither"),
        (chain(split="test"), '"a" is in the split "test" here and "train" at .*line 1'),
        (chain(image="b.png"), "'b.png' here and 'a.png' at .*line 1; give every picture its own image_id"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, row: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=f"(?s)line 2.*{told}|{told}") as error:
        load_chains(lines(tmp_path, chain(), row))
    assert "chains.jsonl: line 2" in str(error.value)


def test_all_rows_that_are_no_chains_are_counted(tmp_path: Path) -> None:
    path = lines(tmp_path, chain(), *(chain(captions=[f"{n}"]) for n in range(7)), chain(captions=["a", "a"]))
    with pytest.raises(
        ValueError, match=r"8 rows of .*chains.jsonl are no chains; the first: .*line 2: a chain is"
    ) as told:
        load_chains(path)
    assert str(told.value).endswith(
        "line 2: a chain is two captions or more, best first; here is 1 (and 6 more); "
        f"{path}: line 9: captions 1 and 2 are the same, 'a'; a chain is ordered"
    )
    path = lines(tmp_path, *({"image": "a.png", "sentence": "a"} for _ in range(3)))
    with pytest.raises(
        ValueError, match=r"nor \"chosen\" .*; its keys are image, sentence. `rlcap chains` makes .*2 more"
    ):
        load_chains(path)


def test_files_that_are_no_chains(tmp_path: Path) -> None:
    path = lines(tmp_path, name="empty.jsonl")
    with pytest.raises(ValueError, match="has no rows"):
        load_chains(path)
    path.write_text('{"captions": [\n')
    with pytest.raises(ValueError, match="line 1 is not JSON"):
        load_chains(path)
    with pytest.raises(ValueError, match="none of the first pictures"):
        load_chains(lines(tmp_path, chain(image="nowhere.png")))


def test_chains_of_another_prompt_are_refused(tmp_path: Path) -> None:
    pair = {"image": "a.png", "chosen": "a red cat", "rejected": "a dog"}
    asked = ("Describe it. ", None, "What colour is it?", "How many?")
    path = lines(tmp_path, *({**pair, **({} if prompt is None else {"prompt": prompt})} for prompt in asked))
    dataset = load_chains(path)
    told = (
        r"2 of 4 chains answer another prompt .*'Describe it.': the first is 'What colour is it\?', of \"a\".*--prompt"
    )
    with pytest.raises(ValueError, match=told):
        require_prompt(dataset, "Describe it.")
    with pytest.raises(ValueError, match=r"3 of 4 .*which has none: the first is 'Describe it. '.*--ignore_prompts"):
        require_prompt(dataset, None)
    require_prompt(dataset.select([0, 1]), "Describe it.")
    require_prompt(load_chains(path, ignore_prompts=True), None)
    data = ChainDataArguments(data=str(path), val_split="train", ignore_prompts=True)
    assert ["prompt" in rows.column_names for rows in load_chain_splits(data, True) if rows] == [False, False]
    assert "prompt" in load_chain_splits(replace(data, ignore_prompts=False), False)[0].column_names
    given = _parser().parse_args(["--captioner", "x", "--data", str(path), "--ignore-prompts"])
    assert "prompt" not in _chains(given).column_names
