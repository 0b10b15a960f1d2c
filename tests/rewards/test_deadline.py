"""A reward that hangs is stopped and named; one that answers in time is left alone."""

import asyncio
import io
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from rewards.deadline import deadline
from rewards.score import score

CAPTIONS = ["a dog", "a cat"]


def hangs(completions: list[str], **columns: Any) -> list[float]:
    time.sleep(60)
    return [0.0] * len(completions)


async def hangs_waiting(completions: list[str], **columns: Any) -> list[float]:
    await asyncio.sleep(60)
    return [0.0] * len(completions)


def quick(completions: list[str], **columns: Any) -> list[float]:
    return [float(len(text)) for text in completions]


@pytest.mark.parametrize("reward", [hangs, hangs_waiting])
def test_a_reward_that_hangs_is_named(reward: Any) -> None:
    started = time.monotonic()
    with pytest.raises(RuntimeError, match=rf"^{reward.__name__}: no answer within 0.3 seconds"):
        score([quick, reward], CAPTIONS, {}, timeout=0.3)
    assert time.monotonic() - started < 10


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


def test_code_that_gives_python_no_turn_ends_the_process() -> None:
    script = (
        "import collections, itertools, rewards.deadline as d\n"
        "d.GRACE = 0.5\n"
        "with d.deadline(0.5, 'it'):\n"
        "    collections.deque(itertools.repeat(1), maxlen=0)\n"  # for ever, in C, where no handler of Python's runs
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "Timeout" in done.stderr
