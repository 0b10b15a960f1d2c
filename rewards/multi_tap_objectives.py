"""Stage 2 of MULTI-TAP: what one linear map each makes of the frozen embeddings, an objective a column of the data."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from rewards.fingerprint import fingerprint_of

OBJECTIVES_FILE = "objectives.safetensors"


@dataclass(frozen=True)
class Objectives:
    """M linear predictors of H-dimensional embeddings; predictions are on the scale of the data.

    names: M names, as the data has them. weight: [M, H], intercept: [M], both float64. alphas: the M penalties.
    """

    names: tuple[str, ...]
    weight: np.ndarray
    intercept: np.ndarray
    alphas: tuple[float, ...]

    def predict(self, embeddings: np.ndarray) -> np.ndarray:
        """Values [N, M] from embeddings [N, H]; ValueError where these are another model's."""
        if embeddings.ndim != 2 or embeddings.shape[1] != self.weight.shape[1]:
            raise ValueError(
                f"multi-tap: the objectives were fitted on {self.weight.shape[1]} dimensions, and the embeddings have "
                f"the shape {embeddings.shape}"
            )
        return embeddings.astype(np.float64) @ self.weight.T + self.intercept

    def fingerprint(self) -> str:
        """A hash of the names, weights and intercepts: "sha256:…"."""
        numbers = (np.asarray(own, dtype=np.float64) for own in (self.weight, self.intercept))
        return fingerprint_of([json.dumps(self.names), *(own.tobytes() for own in numbers)])

    def index(self, name: str) -> int:
        """The position of an objective; ValueError naming all of them where there is none of that name."""
        if name not in self.names:
            raise ValueError(
                f"multi-tap: there is no objective {name!r}; there are overall, {', '.join(self.names) or 'no others'}"
            )
        return self.names.index(name)

    def save(self, directory: Path) -> None:
        """Writes them into the directory of a rating model."""
        described = {"names": json.dumps(self.names), "alphas": json.dumps(self.alphas)}
        save_file(
            {"weight": np.ascontiguousarray(self.weight), "intercept": np.ascontiguousarray(self.intercept)},
            directory / OBJECTIVES_FILE,
            metadata=described,
        )

    @classmethod
    def load(cls, directory: Path) -> "Objectives | None":
        """The objectives of a directory, None where stage 2 was not fitted; ValueError where they cannot be read."""
        path = directory / OBJECTIVES_FILE
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="numpy") as file:
                described = file.metadata()
                weight, intercept = file.get_tensor("weight"), file.get_tensor("intercept")
            names, alphas = tuple(json.loads(described["names"])), tuple(json.loads(described["alphas"]))
        except Exception as error:  # safetensors has an exception of its own for each thing that can be wrong
            raise ValueError(f"multi-tap: {path} cannot be read: {error}") from error
        if weight.shape[:1] != intercept.shape or len(names) != len(weight):
            raise ValueError(
                f"multi-tap: {path} names {len(names)} objectives, and holds weights {weight.shape} and intercepts "
                f"{intercept.shape}"
            )
        return cls(names, weight, intercept, alphas)
