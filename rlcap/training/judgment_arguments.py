"""The keys that say which judgments of captions a scorer learns from."""

from dataclasses import dataclass, field

from rlcap.data.judgments import FORMATS
from rlcap.training.arguments import require


@dataclass
class JudgmentArguments:
    """Judgments of captions, for `rlcap reward comparative` and `rlcap reward multi-tap`."""

    data: str = field(
        default="",
        metadata={
            "help": "folder of Flickr8k-Expert, VICR's CSV, or JSONL of ratings; comparative: or of better and worse"
        },
    )
    data_format: str = field(default="auto", metadata={"help": f"auto, {', '.join(FORMATS)}"})
    images: str | None = field(default=None, metadata={"help": "folder of the pictures; default: the data's own"})
    split: list[float] = field(
        default_factory=lambda: [0.65, 0.15, 0.2],
        metadata={"help": "pictures of train, val and test, as shares or numbers, where the data has no split itself"},
    )
    split_seed: int = field(default=0, metadata={"help": "of the split alone, so that seeds share one"})
    max_bad_images: float = field(default=0.01, metadata={"help": "share of pictures that may fail to decode"})

    def check_judgments(self) -> None:
        """Raises ValueError for a key that cannot be."""
        require(bool(self.data), "data", self.data, "a file or folder of judgments (--data)")
        known = ("auto", *FORMATS)
        require(self.data_format in known, "data_format", self.data_format, f"one of {', '.join(known)}")
        sizes = self.split
        require(len(sizes) == 3 and min(sizes) > 0, "split", sizes, "three sizes above 0")
        require(max(sizes) > 1 or sum(sizes) <= 1 + 1e-9, "split", sizes, "shares that sum to at most 1")
        require(0 <= self.max_bad_images <= 1, "max_bad_images", self.max_bad_images, "a share between 0 and 1")
