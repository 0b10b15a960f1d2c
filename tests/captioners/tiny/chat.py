"""Vision-language chat models: one builder a family, with chat templates as published checkpoints have them."""

from typing import Any

import torch
from tokenizers.processors import TemplateProcessing
from transformers import (
    CLIPImageProcessor,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessor,
    Idefics3Processor,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessor,
    LlavaNextProcessor,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    LlavaProcessor,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessor,
    SmolVLMProcessor,
    SmolVLMVideoProcessor,
)

from captioners import Chat
from captioners.tokenizer import train_tokenizer
from tiny.material import CAPTIONS, SIDE, VOCAB, special_ids

POSITIONS = 320
TEXT = {
    **{"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2},
    **{"num_key_value_heads": 1, "max_position_embeddings": POSITIONS},
}
TOWER = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
GRIDS = [[SIDE, 2 * SIDE], [2 * SIDE, SIDE], [2 * SIDE, 2 * SIDE]]
MESSAGES = (
    "{% for message in messages %}OPEN{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}IMAGE{% else %}{{ part['text'] }}{% endif %}{% endfor %}CLOSE{% endfor %}"
    "{% if add_generation_prompt %}BEGIN{% endif %}"
)


def template(opens: str, image: str, closes: str, begins: str) -> str:
    """A chat template; {role} stands for who speaks, Role for the same with a capital."""
    who = "{{ message['role'] }}"
    opens = opens.replace("{Role}", "{{ message['role'] | capitalize }}").replace("{role}", who)
    return MESSAGES.replace("OPEN", opens).replace("IMAGE", image).replace("CLOSE", closes).replace("BEGIN", begins)


QWEN_TEMPLATE = template(
    "<|im_start|>{role}\n", "<|vision_start|><|image_pad|><|vision_end|>", "<|im_end|>\n", "<|im_start|>assistant\n"
)
IDEFICS_TEMPLATE = "<bos>" + template("{Role}: ", "<image>", "<end_of_utterance>\n", "Assistant:")
LLAVA_TEMPLATE = template("{Role}: ", "<image>\n", " ", "Assistant:")


def tokenizer_with(*special: str, begins: bool = False) -> PreTrainedTokenizerFast:
    """Words and these tokens, VOCAB in all; begins: it puts <bos> before a text."""
    words = train_tokenizer(CAPTIONS, VOCAB - len(special)).backend_tokenizer
    if begins:
        bos = ("<bos>", words.token_to_id("<bos>"))
        words.post_processor = TemplateProcessing(single="<bos> $A", special_tokens=[bos])
    names = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, **names)
    tokenizer.add_special_tokens({"additional_special_tokens": list(special)})
    return tokenizer


def captioner(model_class: Any, config: Any, processor: Any, seed: int, max_frames: Any, prompt: Any) -> Chat:
    """A captioner with random weights, large enough for captions to differ by more than rounding."""
    torch.manual_seed(seed)
    model: PreTrainedModel = model_class(config)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    model.generation_config.eos_token_id = processor.tokenizer.eos_token_id
    chat = Chat(model, processor, max_frames, prompt).eval()
    # `generate` is to stop where captions end, as it does with published checkpoints.
    model.generation_config.eos_token_id = [chat.codec.special.eos]
    model.generation_config.pad_token_id = chat.codec.special.pad
    return chat


def tiny_qwen2_vl(
    *,
    max_frames: int | None = None,
    prompt: str | None = None,
    seed: int = 0,
    dropout: float = 0.0,
    newer: bool = False,
) -> Chat:
    """Pictures of any size from 16 to 48 pixels a side, a token for 8 x 8 pixels; newer: Qwen2.5-VL, with windows."""
    marks = ("<|vision_start|>", "<|image_pad|>", "<|video_pad|>", "<|vision_end|>", "<|im_start|>", "<|im_end|>")
    tokenizer = tokenizer_with(*marks)
    patches = {"patch_size": 4, "merge_size": 2, "temporal_patch_size": 2}
    pixels = {"size": {"shortest_edge": 256, "longest_edge": 2304}}
    processor = (Qwen2_5_VLProcessor if newer else Qwen2VLProcessor)(
        image_processor=Qwen2VLImageProcessor(**patches, **pixels),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(**patches, **pixels),
        chat_template=QWEN_TEMPLATE,
    )
    ids = {
        f"{name}_token_id": tokenizer.convert_tokens_to_ids(mark)
        for name, mark in zip(("vision_start", "image", "video", "vision_end"), marks, strict=False)
    }
    rope = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10000.0}
    text = {
        **TEXT,
        **special_ids(tokenizer),
        "vocab_size": VOCAB,
        "rope_parameters": rope,
        "attention_dropout": dropout,
    }
    vision: dict[str, Any] = {"depth": 2, "num_heads": 2, "patch_size": 4, "spatial_merge_size": 2}
    if newer:
        vision |= {"hidden_size": 16, "intermediate_size": 32, "out_hidden_size": 32, "window_size": 16}
        vision |= {"fullatt_block_indexes": [1]}
    else:
        vision |= {"embed_dim": 16, "hidden_size": 32, "mlp_ratio": 2}
    config_class, model_class = (
        (Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration)
        if newer
        else (Qwen2VLConfig, Qwen2VLForConditionalGeneration)
    )
    config = config_class(
        text_config=text,
        vision_config=vision,
        tie_word_embeddings=True,
        **ids,
    )
    return captioner(model_class, config, processor, seed, max_frames, prompt)


def tiny_idefics3(
    *, max_frames: int | None = None, prompt: str | None = None, seed: int = 0, dropout: float = 0.0, smol: bool = False
) -> Chat:
    """Tiles of 16 pixels, 4 tokens each, and the whole picture as one more; smol: SmolVLM, which needs num2words."""
    rows = [f"<row_{i}_col_{j}>" for i in (1, 2) for j in (1, 2)]
    marks = ("<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>", *rows)
    tokenizer = tokenizer_with(*marks, begins=True)
    sizes = {"size": {"longest_edge": 2 * SIDE}, "max_image_size": {"longest_edge": SIDE}}
    options: dict[str, Any] = {"image_seq_len": 4, "chat_template": IDEFICS_TEMPLATE}
    processor: Any
    if smol:
        images, videos = SmolVLMImageProcessor(**sizes), SmolVLMVideoProcessor(**sizes)
        processor = SmolVLMProcessor(images, tokenizer, videos, **options)
    else:
        processor = Idefics3Processor(Idefics3ImageProcessor(**sizes), tokenizer, **options)
    config_class, model_class = (
        (SmolVLMConfig, SmolVLMForConditionalGeneration) if smol else (Idefics3Config, Idefics3ForConditionalGeneration)
    )
    config = config_class(
        vision_config={**TOWER, "image_size": SIDE, "patch_size": 4},
        text_config={"model_type": "llama", **TEXT, "vocab_size": VOCAB, "attention_dropout": dropout},
        scale_factor=2,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        tie_word_embeddings=False,
    )
    return captioner(model_class, config, processor, seed, max_frames, prompt)


def tiny_llava(
    *, max_frames: int | None = None, prompt: str | None = None, seed: int = 0, dropout: float = 0.0
) -> Chat:
    """A CLIP of 4 positions behind CLS, and a Llama whose head is not its table of words."""
    tokenizer = tokenizer_with("<image>", begins=True)
    size = {"height": SIDE, "width": SIDE}
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessor(size=size, crop_size=size, do_center_crop=False),
        tokenizer=tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=LLAVA_TEMPLATE,
    )
    config = LlavaConfig(
        vision_config={"model_type": "clip_vision_model", **TOWER, "image_size": SIDE, "patch_size": 8},
        text_config={"model_type": "llama", **TEXT, "vocab_size": VOCAB, "attention_dropout": dropout},
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        tie_word_embeddings=False,
    )
    return captioner(LlavaForConditionalGeneration, config, processor, seed, max_frames, prompt)


def tiny_llava_next(
    *, max_frames: int | None = None, prompt: str | None = None, seed: int = 0, dropout: float = 0.0
) -> Chat:
    """A picture as a whole and as tiles, by its shape, behind a Mistral whose window holds all."""
    tokenizer = tokenizer_with("<image>", begins=True)
    size = {"shortest_edge": SIDE}
    processor = LlavaNextProcessor(
        image_processor=LlavaNextImageProcessor(
            size=size, crop_size={"height": SIDE, "width": SIDE}, image_grid_pinpoints=GRIDS
        ),
        tokenizer=tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=LLAVA_TEMPLATE,
    )
    config = LlavaNextConfig(
        vision_config={"model_type": "clip_vision_model", **TOWER, "image_size": SIDE, "patch_size": 8},
        text_config={"model_type": "mistral", **TEXT, "vocab_size": VOCAB, "attention_dropout": dropout},
        image_grid_pinpoints=GRIDS,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        tie_word_embeddings=False,
    )
    return captioner(LlavaNextForConditionalGeneration, config, processor, seed, max_frames, prompt)


def tiny_llava_onevision(
    *, max_frames: int | None = None, prompt: str | None = None, seed: int = 0, dropout: float = 0.0
) -> Chat:
    """A SigLIP, tiles by the shape of the picture, and a Qwen2."""
    tokenizer = tokenizer_with("<image>", "<video>", "<|im_start|>", "<|im_end|>")
    size = {"height": SIDE, "width": SIDE}
    processor = LlavaOnevisionProcessor(
        image_processor=LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=GRIDS),
        tokenizer=tokenizer,
        video_processor=LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=4,
        vision_feature_select_strategy="full",
        chat_template=template("<|im_start|>{role}\n", "<image>", "<|im_end|>\n", "<|im_start|>assistant\n"),
    )
    config = LlavaOnevisionConfig(
        vision_config={"model_type": "siglip_vision_model", **TOWER, "image_size": SIDE, "patch_size": 8},
        text_config={"model_type": "qwen2", **TEXT, "vocab_size": VOCAB, "attention_dropout": dropout},
        image_grid_pinpoints=GRIDS,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<video>"),
        tie_word_embeddings=True,
    )
    return captioner(LlavaOnevisionForConditionalGeneration, config, processor, seed, max_frames, prompt)
