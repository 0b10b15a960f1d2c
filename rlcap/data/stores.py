"""A store of pictures that disappears for a while: a mount that is gone, a folder that is moved, a server restarted.

One picture that cannot be opened is the picture's fault, and counted (`max_bad_images`). Where a folder that files were
read from before is missing, empty (a mount point without its mount) or cannot be listed, all of its pictures would be
lost at once: then the reader waits, longer and longer, until it is back.

What is known of folders belongs to the process; data workers get it from the one that starts them.
"""

import os
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import fsspec

from rlcap.data.content import BadImage, Source, address_of
from rlcap.failures import Failure

SECONDS = 300.0  # below the time-outs of rewards (600) and of collectives (1800), which wait meanwhile
FIRST, LONGEST = 0.5, 30.0  # seconds between two looks

T = TypeVar("T")


class StoreGone(Failure):
    """A folder, or a shard, that was there has not come back in time."""


class _Known:
    """The folders that files were read from, with those above them, and how long to wait for one of them."""

    def __init__(self) -> None:
        self.folders: set[str] = set()
        self.seconds = SECONDS
        self.told: set[str] = set()


_known = _Known()


def wait_at_most(seconds: float) -> None:
    """Sets how long this process, and the data workers that it starts, wait for a store; 0: not at all."""
    _known.seconds = seconds


def state() -> dict[str, Any]:
    """What a data worker must know, however it is started."""
    return {"folders": set(_known.folders), "seconds": _known.seconds}


def adopt(state: dict[str, Any]) -> None:
    """Takes over what `state` gave in another process."""
    _known.folders |= state["folders"]
    _known.seconds = state["seconds"]


def patiently(source: Source, attempt: Callable[[], T]) -> T:
    """What `attempt` returns, called again while the store of `source` is gone.

    Raises what it raises where the store is there, and StoreGone where it does not come back in time.
    """
    address = address_of(source)
    if address is None:
        return attempt()
    while True:
        try:
            result = attempt()
        except (BadImage, ValueError, OSError) as error:
            _wait_for_store(address, error)
            continue
        remember(address)
        return result


def patient_items(address: str, items: Callable[[int], Iterator[tuple[int, T]]], start: int) -> Iterator[tuple[int, T]]:
    """The numbered items of a shard from `start` on, gone on with where they were when the shard's store is back."""
    while True:
        try:
            for number, item in items(start):
                yield number, item
                start = number + 1
            return
        except (ValueError, OSError) as error:
            _wait_for_store(address, error)


def remember(address: str) -> None:
    """Notes the folders of a file that was read."""
    folder = os.path.dirname(address) if "://" in address else os.path.dirname(os.path.abspath(address))
    while folder not in _known.folders and folder.count("/") > (2 if "://" in address else 0) and folder != "/":
        _known.folders.add(folder)
        folder = os.path.dirname(folder)


def _wait_for_store(address: str, error: Exception) -> None:
    """Returns once the store of an address is there again; raises `error` where it is not gone."""
    root = _gone(address)
    if root is None:
        raise error
    if root not in _known.told:
        _known.told.add(root)
        print(f"rlcap: {root} is gone, from which files were read before ({error}); waiting for it", flush=True)
    started, pause = time.monotonic(), FIRST
    while (left := _known.seconds - (time.monotonic() - started)) > 0:
        time.sleep(min(pause, left))
        pause = min(2 * pause, LONGEST)
        if _gone(address) is None:
            print(f"rlcap: {root} is back after {time.monotonic() - started:.0f} s", flush=True)
            _known.told.discard(root)
            return
    raise StoreGone(
        f"{root} is gone, from which files were read before, and was not back within {_known.seconds:g} s "
        f"(picture_timeout): {error}. Bring it back and give the same command again"
    ) from error


def _gone(address: str) -> str | None:
    """The uppermost folder of an address that was there and is not, or the lowest where its server does not answer."""
    if "://" in address:
        folder = os.path.dirname(address)
        return folder if folder in _known.folders and not _answers(address) else None
    folder, gone = os.path.dirname(os.path.abspath(address)), None
    while folder != os.path.dirname(folder):
        if folder in _known.folders and not _holds_something(folder):
            gone = folder
        folder = os.path.dirname(folder)
    return gone


def _holds_something(folder: str) -> bool:
    """Whether a folder can be listed and is not empty; a mount that is gone is either missing, empty or an error."""
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is not None
    except OSError:
        return False


def _answers(address: str) -> bool:
    try:
        system, path = fsspec.core.url_to_fs(address)
        return bool(system.exists(path))
    except Exception:  # whatever a client raises where its server is away
        return False
