"""The trained part of the scorer: a multi-layer perceptron on the joint vector of picture and sentence."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class HeadConfig:
    """Sizes of the perceptron.

    picture_size, sentence_size: lengths of the two vectors. hidden: widths; dropout: a rate behind each of them;
    batch_norm: behind each activation. The defaults are those of the published script `pairwise_model.py`.
    Raises ValueError where the rates are not as many as the widths.
    """

    picture_size: int
    sentence_size: int
    hidden: list[int] = field(default_factory=lambda: [512, 256, 128])
    dropout: list[float] = field(default_factory=lambda: [0.3, 0.2, 0.0])
    batch_norm: bool = True

    def __post_init__(self) -> None:
        if len(self.hidden) != len(self.dropout):
            raise ValueError(
                f"dropout has {len(self.dropout)} rates for {len(self.hidden)} hidden layers; give one each"
            )


class Head(nn.Module):
    """Scores pairs of vectors; the inputs are standardised by what `fit_inputs` saw, and kept with the weights."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        self.config = config
        width = config.picture_size + config.sentence_size
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))
        layers: list[nn.Module] = []
        for size, rate in zip(config.hidden, config.dropout, strict=True):
            layers += [nn.Linear(width, size), nn.ReLU()]
            layers += [nn.BatchNorm1d(size)] if config.batch_norm else []
            layers += [nn.Dropout(rate)] if rate else []
            width = size
        self.layers = nn.Sequential(*layers, nn.Linear(width, 1))

    def fit_inputs(self, pictures: Tensor, sentences: Tensor) -> None:
        """Takes mean and deviation of each input from the training rows, [N, P] and [N, S]; what is constant stays."""
        joint = torch.cat([pictures, sentences], dim=-1).double()
        deviation = joint.std(0, correction=0)
        self.mean.copy_(joint.mean(0))
        self.deviation.copy_(torch.where(deviation > 1e-8, deviation, torch.ones_like(deviation)))

    def start_at(self, rating: float) -> None:
        """Lets the scores start around a rating, so that regression need not first learn the scale's middle."""
        output = self.layers[-1]
        assert isinstance(output, nn.Linear)
        nn.init.constant_(output.bias, rating)

    def kernels(self) -> list[Tensor]:
        """The matrices of the hidden layers, which the published script alone regularises."""
        return [layer.weight for layer in self.layers[:-1] if isinstance(layer, nn.Linear)]

    def forward(self, pictures: Tensor, sentences: Tensor) -> Tensor:
        """Scores [N] of vectors [N, P] and [N, S]; higher is better."""
        joint = (torch.cat([pictures, sentences], dim=-1) - self.mean) / self.deviation
        return self.layers(joint).squeeze(-1)
