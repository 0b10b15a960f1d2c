"""GIT."""

import torch
from transformers import GitConfig, GitForCausalLM

from captioners import Git
from captioners.tokenizer import train_tokenizer
from tiny.material import CAPTIONS, GRID, TOWER, VOCAB, image_processor, special_ids


def tiny_git(
    *,
    max_frames: int = 1,
    own_frames: int | None = None,
    tied: bool = False,
    dropout: float = 0.1,
    prompt: str | None = None,
    seed: int = 0,
) -> Git:
    """A ViT of 5 positions with GIT's decoder, at most 24 tokens a caption; own_frames: GIT's own video input."""
    torch.manual_seed(seed)
    tokenizer = train_tokenizer(CAPTIONS, VOCAB)
    config = GitConfig(
        vision_config={**TOWER, **GRID, "num_hidden_layers": 2},
        vocab_size=VOCAB,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=24,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        initializer_range=0.3,
        num_image_with_embedding=own_frames,
        tie_word_embeddings=tied,
        **special_ids(tokenizer),
    )
    return Git(GitForCausalLM(config), tokenizer, image_processor(), max_frames, prompt).eval()
