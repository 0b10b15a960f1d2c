"""A reward that hangs is stopped and named; one that answers in time is left alone."""

import asyncio
import io
import signal
import subprocess
import sys
import time
from typing import Any

import pytest
import torch

from rewards.deadline import deadline
from rewards.score import score
from rlcap.training.beside import Beside

CAPTIONS = ["a dog", "a cat"]


def hangs(completions: list[str], **columns: Any) -> list[float]:
    time.sleep(60)
    return [0.0] * len(completions)


async def hangs_waiting(completions: list[str], **columns: Any) -> list[float]:
    await asyncio.sleep(60)
    return [0.0] * len(completions)


async def blocks_its_loop(completions: list[str], **columns: Any) -> list[float]:
    time.sleep(5)
    return [0.0] * len(completions)


async def waits_for_a_thread(completions: list[str], **columns: Any) -> list[float]:
    await asyncio.to_thread(time.sleep, 5)
    return [0.0] * len(completions)


def catches(completions: list[str], **columns: Any) -> list[float]:
    for _ in range(30):
        try:
            time.sleep(2)
        except Exception:
            continue
    return [0.0] * len(completions)


def catches_everything_once(completions: list[str], **columns: Any) -> list[float]:
    try:
        time.sleep(60)
    except BaseException:
        time.sleep(60)
    return [0.0] * len(completions)


def gives_up(completions: list[str], **columns: Any) -> list[float]:
    try:
        time.sleep(60)
    except BaseException:
        return [0.0] * len(completions)
    return [1.0] * len(completions)


async def quick_to_wait(completions: list[str], **columns: Any) -> list[float]:
    return [0.0] * len(completions)


SLOW = [hangs, hangs_waiting, blocks_its_loop, waits_for_a_thread, catches, catches_everything_once, gives_up]


def quick(completions: list[str], **columns: Any) -> list[float]:
    return [float(len(text)) for text in completions]


@pytest.mark.parametrize("reward", SLOW)
def test_a_reward_that_hangs_is_named(reward: Any) -> None:
    started = time.monotonic()
    with pytest.raises(RuntimeError, match=rf"^{reward.__name__}: no answer within 0.3 seconds"):
        score([quick, quick_to_wait, reward], CAPTIONS, {}, timeout=0.3)
    assert time.monotonic() - started < 4.5


@pytest.mark.parametrize("reward", [hangs, hangs_waiting, blocks_its_loop, waits_for_a_thread])
def test_so_it_is_beside_the_main_thread(reward: Any) -> None:
    started = time.monotonic()
    pending = Beside(torch.device("cpu")).submit(lambda: score([reward], CAPTIONS, {}, timeout=0.3))
    with pytest.raises(RuntimeError, match=rf"^{reward.__name__}: no answer within 0.3 seconds"):
        pending()
    assert time.monotonic() - started < 4.5


def test_one_that_answers_is_left_alone_and_the_handler_is_given_back() -> None:
    before = signal.getsignal(signal.SIGALRM)
    assert score([quick], CAPTIONS, {}, timeout=0.3) == {"quick": [5.0, 5.0]}
    time.sleep(0.5)  # nothing comes later
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_in_a_notebook_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())  # has no file descriptor
    assert score([quick], CAPTIONS, {}, timeout=5.0) == {"quick": [5.0, 5.0]}


def test_no_deadline_waits() -> None:
    for seconds in (None, 0):
        with deadline(seconds, "it"):
            assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


STUCK = {
    # For ever, in C, where no handler of Python's runs.
    "no turn": "def it(completions, **columns):\n    collections.deque(itertools.repeat(1), maxlen=0)\n",
    "catches all": "def it(completions, **columns):\n    while True:\n        try:\n            time.sleep(1)\n        "
    "except BaseException:\n            pass\n",
    "a thread": "async def it(completions, **columns):\n    await asyncio.to_thread(time.sleep, 600)\n",
}
BESIDE = "import torch\nfrom rlcap.training.beside import Beside\nBeside(torch.device('cpu')).submit(call)()\n"


@pytest.mark.parametrize(
    ("stuck", "call"), [*((stuck, "call()\n") for stuck in STUCK), ("no turn", BESIDE), ("a thread", BESIDE)]
)
def test_what_cannot_be_interrupted_ends_the_process(stuck: str, call: str) -> None:
    script = (
        "import asyncio, collections, itertools, time, rewards.deadline as d\n"
        "from rewards.score import score\n"
        f"d.GRACE = 0.5\n{STUCK[stuck]}def call(): score([it], ['a'], {{}}, timeout=0.5)\n{call}"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    if stuck == "no turn":
        assert "Timeout" in done.stderr
        assert "in it\n" in done.stderr  # the stack
    else:
        assert "it: no answer within 0.5 seconds, and it cannot be interrupted" in done.stderr
