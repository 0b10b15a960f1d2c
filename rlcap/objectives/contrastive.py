"""Symmetric InfoNCE between pictures and captions, as in CLIP (arXiv 2103.00020, figure 3)."""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy


def info_nce(pictures: Tensor, captions: Tensor, scale: Tensor | float) -> Tensor:
    """Half the cross-entropy of each picture's own caption among all, and half that of each caption's own picture.

    pictures, captions: unit vectors `[N, D]`, row i of one belonging to row i of the other. scale: the inverse
    temperature. A scalar: the mean over rows, `log N` where nothing tells them apart. Raises ValueError without rows.

    PAC-S++ (arXiv 2410.07336) adds two such terms to the one of real pairs: of generated pictures and real captions,
    and of real pictures and generated captions.
    """
    if pictures.shape != captions.shape or not len(pictures):
        raise ValueError(
            f"pictures are {tuple(pictures.shape)}, captions {tuple(captions.shape)}; give N pairs of rows"
        )
    logits = scale * pictures @ captions.T
    own = torch.arange(len(logits), device=logits.device)
    return (cross_entropy(logits, own) + cross_entropy(logits.T, own)) / 2
