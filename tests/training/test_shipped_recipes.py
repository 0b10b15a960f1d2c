"""The recipes for published captioners, each on a small model of the same classes, with two steps on drawn scenes."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from tiny import tiny_blip, tiny_blip2_t5, tiny_encoder_decoder, tiny_florence2, tiny_git

import captioners
from captioners import Captioner
from rlcap.cli import main
from rlcap.recipes import find_recipe, shipped_recipes
from rlcap.tracking.run_directory import read_metrics, read_run

MODELS: dict[str, Callable[[], Captioner]] = {
    "scst/coco_blip2_flan_t5_xl": tiny_blip2_t5,
    "scst/coco_blip_base": tiny_blip,
    "scst/coco_blip_large": tiny_blip,
    "scst/coco_florence2_base": tiny_florence2,
    "scst/coco_git_base": tiny_git,
    "scst/coco_vit_gpt2": tiny_encoder_decoder,
}
# How long, how large, how often; everything else is the recipe's.
SHRUNK = {
    **{"max_steps": 2, "warmup_steps": 0, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 1},
    **{"max_new_tokens": 8, "eval_max_new_tokens": 8, "max_caption_length": 12, "dataloader_num_workers": 0},
    **{"eval_steps": 2, "save_steps": 2, "logging_steps": 1, "max_val_images": 2},
    **{"use_cpu": "true", "disable_tqdm": "true"},
}


def test_every_recipe_for_coco_is_run_here() -> None:
    assert set(MODELS) == {name for name in shipped_recipes() if name.startswith("scst/coco_")}


@pytest.mark.parametrize("name", MODELS)
def test_two_steps(name: str, scenes: Path, tmp_path: Path) -> None:
    before = MODELS[name]()
    before.save_pretrained(tmp_path / "start")
    run = tmp_path / "run"
    given = {"config": name, "captioner": tmp_path / "start", "data": scenes, "output_dir": run, **SHRUNK}
    main(["scst", *(str(part) for key, value in given.items() for part in (f"--{key}", value))])

    recipe = yaml.safe_load(find_recipe(name).read_text())
    described = read_run(run)
    assert described is not None
    kept = {key: value for key, value in recipe.items() if key not in SHRUNK}
    assert {key: described["settings"][key] for key in kept} == kept

    logged = read_metrics(run / "metrics.jsonl")
    steps = [line for line in logged if "reward" in line]
    assert [line["step"] for line in steps] == [1, 2]
    assert all(math.isfinite(line[key]) for line in steps for key in ("loss", "grad_norm", "entropy"))
    assert any(line["grad_norm"] > 0 for line in steps)
    assert [line["step"] for line in logged if "eval/cider" in line] == [0, 2]

    after = captioners.load(run / "final")
    assert after.prompt == recipe.get("prompt", before.prompt)
    for part, modules in after.parts().items():
        pairs = zip(_weights(modules), _weights(before.parts()[part]), strict=True)
        moved = any(not torch.equal(now, then) for now, then in pairs)
        assert moved is (part not in recipe.get("freeze", []) and bool(_weights(modules))), part


def _weights(modules: list[torch.nn.Module]) -> list[torch.Tensor]:
    return [parameter.detach() for module in modules for parameter in module.parameters()]
