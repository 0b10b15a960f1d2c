"""Our PAC-S++ scores beside those of aimagelab/pacscore's own modules and functions, on the same random weights.

    git clone https://github.com/aimagelab/pacscore
    python benchmarks/pac_parity.py --pacscore pacscore

Their clip_lora model, small and random, with random LoRA, is saved in the published form once in eval mode (MLP weights
merged) and once as it is trained (unmerged); their code and ours load the files and score noise pictures. Changed of
theirs, in memory: loaders start no worker processes; `pkg_resources`, which current setuptools lack, has a stand-in.

Exit code 1 where any two scores differ by more than 1e-5, or the loader does not tell the two files apart.
"""

import argparse
import json
import shutil
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import packaging.version
import torch
from PIL import Image
from torch.utils.data import DataLoader

from rewards.clip_s import PacSPlusPlus, RefPacSPlusPlus

TOLERANCE = 1e-5
W = 2.0  # theirs
CONFIG = {
    "embed_dim": 32,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "layers": 3, "width": 128, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 128, "heads": 2, "layers": 3},
}
CAPTIONS = [
    "A dog runs on grass.",
    "a man, riding a horse!",
    "two people",
    "snow &amp; ice",
    "a " * 90,
    "the boat's sail",
]
REFERENCES = [
    ["a dog", "dog on grass"],
    ["a man rides"],
    ["people", "a pair", "two"],
    ["ice"],
    ["a"],
    ["a boat", "sail"],
]


def published_code(clone: Path, folder: Path) -> tuple[Any, Any, Any]:
    """Their build_model, PACScore and RefPACScore, imported from a copy of the clone."""
    copy = folder / "pacscore"
    shutil.copytree(clone / "models", copy / "models")
    shutil.copytree(clone / "evaluation/pac_score", copy / "pac_score")
    vocabulary = "bpe_simple_vocab_16e6.txt.gz"  # lacks in models/clip_lora
    shutil.copy(copy / "models/clip" / vocabulary, copy / "models/clip_lora" / vocabulary)
    stand_in = types.ModuleType("pkg_resources")
    stand_in.packaging = packaging  # type: ignore[attr-defined]
    sys.modules.setdefault("pkg_resources", stand_in)
    sys.path.insert(0, str(copy))
    from models.clip_lora.model import build_model
    from pac_score import PACScore, RefPACScore

    def in_this_process(*args: Any, **options: Any) -> DataLoader:
        return DataLoader(*args, **{**options, "num_workers": 0})

    torch.utils.data.DataLoader = in_this_process  # type: ignore[assignment,misc]
    return build_model, PACScore, RefPACScore


def main() -> int:
    """Prints a line for each file; 1 where scores differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pacscore", type=Path, required=True, help="a clone of aimagelab/pacscore")
    clone = parser.parse_args().pacscore
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        build_model, pac_score, ref_pac_score = published_code(clone, folder)
        plain = {key: (2 * weight).half().float() for key, weight in open_clip.CLIP(**CONFIG).state_dict().items()}
        theirs = build_model(dict(plain), lora=4).float()
        theirs.train()
        for name, parameter in theirs.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(parameter, std=0.1)
        states = {"unmerged": {key: value.clone() for key, value in theirs.state_dict().items()}}
        states["merged"] = {key: value.clone() for key, value in theirs.eval().state_dict().items()}
        (folder / "clip").mkdir()
        (folder / "clip/open_clip_config.json").write_text(json.dumps({"model_cfg": CONFIG}))
        scorers = pac_score, ref_pac_score
        agreed = [_agree(folder, found, state, theirs, *scorers) for found, state in states.items()]
    return 0 if all(agreed) else 1


def _agree(folder: Path, found: str, state: dict, theirs: Any, pac_score: Any, ref_pac_score: Any) -> bool:
    noise = np.random.default_rng(0)
    pictures = [Image.fromarray(noise.integers(0, 256, (50, 70, 3), dtype=np.uint8)) for _ in CAPTIONS]
    paths = [folder / f"{i}.png" for i in range(len(pictures))]
    for picture, path in zip(pictures, paths, strict=True):
        picture.save(path)
    transform = open_clip.image_transform(32, is_train=False)
    scores: list[np.ndarray] = []
    differences: list[np.ndarray] = []
    # As it is and mirrored, so that every cosine is once above 0: below it scores are clamped.
    for sign in (1, -1):
        file = folder / "file.pth"
        torch.save({"state_dict": {**state, "visual.proj": sign * state["visual.proj"]}}, file)
        theirs.load_state_dict(torch.load(file, weights_only=True)["state_dict"])
        theirs.eval()
        _, s, features, lengths = pac_score(theirs, transform, paths, CAPTIONS, "cpu", w=W)
        _, t = ref_pac_score(theirs, REFERENCES, features, "cpu", torch.tensor(lengths))
        with np.errstate(invalid="ignore"):
            both = np.nan_to_num(2 * s * np.array(t) / (s + np.array(t)))
        ours = PacSPlusPlus(backbone=folder / "clip", checkpoint=file, w=W, device="cpu")
        with_references = RefPacSPlusPlus(backbone=folder / "clip", checkpoint=file, w=W, device="cpu")
        if ours.describe()["mlp_lora"] != found:
            print(f"the {found} file was taken for {ours.describe()['mlp_lora']}")
            return False
        scores.append(s)
        differences.append(np.abs(ours(CAPTIONS, images=pictures) - s))
        differences.append(np.abs(with_references(CAPTIONS, images=pictures, references=REFERENCES) - both))
    worst = np.max(differences)
    above = np.concatenate(scores)[np.concatenate(scores) > 0]
    print(f"{found} file: largest difference {worst:.1e}; {len(above)} scores above 0, up to {above.max():.2f}")
    return bool(worst <= TOLERANCE)


if __name__ == "__main__":
    raise SystemExit(main())
