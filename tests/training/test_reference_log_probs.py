"""The reference of ranking-DPO in its three forms: all the same numbers, and each refused where it would be wrong."""

import copy
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from chains import chain_dataset, ranking_trainer
from peft.utils.other import ModulesToSaveWrapper
from tiny import CAPTIONS, pictures, tiny_encoder_decoder

from captioners import LoraSettings
from rlcap.training.reference import AdaptersOff
from rlcap.training.reference_store import key_of, stored_chains

LORA = {"freeze": ["vision", "connector"], "lora_parts": ["decoder"], "lora_rank": 2}


def logged(trainer: Any) -> list[dict[str, float]]:
    lines = [{k: v for k, v in line.items() if "time/" not in k} for line in trainer.state.log_history]
    return [line for line in lines if "train_loss" not in line and len(line) > 2]


def test_all_three_train_alike(tmp_path: Path) -> None:
    dataset = chain_dataset(tmp_path, 6)
    found = []
    for reference in ("frozen_copy", "adapters_off", "stored"):
        options = {**LORA, "val": dataset, "eval_strategy": "steps", "eval_steps": 2, "max_steps": 4}
        trainer = ranking_trainer(
            tiny_encoder_decoder(), dataset, tmp_path / reference, reference=reference, learning_rate=1e-2, **options
        )
        trainer.train()
        found.append((logged(trainer), trainer.captioner.state_dict()))
    assert found[0][0][-1]["eval/kl_lower_bound"] > 1e-4
    for lines, weights in found[1:]:
        for line, expected in zip(lines, found[0][0], strict=True):
            assert line == pytest.approx(expected, abs=1e-4)
        for name, tensor in weights.items():
            assert tensor.allclose(found[0][1][name], atol=1e-5), name


def test_adapters_off_needs_that_nothing_else_trains(tmp_path: Path) -> None:
    dataset = chain_dataset(tmp_path, 2)
    options = {"reference": "adapters_off", **LORA, "freeze": ["vision"]}
    with pytest.raises(
        ValueError, match=r"2 parameters outside of adapters train: model\.enc_to_dec_proj.*frozen_copy"
    ):
        ranking_trainer(tiny_encoder_decoder(), dataset, tmp_path / "a", **options)
    frozen = tiny_encoder_decoder().requires_grad_(False)
    with pytest.raises(ValueError, match="this captioner has no adapters"):
        AdaptersOff(frozen)


def test_adapters_off_takes_modules_to_save() -> None:
    captioner = tiny_encoder_decoder()
    captioner.freeze("vision", "connector")
    captioner.add_lora(LoraSettings(("decoder",)))
    before = copy.deepcopy(captioner).eval()
    saved = ModulesToSaveWrapper(captioner.model.enc_to_dec_proj, "default")
    saved.enable_adapters(True)
    captioner.model.enc_to_dec_proj = saved
    reference = AdaptersOff(captioner)
    with torch.no_grad():
        for parameter in captioner.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter))
    trained = {name for name, p in captioner.named_parameters() if p.requires_grad}
    assert any("modules_to_save" in name for name in trained)
    visual, captions = captioner.preprocess(pictures(2)), captioner.tokenize([CAPTIONS[:3]] * 2)
    expected = before(visual, captions).log_probs
    assert reference.log_probs([], visual, captions).equal(expected)
    assert not captioner(visual, captions).log_probs.allclose(expected, atol=1e-2)
    assert {name for name, p in captioner.named_parameters() if p.requires_grad} == trained


def test_stored_is_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = chain_dataset(tmp_path, 6)
    shared: dict[str, Any] = {"reference": "stored", "reference_dir": str(tmp_path / "shared"), "max_steps": 1}
    ranking_trainer(tiny_encoder_decoder(), dataset, tmp_path / "a", **shared).train()
    (folder,) = (tmp_path / "shared").iterdir()
    assert (folder / "header.json").is_file()
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    trainer = ranking_trainer(tiny_encoder_decoder(), dataset, tmp_path / "b", **shared, beta=0.7)
    monkeypatch.setattr(trainer, "_score", None)  # nothing is to be computed
    trainer.train()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before

    for name, options, rows in (
        ("other weights", {}, dataset),
        ("other settings", {"max_caption_length": 20}, dataset),
        ("other chains", {}, dataset.select(range(5))),
    ):
        captioner = tiny_encoder_decoder(seed=1 if name == "other weights" else 0)
        ranking_trainer(captioner, rows, tmp_path / name, **{**shared, **options}).train()
    assert len(list((tmp_path / "shared").iterdir())) == 4


def test_no_second_captioner_is_in_memory_with_stored(tmp_path: Path) -> None:
    captioner = tiny_encoder_decoder()
    trainer = ranking_trainer(captioner, chain_dataset(tmp_path, 3), tmp_path / "run", reference="stored", max_steps=1)
    trainer.train()
    values = vars(trainer._reference).values()
    assert not any(isinstance(value, torch.nn.Module) for value in values)


def chain(position: int) -> list[torch.Tensor] | None:
    """Made-up log-probabilities; the picture of chain 3 cannot be decoded."""
    generator = torch.Generator().manual_seed(position)
    return None if position == 3 else [torch.randn(k + 1, generator=generator) for k in range(2 + position % 3)]


class Counted:
    """Scores chains, and breaks off after `most` of them."""

    def __init__(self, most: int = 1000) -> None:
        self.most, self.asked = most, []

    def __call__(self, positions: Any) -> Any:
        for position in positions:
            if len(self.asked) == self.most:
                raise KeyboardInterrupt
            self.asked.append(position)
            yield position, chain(position)


def assert_whole(found: list[Any]) -> None:
    assert len(found) == 10
    for position, own in enumerate(found):
        expected = chain(position)
        assert (own is None) is (expected is None)
        assert all(a.equal(b) for a, b in zip(own or [], expected or [], strict=True))


def test_a_store_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    header = {"weights": "a"}
    with pytest.raises(KeyboardInterrupt):
        stored_chains(tmp_path, header, 10, Counted(most=4))
    records = tmp_path / key_of(header) / "0.bin"
    whole = records.read_bytes()
    records.write_bytes(whole[:-5])  # a kill in the middle of a record
    score = Counted()
    assert_whole(stored_chains(tmp_path, header, 10, score))
    # Chain 3, whose record has but a head, was the last; with its head torn it is done again, and nothing before it.
    assert score.asked == [3, 4, 5, 6, 7, 8, 9]
    again = Counted()
    assert_whole(stored_chains(tmp_path, header, 10, again))
    assert again.asked == []


def test_processes_share_the_work_whatever_their_number(tmp_path: Path) -> None:
    header = {"weights": "a"}
    first = Counted()
    with pytest.raises(ValueError, match=r"lacks the reference of 5 chains .* a folder that all machines share"):
        stored_chains(tmp_path, header, 10, first, rank=1, world=2)
    assert first.asked == [1, 3, 5, 7, 9]
    three = [Counted() for _ in range(3)]  # as three processes: each waits until the others have written
    missing = [0, 2, 4, 6, 8]
    for rank in (2, 1, 0):
        copied = tmp_path / str(rank)
        shutil.copytree(tmp_path / key_of(header), copied / key_of(header))
        with pytest.raises(ValueError, match=re.escape("lacks the reference")):
            stored_chains(copied, header, 10, three[rank], rank=rank, world=3)
    assert sorted(position for own in three for position in own.asked) == missing
    assert three[0].asked == [0, 6]
