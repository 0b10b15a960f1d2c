"""The rewards in TRL's GRPOTrainer, on a tiny LVLM: conversational completions, `image` and `images` columns."""

from pathlib import Path
from typing import Any

import lvlms
import pytest
import text_encoders
import tiny_clip
import torch
from datasets import Dataset, Features, Image, List, Value
from tiny import pictures
from tiny_encoders import tiny_encoders
from transformers import AutoModelForImageTextToText, AutoProcessor
from trl import GRPOConfig, GRPOTrainer

import rewards
from rewards.comparative.encoders import PictureEncoder, SentenceEncoder
from rewards.comparative.head import Head, HeadConfig
from rewards.comparative.scorer import Scorer
from rewards.grammar_model import GrammarModel, GrammarSettings
from rewards.multi_tap_model import RatingModel, RatingSettings

REFERENCES = [["a red circle in the corner"], ["the blue square", "a blue square"], ["a green circle"], ["left of a"]]
IDS = ["p0", "p1", "p2", "p3"]


class Noted:
    """A reward that keeps what TRL called it with, and what the one inside said; it scores only some captions."""

    __name__ = "noted"

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def __call__(self, completions: list[Any], **columns: Any) -> list[float | None]:
        self.calls.append({"completions": completions, **columns})
        return [None if i % 2 else 0.0 for i in range(len(completions))]


@pytest.fixture(scope="module")
def lvlm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lvlms.llava(tmp_path_factory.mktemp("lvlm"))


@pytest.fixture(scope="module")
def functions(lvlm: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """One reward of each kind, on encoders with random weights."""
    folder = tmp_path_factory.mktemp("rewards")
    GrammarModel.create(text_encoders.bert(folder / "bert"), GrammarSettings("tiny", width=8)).save(folder / "grammar")
    picture, sentence = tiny_encoders(folder)
    encoders = PictureEncoder.from_pretrained(picture), SentenceEncoder.from_pretrained(sentence)
    Scorer(*encoders, Head(HeadConfig(24, 16, [8], [0.0]))).save(folder / "comparative")
    RatingModel.create(lvlm, settings=RatingSettings(base_model="tiny")).save(folder / "multi-tap")
    clip = tiny_clip.write_open_clip(folder / "clip", tiny_clip.random_state())
    return [
        rewards.load("clip-s", backbone=clip, clamp=False),
        rewards.load("cider-d", corpus=dict(zip(IDS, REFERENCES, strict=True))),
        rewards.load("grammar", path=folder / "grammar"),
        rewards.load("comparative", path=folder / "comparative"),
        rewards.load("multi-tap", path=folder / "multi-tap"),
    ]


def prompts(column: str, ids: bool) -> Dataset:
    """Four pictures with a conversational prompt; `image` has a picture a row, `images` a list of one."""
    columns: dict[str, Any] = {
        "prompt": [[{"role": "user", "content": "Describe this image."}]] * 4,
        "references": REFERENCES,
        column: [[picture] if column == "images" else picture for picture in pictures(4)],
        **({"image_id": IDS} if ids else {}),
    }
    message = {"role": Value("string"), "content": Value("string")}
    features: dict[str, Any] = {"prompt": List(message), "references": List(Value("string"))}
    features |= {
        column: List(Image()) if column == "images" else Image(),
        **({"image_id": Value("string")} if ids else {}),
    }
    return Dataset.from_dict(columns, features=Features(features))


@pytest.mark.parametrize(("column", "ids"), [("image", True), ("images", False)])
def test_two_steps_of_grpo(column: str, ids: bool, lvlm: Path, functions: list[Any], tmp_path: Path) -> None:
    noted = Noted()
    processor = AutoProcessor.from_pretrained(lvlm)
    processor.tokenizer.eos_token = "</s>"
    args = GRPOConfig(
        output_dir=str(tmp_path),
        max_steps=2,
        per_device_train_batch_size=4,
        num_generations=2,
        max_completion_length=6,
        learning_rate=1e-2,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        bf16=False,
        disable_tqdm=True,
    )
    trainer = GRPOTrainer(
        model=AutoModelForImageTextToText.from_pretrained(lvlm),
        reward_funcs=[*functions, noted],
        args=args,
        train_dataset=prompts(column, ids),
        processing_class=processor,
    )
    before = {name: parameter.clone() for name, parameter in trainer.model.named_parameters()}
    trainer.train()

    lines = [line for line in trainer.state.log_history if "reward" in line]
    assert len(lines) == len(noted.calls) == 2
    assert any(not torch.equal(before[name], p) for name, p in trainer.model.named_parameters())
    for line, call in zip(lines, noted.calls, strict=True):
        completions = call.pop("completions")
        assert len(completions) == 4
        assert all(completion[0]["role"] == "assistant" for completion in completions)
        assert {"trainer_state", "log_extra", "log_metric", "prompts", "completion_ids", column} <= set(call)
        for function in functions:  # what was logged is the mean of what each says of these completions
            values = function(completions, **call)
            assert len(values) == 4
            name = function.__name__
            assert line[f"rewards/{name}/mean"] == pytest.approx(sum(values) / 4, abs=1e-5)
        assert line["rewards/noted/mean"] == 0.0


def test_content_in_parts_and_texts_are_one_caption(functions: list[Any]) -> None:
    """The three forms in which TRL may hand over a completion score alike, and an empty one is scored too."""
    captions = ["a red circle", "", "the blue square"]
    columns = {"image": pictures(3), "references": REFERENCES[:3]}
    for function in functions:
        plain = function(captions, **columns)
        told = function([[{"role": "assistant", "content": text}] for text in captions], **columns)
        parts = [[{"role": "assistant", "content": [{"type": "text", "text": text}]}] for text in captions]
        assert plain == pytest.approx(told, abs=1e-6)
        assert plain == pytest.approx(function(parts, **columns), abs=1e-6)
        assert len(set(plain)) > 1
