"""`rlcap positives`: what is generated depends on seed and row alone, goes on after a kill, and trains encoders."""

import json
from pathlib import Path
from typing import Any

import pytest
import tiny_towers
import torch
from PIL import Image
from small import scene_captioner

from rlcap.cli import main
from rlcap.data import load_captions
from rlcap.data.scenes import make_scenes
from rlcap.positives.manifest import generated_captions, generated_pictures, read_manifest, write_manifest
from rlcap.positives.pictures import picture_maker


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_scenes(tmp_path_factory.mktemp("drawn"), 11, 3, 0, seed=1, size=32)


@pytest.fixture(scope="module")
def captioner(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("captioner")
    scene_captioner(load_captions(scenes), width=32, layers=1, dropout=0.1).save_pretrained(folder)
    return folder


def captions(scenes: Path, captioner: Path, output: Path, *more: str) -> dict[str, list[str]]:
    flags = ("--captioner", str(captioner), "--data", str(scenes), "--output", str(output), "--batch-size", "4")
    main(["positives", "captions", *flags, "--device", "cpu", "--max-new-tokens", "8", "--debug", *more])
    return generated_captions(output) if output.exists() else {}


def test_captions_depend_on_seed_and_row_alone(
    scenes: Path, captioner: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampled = ("--way", "sample", "--number", "3")
    one = captions(scenes, captioner, tmp_path / "one.jsonl", *sampled)
    assert list(one) == load_captions(scenes, split="train")["image_id"]
    assert all(1 <= len(own) <= 3 for own in one.values())
    assert len({text for own in one.values() for text in own}) > 11
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert not captions(scenes, captioner, tmp_path / "two.jsonl", *sampled)
    monkeypatch.setenv("RANK", "0")
    assert captions(scenes, captioner, tmp_path / "two.jsonl", *sampled) == one
    assert not (tmp_path / "two.jsonl.parts").exists()
    monkeypatch.delenv("WORLD_SIZE")
    assert captions(scenes, captioner, tmp_path / "other.jsonl", *sampled, "--seed", "1") != one
    head, _ = read_manifest(tmp_path / "one.jsonl")
    assert (head["way"], head["temperature"], head["number"], head["seed"]) == ("sample", 1.0, 3, 0)
    with pytest.raises(ValueError, match=r"one.jsonl was made with other settings than these: seed was 0 and is 1; "):
        captions(scenes, captioner, tmp_path / "one.jsonl", *sampled, "--seed", "1")
    assert captions(scenes, captioner, tmp_path / "one.jsonl", *sampled, "--seed", "1", "--overwrite") != one


def test_beams_and_greedy_are_what_the_captioner_says(scenes: Path, captioner: Path, tmp_path: Path) -> None:
    rows = load_captions(scenes, split="train")
    said = tmp_path / "said.json"
    flags = ("--captioner", str(captioner), "--data", str(scenes), "--split", "train", "--max-new-tokens", "8")
    for beams, more in (("1", ("--way", "greedy")), ("3", ("--way", "beam", "--number", "2"))):
        made = captions(scenes, captioner, tmp_path / f"{beams}.jsonl", *more)
        main(["caption", *flags, "--num-beams", beams, "--output", str(said), "--device", "cpu", "--overwrite"])
        expected = json.loads(said.read_text())
        assert [made[image_id][0] for image_id in rows["image_id"]] == list(map(str.strip, expected.values()))
    with pytest.raises(ValueError, match="greedy gives 1 to 1 captions a picture, not 2"):
        captions(scenes, captioner, tmp_path / "many.jsonl", "--way", "greedy", "--number", "2")


def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    ids = [f"row-{number}" for number in range(10)]
    asked: list[int] = []

    def make(batches: list[list[int]]) -> Any:
        for batch in batches:
            if len(asked) >= 6 and not tmp_path.joinpath("again").exists():
                raise KeyboardInterrupt
            asked.extend(batch)
            yield [{"image_id": ids[row], "captions": [f"said {row}"]} for row in batch]

    options: dict[str, Any] = {"rank": 0, "world": 1, "batch_size": 3, "max_failed": 0.0, "unit": "picture"}
    output = tmp_path / "out.jsonl"
    with pytest.raises(KeyboardInterrupt):
        write_manifest(ids, make, output, {"format": "x", "seed": 0}, **options)
    assert asked == [0, 1, 2, 3, 4, 5]
    with pytest.raises(ValueError, match="seed was 0 and is 1"):
        write_manifest(ids, make, output, {"format": "x", "seed": 1}, **options)
    tmp_path.joinpath("again").touch()
    write_manifest(ids, make, output, {"format": "x", "seed": 0}, **options)
    assert asked == list(range(10))
    assert generated_captions(output) == {ids[row]: [f"said {row}"] for row in range(10)}
    write_manifest(ids, make, output, {"format": "x", "seed": 0}, **options)
    assert asked == list(range(10))  # it was there


def tiny_pipeline(folder: Path, texts: list[str]) -> Path:
    """Stable Diffusion in miniature, with random weights."""
    reason = "generating pictures needs diffusers: pip install 'rlcap[diffusion]'"
    diffusers = pytest.importorskip("diffusers", reason=reason)
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    tokenizer = tiny_towers.words(texts)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    places = {"max_position_embeddings": tiny_towers.LENGTH, "eos_token_id": len(tokenizer) - 1}
    text = CLIPTextModel(CLIPTextConfig(vocab_size=len(tokenizer), **sizes, **places))
    blocks = {"block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4}
    unet = diffusers.UNet2DConditionModel(
        **blocks,
        sample_size=16,
        in_channels=4,
        out_channels=4,
        cross_attention_dim=16,
        attention_head_dim=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )
    kinds = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    pipeline = diffusers.StableDiffusionPipeline(
        vae=diffusers.AutoencoderKL(**blocks, **kinds, latent_channels=4),
        text_encoder=text,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=diffusers.DDIMScheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    return folder


def test_pictures_depend_on_seed_and_row_alone(scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = load_captions(scenes, split="train")
    model = tiny_pipeline(tmp_path / "pipeline", [text for own in rows["references"] for text in own])

    def generate(output: Path, *more: str) -> None:
        flags = ("--model", str(model), "--data", str(scenes), "--output", str(output), "--size", "32", "--steps", "2")
        main(["positives", "pictures", *flags, "--batch-size", "4", "--device", "cpu", "--debug", *more])

    generate(tmp_path / "one")
    made = generated_pictures(tmp_path / "one")
    assert list(made) == rows["image_id"]
    opened = {image_id: Image.open(file).convert("RGB") for image_id, file in made.items()}
    assert {picture.size for picture in opened.values()} == {(32, 32)}
    assert len({picture.tobytes() for picture in opened.values()}) == len(rows)
    _, listed = read_manifest(tmp_path / "one" / "pictures.jsonl")
    assert all(line["caption"] in own for line, own in zip(listed, rows["references"], strict=True))
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        generate(tmp_path / "two")
    assert read_manifest(tmp_path / "two" / "pictures.jsonl") == read_manifest(tmp_path / "one" / "pictures.jsonl")
    for image_id, file in generated_pictures(tmp_path / "two").items():
        assert Image.open(file).convert("RGB").tobytes() == opened[image_id].tobytes()


class Output(dict[str, Any]):
    """A pipeline's output as diffusers gives it: a mapping with attributes."""

    images: list[Image.Image]


def test_what_fails_fails_alone(scenes: Path, tmp_path: Path) -> None:
    """A pipeline that raises on a caption, and whose safety checker withholds another's picture."""
    rows = load_captions(scenes, split="train").select(range(5))
    asked: list[list[str]] = []

    def pipeline(prompt: list[str], generator: list[torch.Generator]) -> Output:
        asked.append(prompt)
        if chosen[1] in prompt:
            raise RuntimeError("CUDA out of memory")
        output = Output(nsfw_content_detected=[text == chosen[3] for text in prompt])
        output.images = [Image.new("RGB", (8, 8)) for _ in prompt]
        return output

    from rlcap.positives.pictures import chosen_captions

    chosen = chosen_captions(rows, seed=7)
    assert len(set(chosen)) == 5
    make = picture_maker(pipeline, rows, tmp_path, seed=7, options={})
    made = [row for batch in make([[0, 1, 2], [3, 4]]) for row in batch]
    assert [len(prompt) for prompt in asked] == [3, 1, 1, 1, 2]
    assert ["failed" in row for row in made] == [False, True, False, True, False]
    assert made[1]["failed"] == "RuntimeError: CUDA out of memory"
    assert made[3]["failed"] == "withheld by the safety checker"
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == sorted(
        f"{rows[row]['image_id']}.png" for row in (0, 2, 4)
    )
