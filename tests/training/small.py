"""What the tests of training share: a captioner that learns drawn scenes in seconds, random pictures, and recorders."""

from pathlib import Path
from typing import Any

import datasets
import torch
from tiny import CAPTIONS, pictures
from transformers import (
    GPT2Config,
    TrainerCallback,
    ViTConfig,
    ViTImageProcessor,
)

from captioners import EncoderDecoder
from captioners.tokenizer import train_tokenizer


def scene_captioner(
    dataset: datasets.Dataset, *, width: int, layers: int, side: int = 32, dropout: float = 0.0, seed: int = 0
) -> EncoderDecoder:
    """An untrained ViT (patches of 8 pixels) and GPT-2 with at most 40 tokens a caption."""
    torch.manual_seed(seed)
    tokenizer = train_tokenizer([caption for captions in dataset["references"] for caption in captions], 400)
    vision = ViTConfig(
        image_size=side,
        patch_size=8,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=2 * width,
    )
    decoder = GPT2Config(
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        n_positions=40,
        n_embd=width,
        n_layer=layers,
        n_head=4,
        resid_pdrop=dropout,
        embd_pdrop=dropout,
        attn_pdrop=dropout,
    )
    return EncoderDecoder.create(vision, decoder, tokenizer, ViTImageProcessor(size={"height": side, "width": side}))


def picture_dataset(folder: Path, number: int) -> datasets.Dataset:
    """Random pictures with two or three references each, of different lengths."""
    rows = []
    for index, picture in enumerate(pictures(number)):
        picture.save(folder / f"{index}.png")
        references = [CAPTIONS[(index + k) % len(CAPTIONS)] for k in range(2 + index % 2)]
        rows.append({"image_id": str(index), "image": str(folder / f"{index}.png"), "references": references})
    return datasets.Dataset.from_list([{**row, "split": "train"} for row in rows])


class Recorder(TrainerCallback):
    """The weights before each step, and the gradients that its optimiser is given."""

    def __init__(self) -> None:
        self.weights: list[dict[str, torch.Tensor]] = []
        self.gradients: list[dict[str, torch.Tensor]] = []

    def on_step_begin(self, *args: Any, model: torch.nn.Module, **kwargs: Any) -> None:
        self.weights.append({name: tensor.clone() for name, tensor in model.state_dict().items()})

    def on_pre_optimizer_step(self, *args: Any, model: torch.nn.Module, **kwargs: Any) -> None:
        self.gradients.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
