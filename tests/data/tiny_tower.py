"""The least that write_features asks of a captioner, in arithmetic without rounding: the same in batches of any size.

Run as a script it writes features and kills itself in the middle:
python tiny_tower.py CAPTIONS OUTPUT RANK WORLD KILL_AT FLUSH_SECONDS
"""

import os
import signal
import sys
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

SIDE = 32


class TinyPreprocessor:
    def __init__(self, side: int = SIDE, mean: float = 0.0) -> None:
        self.side = side
        self.mean = mean

    def __call__(self, visuals: Sequence) -> dict[str, Tensor]:
        if isinstance(visuals[0], Image.Image):
            return {"pixel_values": torch.stack([self._pixels(image) for image in visuals])}
        lengths = torch.tensor([len(clip) for clip in visuals])
        pixels = torch.zeros(len(visuals), int(lengths.max()), 3, self.side, self.side)
        for padded, clip in zip(pixels, visuals, strict=True):
            padded[: len(clip)] = torch.stack([self._pixels(frame) for frame in clip])
        frame_mask = torch.arange(int(lengths.max())) < lengths[:, None]
        return {"pixel_values": pixels} if frame_mask.all() else {"pixel_values": pixels, "frame_mask": frame_mask}

    def _pixels(self, image: Image.Image) -> Tensor:
        small = np.array(image.resize((self.side, self.side), Image.Resampling.NEAREST))
        return torch.from_numpy(small).permute(2, 0, 1).float() - self.mean


class TinyTower(nn.Module):
    """Grids of 4 x 4 positions and 5 channels; weights in eighths, pixels whole: every sum is exact in fp32."""

    def __init__(self, weight_seed: int = 0, kill_at: int = -1, **settings: float) -> None:
        super().__init__()
        self.preprocessor = TinyPreprocessor(**settings)
        self.vision = nn.Conv2d(3, 5, SIDE // 4, stride=SIDE // 4, bias=False)
        weights = torch.randint(-1, 2, self.vision.weight.shape, generator=torch.Generator().manual_seed(weight_seed))
        self.vision.weight = nn.Parameter(weights / 8)
        self.calls = 0
        self.kill_at = kill_at

    @property
    def device(self) -> torch.device:
        return self.vision.weight.device

    def parts(self) -> dict[str, list[nn.Module]]:
        return {"vision": [self.vision], "connector": [], "decoder": []}

    def features(self, visual: dict[str, Tensor]) -> Tensor:
        assert not self.training
        if self.calls == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.calls += 1
        pixels = visual["pixel_values"]
        pixels = pixels if pixels.ndim == 5 else pixels[:, None]
        return self.vision(pixels.flatten(0, 1)).flatten(2).transpose(1, 2).unflatten(0, pixels.shape[:2])


if __name__ == "__main__":
    from rlcap.data import load_captions
    from rlcap.data.write_features import write_features

    captions, output, rank, world, kill_at, flush_seconds = sys.argv[1:]
    write_features(
        TinyTower(kill_at=int(kill_at)),
        load_captions(captions),
        output,
        batch_size=4,
        rank=int(rank),
        world=int(world),
        flush_seconds=float(flush_seconds),
    )
