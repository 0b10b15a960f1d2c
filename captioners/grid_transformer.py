"""A vision model, a projection and a small encoder-decoder Transformer: the captioner of PAC-S++ and DiCO."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    AutoImageProcessor,
    BaseImageProcessor,
    BertConfig,
    EncoderDecoderConfig,
    EncoderDecoderModel,
    GPT2Config,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from captioners.frames import TemporalEmbedding, extended
from captioners.grids import GridCaptioner
from captioners.lora import QUERY_AND_VALUE
from captioners.preprocess import Preprocessor
from captioners.text import CaptionCodec, SpecialTokens
from captioners.tokenizer import train_tokenizer
from captioners.types import VisualContext
from captioners.vision import grid, grid_of_blank, image_preprocessor, load_vision
from captioners.weights import load_weights, refuse_random

MODEL_TYPE = "grid_transformer"
CONNECTOR_FILE = "connector.safetensors"


@dataclass(frozen=True)
class GridTransformerConfig:
    """Sizes of a grid transformer; the defaults are those of DiCO (aimagelab/DiCO, BMVC 2024).

    max_positions: the largest grid [positions a frame]; 0 takes the vision model's own at creation.
    max_tokens: the longest caption, EOS included. max_frames: 1 for pictures. vocab_size: at most, of the tokenizer
    trained at creation.
    """

    d_model: int = 512
    encoder_layers: int = 3
    decoder_layers: int = 3
    heads: int = 8
    ffn: int = 2048
    dropout: float = 0.1
    max_positions: int = 0
    max_tokens: int = 64
    max_frames: int = 1
    vocab_size: int = 5000

    def __post_init__(self) -> None:
        if self.d_model % self.heads:
            raise ValueError(f"d_model ({self.d_model}) is not a multiple of heads ({self.heads})")
        for name, least in {"encoder_layers": 1, "decoder_layers": 1, "max_tokens": 1, "max_frames": 1}.items():
            if self.__dict__[name] < least:
                raise ValueError(f"{name} is {self.__dict__[name]}; it must be at least {least}")


class GridTransformer(GridCaptioner):
    """Grid features of a vision model -> Linear -> BERT encoder -> GPT-2 decoder with cross-attention.

    The grid positions of every frame get the same position embeddings; frames differ by a temporal embedding that
    starts at zero. Saved as config.json, vision/ and transformer/ (plain Hugging Face directories),
    connector.safetensors and the tokenizer.
    """

    def __init__(
        self,
        vision: PreTrainedModel,
        transformer: EncoderDecoderModel,
        tokenizer: PreTrainedTokenizerBase,
        image_processor: BaseImageProcessor,
        config: GridTransformerConfig,
        feature_size: int,
    ):
        special = SpecialTokens(tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
        super().__init__(Preprocessor(image_processor), CaptionCodec(tokenizer, special, config.max_tokens))
        self.sizes = config
        self.vision = vision
        self.projection = nn.Linear(feature_size, config.d_model)
        self.temporal = TemporalEmbedding(config.max_frames, config.d_model) if config.max_frames > 1 else None
        self.transformer = transformer

    @classmethod
    def create(
        cls,
        vision: str | Path,
        captions: Iterable[str],
        config: GridTransformerConfig = GridTransformerConfig(),
        dtype: torch.dtype = torch.float32,
    ) -> "GridTransformer":
        """A new captioner on a vision model (directory or Hub id), with a tokenizer trained on the training captions.

        Weights are drawn from torch's global generator. Raises ValueError as `load_vision` does, and where the
        model has no image processor.
        """
        model = load_vision(vision, dtype)
        preprocessor = image_preprocessor(vision)
        states = grid_of_blank(model, preprocessor)
        tokenizer = train_tokenizer(captions, config.vocab_size)
        if config.max_positions == 0:
            config = replace(config, max_positions=states.shape[1])
        config = replace(config, vocab_size=len(tokenizer))
        transformer = EncoderDecoderModel(_transformer_config(config, tokenizer))
        return cls(model, transformer, tokenizer, preprocessor.processor, config, states.shape[2]).to(dtype).eval()

    @classmethod
    def from_pretrained(cls, directory: Path, dtype: torch.dtype, max_frames: int | None = None) -> "GridTransformer":
        """Loads a directory written by save_pretrained; max_frames None: what is stored there."""
        fields = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        fields.pop("model_type")
        config = GridTransformerConfig(**fields)
        if max_frames is not None:
            config = replace(config, max_frames=max_frames)
        connector = load_file(directory / CONNECTOR_FILE)
        transformer, missing = load_weights(EncoderDecoderModel, directory / "transformer", dtype)
        captioner = cls(
            load_vision(directory / "vision", dtype),
            transformer,
            PreTrainedTokenizerFast.from_pretrained(directory),
            AutoImageProcessor.from_pretrained(directory / "vision"),
            config,
            connector["projection.weight"].shape[1],
        )
        captioner.projection.weight.data.copy_(connector["projection.weight"])
        captioner.projection.bias.data.copy_(connector["projection.bias"])
        if captioner.temporal is not None and "temporal.weight" in connector:
            captioner.temporal.weight.data.copy_(extended(connector["temporal.weight"], config.max_frames))
        captioner.to(dtype).eval()
        refuse_random(directory, {f"transformer.{name}" for name in missing}, captioner.unused_parameters)
        return captioner

    def parts(self) -> dict[str, list[nn.Module]]:
        connector: list[nn.Module] = [self.projection, self.transformer.encoder]
        if self.temporal is not None:
            connector.append(self.temporal)
        return {"vision": [self.vision], "connector": connector, "decoder": [self.transformer.decoder]}

    def lora_targets(self) -> dict[str, tuple[str, ...]]:
        connector = ("projection", "query", "value")
        return {"vision": QUERY_AND_VALUE, "connector": connector, "decoder": ("c_attn", "q_attn")}

    def _vision_states(self, pixels: Tensor) -> Tensor:
        return grid(self.vision, pixels)

    def _connect(self, features: Tensor, frame_mask: Tensor | None) -> VisualContext:
        num_frames, num_positions = features.shape[1:3]
        if num_positions > self.sizes.max_positions:
            raise ValueError(
                f"the grid has {num_positions} positions, but this captioner was made for at most "
                f"{self.sizes.max_positions} (max_positions)"
            )
        states = self.projection(features)
        if self.temporal is not None:
            states = self.temporal(states, frame_mask)
        elif num_frames > 1:
            raise ValueError(f"clips of {num_frames} frames need max_frames: captioners.load(path, max_frames=...)")
        mask = None if frame_mask is None else frame_mask.repeat_interleave(num_positions, dim=1)
        positions = torch.arange(num_positions, device=states.device).repeat(num_frames)[None]
        encoded = self.transformer.encoder(
            inputs_embeds=states.flatten(1, 2), attention_mask=mask, position_ids=positions
        ).last_hidden_state
        return VisualContext(encoded, mask)

    def _text_model(self) -> PreTrainedModel:
        return self.transformer.decoder

    def _inner_models(self) -> list[PreTrainedModel]:
        return [self.vision, self.transformer]

    def _write(self, directory: Path) -> None:
        text = json.dumps({"model_type": MODEL_TYPE, **asdict(self.sizes)}, indent=2) + "\n"
        (directory / "config.json").write_text(text, encoding="utf-8")
        self.vision.save_pretrained(directory / "vision")
        self.preprocessor.processor.save_pretrained(directory / "vision")
        self.transformer.save_pretrained(directory / "transformer")
        tensors = {"projection.weight": self.projection.weight, "projection.bias": self.projection.bias}
        if self.temporal is not None:
            tensors["temporal.weight"] = self.temporal.weight
        save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, directory / CONNECTOR_FILE)


def _transformer_config(config: GridTransformerConfig, tokenizer: PreTrainedTokenizerBase) -> PreTrainedConfig:
    encoder = BertConfig(
        # It is fed with projected features, never with words.
        vocab_size=1,
        type_vocab_size=1,
        pad_token_id=0,
        hidden_size=config.d_model,
        num_hidden_layers=config.encoder_layers,
        num_attention_heads=config.heads,
        intermediate_size=config.ffn,
        hidden_dropout_prob=config.dropout,
        attention_probs_dropout_prob=config.dropout,
        max_position_embeddings=config.max_positions,
    )
    ids = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    decoder = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=config.max_tokens,
        n_embd=config.d_model,
        n_layer=config.decoder_layers,
        n_head=config.heads,
        n_inner=config.ffn,
        # GPT-2's own function in one kernel instead of eight.
        activation_function="gelu_pytorch_tanh",
        resid_pdrop=config.dropout,
        embd_pdrop=config.dropout,
        attn_pdrop=config.dropout,
        **ids,
    )
    joint = EncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    joint.decoder_start_token_id = tokenizer.bos_token_id
    joint.eos_token_id, joint.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
    return joint
