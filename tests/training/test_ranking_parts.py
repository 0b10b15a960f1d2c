"""Parts under ranking-DPO: frozen, whole or by LoRA, with and without gradient checkpointing; what has no gradient."""

import copy
from pathlib import Path
from typing import Any

import pytest
from chains import chain_dataset, ranking_trainer
from small import Recorder
from tiny import tiny_encoder_decoder

from rlcap.training.parts import parts_table

EACH = [("frozen", "full", "lora"), ("full", "frozen", "full"), ("lora", "full", "frozen"), ("lora", "frozen", "lora")]


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("how", EACH, ids="-".join)
def test_each_part_trains_as_told(how: tuple[str, ...], checkpointing: bool, tmp_path: Path) -> None:
    named = dict(zip(("vision", "connector", "decoder"), how, strict=True))
    options: dict[str, Any] = {
        "freeze": [part for part, way in named.items() if way == "frozen"],
        "lora_parts": [part for part, way in named.items() if way == "lora"],
        "lora_rank": 2,
        "vision_learning_rate": 1e-2,
        "decoder_learning_rate": 2e-2,
        "gradient_checkpointing": checkpointing,
    }
    captioner, recorder = tiny_encoder_decoder(), Recorder()
    trainer = ranking_trainer(captioner, chain_dataset(tmp_path, 3), tmp_path / "run", recorder, **options)
    before = copy.deepcopy(captioner.state_dict())
    table = {line.split()[0]: line for line in parts_table(captioner, trainer.args).splitlines()[1:4]}
    assert {part: "frozen" in line for part, line in table.items()} == {p: way == "frozen" for p, way in named.items()}
    assert {part: "LoRA of rank 2" in line for part, line in table.items()} == {
        p: w == "lora" for p, w in named.items()
    }
    trainer.train()
    for part, way in named.items():
        held = {id(p) for module in captioner.parts()[part] for p in module.parameters()}
        moved = {n for n, p in captioner.named_parameters() if id(p) in held and not p.equal(before[n])}
        assert bool(moved) is (way != "frozen"), part
        assert all(("lora_" in name) is (way == "lora") for name in moved), part


def test_checkpointing_changes_no_gradient(tmp_path: Path) -> None:
    found = []
    for name, on in (("a", False), ("b", True)):
        recorder = Recorder()
        options = {"gradient_checkpointing": on, "max_steps": 1}
        ranking_trainer(
            tiny_encoder_decoder(), chain_dataset(tmp_path, 3), tmp_path / name, recorder, **options
        ).train()
        found.append(recorder.gradients[0])
    assert found[0].keys() == found[1].keys()
    assert all(found[0][name].allclose(found[1][name], atol=1e-5) for name in found[0])


def test_checkpointing_that_loses_gradients_stops_the_run_by_name(tmp_path: Path) -> None:
    # Reentrant checkpointing gives none to layers whose inputs need none: LoRA alone trains in the vision model.
    options = {"freeze": ["connector"], "lora_parts": ["vision"], "gradient_checkpointing": True}
    reentrant = {"gradient_checkpointing_kwargs": {"use_reentrant": True}}
    trainer = ranking_trainer(
        tiny_encoder_decoder(), chain_dataset(tmp_path, 3), tmp_path / "run", **options, **reentrant
    )
    with pytest.raises(ValueError, match=r"should train and got no gradient: model\.encoder.*lora_A.*use_reentrant"):
        trainer.train()
