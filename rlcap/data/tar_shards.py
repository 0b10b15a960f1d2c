"""WebDataset tar shards: files of one name and different endings are one row; read in order, or indexed by place.

A shard is a path or any address that fsspec knows (s3://, gs://, https://, hf:// …).
"""

import json
import os
import re
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import fsspec

from rlcap.data.columns import IMAGES, VIDEOS, Columns, captions_of, text_of, timestamps_of, value_of
from rlcap.data.content import place
from rlcap.data.rows import CaptionRow, shown
from rlcap.data.splits import split_name
from rlcap.data.stores import remember

TEXTS = ("txt", "json")
PICTURES = {*IMAGES, "bmp", "gif", "tif", "tiff", *VIDEOS}
_FRAME = re.compile(r"(\d+)\.(?:" + "|".join(sorted(PICTURES)) + r")")
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_BLOCK = 512


@dataclass(frozen=True)
class Sample:
    """The files of one name in a shard: ending -> text, or the `place` (or the bytes) of anything else."""

    key: str
    files: dict[str, Any]
    where: str


def expand(source: str) -> list[str]:
    """Return the shards that a source names: braces ({000..127}, {a,b}), globs (*, ?) or a folder of them, in order.

    Raises ValueError where a part names no shard, names something else, or names a shard a second time.
    """
    shards: list[str] = []
    for address in _braces(source):
        found = _globbed(address)
        if not found:
            raise ValueError(f"{address}: there are no such tar shards")
        shards.extend(found)
    for shard, count in Counter(shards).items():
        if count > 1:
            raise ValueError(f"{source} names the shard {shard} {count} times")
        if not shard.endswith(".tar"):
            raise ValueError(f"{shard} is no tar shard by its name; only uncompressed .tar files can be read in place")
    return shards


def read_samples(shard: str, skip: int = 0, contents: bool = False) -> Iterator[tuple[int, Sample]]:
    """Yield the samples of a shard from number `skip` on, with their numbers.

    Texts (txt, json) are read; of other files the `place` is given, or with `contents` bytes and path. Files are jumped
    over, not read, where the shard's system can seek. Raises ValueError naming a shard that is missing, no tar archive,
    cut off or broken: nothing of a shard is lost silently.
    """
    number, key = 0, ""
    members: list[tuple[str, tarfile.TarInfo]] = []
    try:
        with _open(shard) as file:
            remember(shard)
            for member in _members(shard, file):
                folder, _, base = member.name.rpartition("/")
                stem, _, ending = base.partition(".")
                member_key = f"{folder}/{stem}" if folder else stem
                if members and member_key != key:
                    if number >= skip:
                        yield number, _sample(shard, file, key, members, contents)
                    number, members = number + 1, []
                key = member_key
                members.append((ending.lower(), member))
            if members and number >= skip:
                yield number, _sample(shard, file, key, members, contents)
    except FileNotFoundError as error:
        raise ValueError(f"{shard}: there is no such tar shard") from error
    except OSError as error:
        raise ValueError(f"{shard} cannot be read ({error})") from error


def row_of(sample: Sample, columns: Columns, default_split: str) -> CaptionRow:
    """Return the row of a sample: `columns` are file endings (jpg, txt), keys of its JSON, or both (json.caption).

    A text is one caption a line. Numbered pictures (a.0.jpg, a.1.jpg) are frames. Raises ValueError naming the sample.
    """
    item: dict[str, Any] = {"__key__": sample.key, **sample.files}
    if isinstance(item.get("txt"), str):
        item["txt"] = [line for line in item["txt"].splitlines() if line.strip()] or [""]
    numbered = sorted((int(found[1]), name) for name in sample.files if (found := _FRAME.fullmatch(name)))
    if numbered:
        item["frames"] = [item.pop(name) for _, name in numbered]
    if isinstance(item.get("json"), Mapping):
        item = {**{name: value for name, value in item["json"].items() if name not in item}, **item}
    visuals = [name for name in item if name == "frames" or name in sample.files]
    chosen = columns.among([*item], sample.where, visuals)
    if not chosen.references:
        raise ValueError(
            f"{sample.where} has no captions: name them (--references-column); it has {', '.join(map(str, item))}"
        )
    visual = chosen.image or chosen.video or chosen.frames
    assert visual is not None
    content = value_of(item, visual, sample.where)
    return CaptionRow(
        image_id=text_of(item, chosen.id or "__key__", sample.where),
        visual=content,
        references=captions_of(item, chosen, sample.where),
        split=split_name(text_of(item, chosen.split, sample.where)) if chosen.split else default_split,
        where=sample.where,
        is_video=chosen.video is not None,
        timestamps=timestamps_of(item, sample.where),
    )


def _braces(text: str) -> Iterator[str]:
    found = re.search(r"\{([^{}]*)\}", text)
    if found is None:
        yield text
        return
    before, after = text[: found.start()], text[found.end() :]
    if spans := _RANGE.fullmatch(found[0]):
        first, last = spans[1], spans[2]
        if int(first) > int(last):
            raise ValueError(f"{text}: {found[0]} goes from {first} down to {last}")
        choices = [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
    else:
        choices = found[1].split(",")
    for choice in choices:
        yield from _braces(before + choice + after)


def _globbed(address: str) -> list[str]:
    if "://" in address:
        if not re.search(r"[*?\[]", address):
            return [address]  # looked for when it is opened: some systems cannot list
        system, path = fsspec.core.url_to_fs(address)
        return [system.unstrip_protocol(str(found)) for found in sorted(system.glob(path))]
    if os.path.isdir(address):
        address = os.path.join(address, "*.tar")
    elif os.path.isfile(address):
        return [address]
    system, path = fsspec.core.url_to_fs(address)
    return [str(found) for found in sorted(system.glob(path))]


def _open(shard: str) -> Any:
    return fsspec.open(shard, "rb") if "://" in shard else open(shard, "rb")


def _members(shard: str, file: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """The files of an archive; tarfile stops at a broken header as if it were the end, so the end mark is checked."""
    try:
        archive: Any = tarfile.TarFile(fileobj=file)
        while (member := archive.next()) is not None:
            archive.members.clear()  # or the whole index would stay in memory
            if member.isreg():
                yield member
    except tarfile.TarError as error:
        raise ValueError(f"{shard} is no tar archive, or is broken or cut off ({error}): copy it again") from error
    file.seek(archive.offset)
    end = file.read(_BLOCK)
    if len(end) < _BLOCK or end.strip(b"\0"):
        raise ValueError(f"{shard} is broken or cut off at byte {archive.offset}: copy it again")


def _sample(shard: str, file: BinaryIO, key: str, members: list[tuple[str, tarfile.TarInfo]], contents: bool) -> Sample:
    where = f"{shard}: {key}"
    files: dict[str, Any] = {}
    for ending, member in members:
        if ending in files:
            raise ValueError(f'{where} has two files with the ending "{ending}"; write the files of a name once')
        if ending.rpartition(".")[2] in TEXTS or contents:
            file.seek(member.offset_data)
            data = file.read(member.size)
        if ending.rpartition(".")[2] in TEXTS:
            files[ending] = _text(data, ending, where)
        elif contents:
            files[ending] = {"bytes": data, "path": f"{shard}::{member.name}"}
        else:
            files[ending] = place(shard, member.name, member.offset_data, member.size)
    return Sample(key, files, where)


def _text(data: bytes, ending: str, where: str) -> Any:
    try:
        text = data.decode("utf-8-sig")
        return json.loads(text) if ending.endswith("json") else text
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}.{ending} is not text in UTF-8 ({error})") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}.{ending} is not JSON ({error.msg}, line {error.lineno}): {shown(text)}") from error
