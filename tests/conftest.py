"""What every test shares: one thread arithmetic, seeds, and the real material where it is at hand."""

from pathlib import Path

import pytest
import torch

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real photographs, captions and weights; tests that need it skip where it is missing."""
    if not (SHARED / "data").is_dir():
        pytest.skip("needs the real photographs and captions of ../shared/data, which are not here")
    return SHARED


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Sums are then taken in one order, whatever the machine, and tiny models are no slower."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
