"""Small random CLIPs: a directory of open_clip, files in the published layout, and features computed by hand."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import open_clip
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import conv2d, layer_norm, linear, pad

SIDE, PATCH, WIDTH, LAYERS, RANK = 32, 8, 64, 2, 4
CONFIG = {
    "embed_dim": 16,
    "quick_gelu": True,
    "vision_cfg": {"image_size": SIDE, "layers": LAYERS, "width": WIDTH, "patch_size": PATCH, "head_width": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": WIDTH, "heads": 4, "layers": LAYERS},
}
HEADS = 4
State = Mapping[str, Tensor]


def random_state(seed: int = 0) -> dict[str, Tensor]:
    """A plain CLIP's weights, float16 numbers as OpenAI's are, large enough that captions and pictures lie apart."""
    torch.manual_seed(seed)
    state = open_clip.CLIP(**CONFIG).state_dict()
    for key, weight in state.items():
        if weight.ndim > 1:
            state[key] = weight * 2
        elif key.endswith("bias"):
            state[key] = torch.randn_like(weight) * 0.1
    return {key: weight.half().float() for key, weight in state.items()}


def write_open_clip(directory: Path, state: State | None) -> Path:
    """open_clip's directory of the architecture, with weights or without."""
    directory.mkdir(exist_ok=True)
    (directory / "open_clip_config.json").write_text(json.dumps({"model_cfg": CONFIG, "preprocess_cfg": {}}))
    if state is not None:
        save_file(dict(state), directory / "open_clip_model.safetensors")
    return directory


def with_lora(plain: State, *, merged: bool, seed: int = 1) -> dict[str, Tensor]:
    """The keys of a PAC-S++ file: LoRA of rank 4 in conv1, attention and MLPs, the MLPs' merged into weights or not."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator) * 0.15

    state = dict(plain)
    state["visual.conv1.lora_A"] = random(RANK * PATCH, 3 * PATCH)
    state["visual.conv1.lora_B"] = random(WIDTH * PATCH, RANK * PATCH)
    for tower in ("visual.transformer", "transformer"):
        for layer in range(LAYERS):
            block = f"{tower}.resblocks.{layer}"
            state[f"{block}.attn.in_proj_weight_lora_A"] = random(RANK, WIDTH)
            state[f"{block}.attn.in_proj_weight_lora_B"] = random(3 * WIDTH, RANK)
            for name in ("attn.out_proj", "mlp.c_fc", "mlp.c_proj"):
                out, inner = plain[f"{block}.{name}.weight"].shape
                a, b = random(RANK, inner), random(out, RANK)
                state |= {f"{block}.{name}.lora_A": a, f"{block}.{name}.lora_B": b}
                if merged and "mlp" in name:
                    state[f"{block}.{name}.weight"] = plain[f"{block}.{name}.weight"] + 0.25 * b @ a
    return state


def pixels_by_hand(picture: Image.Image) -> Tensor:
    """Shorter side to 32, bicubic; centre; scaled and normalised: [1, 3, 32, 32]."""
    w, h = picture.size
    scale = SIDE / min(w, h)
    picture = picture.resize((max(SIDE, int(scale * w)), max(SIDE, int(scale * h))), Image.Resampling.BICUBIC)
    left, top = round((picture.width - SIDE) / 2), round((picture.height - SIDE) / 2)
    values = np.asarray(picture.crop((left, top, left + SIDE, top + SIDE)).convert("RGB")).astype(np.float32) / 255
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    return torch.tensor((values - np.array(mean)) / np.array(std)).float().permute(2, 0, 1)[None]


def image_features_by_hand(state: State, pixels: Tensor) -> Tensor:
    """[1, 3, 32, 32] to [1, D], LoRA applied at run time where the published modules do: attention and conv1."""
    kernel = state["visual.conv1.weight"]
    if "visual.conv1.lora_A" in state:
        kernel = kernel + 0.25 * (state["visual.conv1.lora_B"] @ state["visual.conv1.lora_A"]).view(kernel.shape)
    x = conv2d(pixels, kernel, stride=PATCH).flatten(2).transpose(1, 2)
    x = torch.cat([state["visual.class_embedding"].expand(1, 1, -1), x], dim=1) + state["visual.positional_embedding"]
    x = _blocks(state, "visual.transformer", _norm(state, "visual.ln_pre", x), None)
    return _norm(state, "visual.ln_post", x[:, 0]) @ state["visual.proj"]


def token_features_by_hand(state: State, ids: list[int]) -> Tensor:
    """A caption's ids, padded to the whole context of 77, to [77, D] states through the projection."""
    x = state["token_embedding.weight"][pad(torch.tensor(ids), (0, 77 - len(ids)))][None]
    mask = torch.full((77, 77), -math.inf).triu(1)
    x = _blocks(state, "transformer", x + state["positional_embedding"], mask)
    return (_norm(state, "ln_final", x) @ state["text_projection"])[0]


def text_features_by_hand(state: State, ids: list[int]) -> Tensor:
    """[1, D]: the state at the end token, which is the last of `ids`."""
    return token_features_by_hand(state, ids)[len(ids) - 1][None]


def _blocks(state: State, tower: str, x: Tensor, mask: Tensor | None) -> Tensor:
    for layer in range(LAYERS):
        block = f"{tower}.resblocks.{layer}"
        x = x + _attention(state, f"{block}.attn", _norm(state, f"{block}.ln_1", x), mask)
        hidden = _linear(state, f"{block}.mlp.c_fc", _norm(state, f"{block}.ln_2", x))
        x = x + _linear(state, f"{block}.mlp.c_proj", hidden * torch.sigmoid(1.702 * hidden))
    return x


def _attention(state: State, name: str, x: Tensor, mask: Tensor | None) -> Tensor:
    qkv = linear(x, state[f"{name}.in_proj_weight"], state[f"{name}.in_proj_bias"])
    if f"{name}.in_proj_weight_lora_A" in state:
        low = linear(x, state[f"{name}.in_proj_weight_lora_A"])
        qkv = qkv + 0.25 * linear(low, state[f"{name}.in_proj_weight_lora_B"])
    q, k, v = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in qkv.chunk(3, dim=-1))
    logits = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    attended = ((logits if mask is None else logits + mask).softmax(-1) @ v).transpose(1, 2).flatten(2)
    out = _linear(state, f"{name}.out_proj", attended)
    if f"{name}.out_proj.lora_A" in state:
        low = linear(attended, state[f"{name}.out_proj.lora_A"])
        out = out + 0.25 * linear(low, state[f"{name}.out_proj.lora_B"])
    return out


def _linear(state: State, name: str, x: Tensor) -> Tensor:
    return linear(x, state[f"{name}.weight"], state[f"{name}.bias"])


def _norm(state: State, name: str, x: Tensor) -> Tensor:
    return layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"])
