"""Vision-language models small enough to be built in a test, with random weights, as directories to load from."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
)

WORDS = [
    "Describe",
    "this",
    "image.",
    "a",
    "the",
    "red",
    "blue",
    "green",
    "circle",
    "square",
    "in",
    "top",
    "left",
    "corner",
    "of",
    "picture",
]
TEMPLATE = (
    "{% for m in messages %}{{ '<s> ' }}{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}{{ 'IMAGE ' }}{% else %}{{ c['text'] }} {% endif %}{% endfor %}{{ '</s> ' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<s> ' }}{% endif %}"
)
SIDE = 16


def llava(directory: Path, positions: int = 48) -> Path:
    """A CLIP vision tower and a Llama."""
    tokenizer = _tokenizer("<image>")
    size = {"height": SIDE, "width": SIDE}
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessor(size=size, crop_size=size, do_center_crop=False),
        tokenizer=tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE.replace("IMAGE", "<image>"),
    )
    layers = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    text = LlamaConfig(vocab_size=len(tokenizer), hidden_size=32, max_position_embeddings=positions, **layers)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(hidden_size=24, image_size=SIDE, patch_size=8, **layers),
        text_config=text,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
    )
    return _saved(LlavaForConditionalGeneration(config), processor, directory)


def qwen2_vl(directory: Path) -> Path:
    """Pictures of any size, and positions that count rows and columns."""
    tokenizer = _tokenizer("<|vision_start|>", "<|image_pad|>", "<|video_pad|>", "<|vision_end|>")
    patches = {"patch_size": 4, "merge_size": 2, "temporal_patch_size": 2}
    pixels = {"size": {"shortest_edge": 64, "longest_edge": 576}}
    processor = Qwen2VLProcessor(
        image_processor=Qwen2VLImageProcessor(**patches, **pixels),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(**patches, **pixels),
        chat_template=TEMPLATE.replace("IMAGE", "<|vision_start|> <|image_pad|> <|vision_end|>"),
    )
    ids = {
        f"{name}_token_id": tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in ("vision_start", "vision_end")
    }
    ids |= {f"{name}_token_id": tokenizer.convert_tokens_to_ids(f"<|{name}_pad|>") for name in ("image", "video")}
    config = Qwen2VLConfig(
        text_config={
            **{"vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2},
            **{"num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 96},
            "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10000.0},
        },
        vision_config={
            **{"depth": 2, "embed_dim": 16, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2},
            **{"patch_size": 4, "spatial_merge_size": 2, "temporal_patch_size": 2},
        },
        **ids,
    )
    return _saved(Qwen2VLForConditionalGeneration(config), processor, directory)


BUILDERS = {"llava": llava, "qwen2_vl": qwen2_vl}


def _tokenizer(*image_tokens: str) -> PreTrainedTokenizerFast:
    special = ["<pad>", "<unk>", "<s>", "</s>", *image_tokens]
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate([*special, *WORDS])}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=list(image_tokens),
    )


def _saved(model: torch.nn.Module, processor: object, directory: Path) -> Path:
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():  # large enough for captions to differ by more than rounding
        if parameter.ndim > 1:
            parameter.data = 0.2 * torch.randn(parameter.shape, generator=generator)
    model.save_pretrained(directory)  # type: ignore[operator]
    processor.save_pretrained(directory)  # type: ignore[attr-defined]
    return directory
