"""Frames of video files by PyAV: chosen uniformly, densely or at given moments, as RGB pictures."""

import io
import math
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from PIL import Image

from rlcap.data.content import BadImage, Source, named, readable
from rlcap.data.stores import patiently

SEEK_PAST = 4.0  # seconds to the next frame from which a jump to a key frame is tried instead of decoding all between
SLACK = 0.5  # seconds that a file may end before its header says
UNIFORM = "uniform:8"  # where nothing else is said
CHOICES = (
    '"uniform:8" (so many frames), "linspace:8" (with the first and the last), "fps:2:32" (frames a second, and at '
    'most so many) or "times:0.5,2" (seconds)'
)


@dataclass(frozen=True)
class FrameChoice:
    """Which frames of a video are looked at.

    kind: "uniform" (the middles of `most` equal parts, as TSN tests), "linspace" (the frames floor(linspace(0, last,
    `most`)), as EMScore), "fps" (one every 1 / `fps` seconds from the start; `most` spread evenly over the video where
    that would be more), or "times" (`times`, in seconds).
    """

    kind: str
    most: int
    fps: float = 0.0
    times: tuple[float, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "FrameChoice":
        """Read "uniform:8", "linspace:8", "fps:2:32" or "times:0.5,2"; raises ValueError saying what is allowed."""
        kind, _, rest = text.partition(":")
        if kind in ("uniform", "linspace") and re.fullmatch(r"[1-9]\d*", rest):
            return cls(kind, int(rest))
        if kind == "fps" and (found := re.fullmatch(r"(\d+\.?\d*|\.\d+):([1-9]\d*)", rest)) and float(found[1]) > 0:
            return cls(kind, int(found[2]), fps=float(found[1]))
        if kind == "times" and re.fullmatch(r"\d+(\.\d*)?(,\d+(\.\d*)?)*", rest):
            return cls.at([float(time) for time in rest.split(",")])
        raise ValueError(f"frames of a video are chosen by {CHOICES}, not {text!r}")

    @classmethod
    def at(cls, times: Sequence[float]) -> "FrameChoice":
        """Frames at these seconds, in this order; raises ValueError where there is none, or one is below 0."""
        if not times or not all(math.isfinite(time) and time >= 0 for time in times):
            raise ValueError(f"moments of a video are at least one number of seconds, 0 or more, not {list(times)}")
        return cls("times", len(times), times=tuple(map(float, times)))

    def __str__(self) -> str:
        """The text that `parse` reads."""
        if self.kind in ("uniform", "linspace"):
            return f"{self.kind}:{self.most}"
        if self.kind == "fps":
            return f"fps:{self.fps:g}:{self.most}"
        return "times:" + ",".join(f"{time:.6f}".rstrip("0").rstrip(".") for time in self.times)

    def moments(self, duration: float, rate: float = 0.0) -> list[float]:
        """The seconds at which a video of `duration` seconds and `rate` frames a second (for linspace) is looked at."""
        if self.kind == "times":
            return list(self.times)
        if self.kind == "linspace":
            last = max(round(duration * rate) - 1, 0)
            frames = [last * index // max(self.most - 1, 1) for index in range(self.most)]
            return [(frame + 0.5) / rate for frame in frames]  # amid their time on the screen
        if self.kind == "fps":
            dense = math.ceil(duration * self.fps - 1e-6)
            if dense <= self.most:
                return [index / self.fps for index in range(max(dense, 1))]
        return [(index + 0.5) * duration / self.most for index in range(self.most)]


def open_video(source: Source, choice: FrameChoice) -> list[Image.Image]:
    """Return the chosen frames of a video (a path, bytes, or an address in a tar shard), in the order of the choice.

    A moment gets the frame that is on the screen then. Frames are turned as the file says. Raises BadImage for a file
    that is missing, no video, broken, shorter than its header says, or shorter than a moment that is asked for;
    ValueError where PyAV is not installed; and StoreGone where not the video but its store is missing.
    """
    return patiently(source, lambda: _open(source, choice))


def _open(source: Source, choice: FrameChoice) -> list[Image.Image]:
    name = named(source)
    with _opened(source, name) as (container, stream):
        duration = _duration(container, stream)
        if duration <= 0:
            raise BadImage(name, "has no frames")
        rate = float(stream.average_rate or 0)
        if choice.kind == "linspace" and not rate:
            raise BadImage(name, "does not say how many frames a second it has")
        moments = choice.moments(duration, rate)
        late = max(moments)
        if late > duration + SLACK:
            raise BadImage(name, f"is {duration:g} seconds long; there is no frame at {late:g} seconds")
        playhead = _Playhead(container, stream, name)
        frames = {moment: _picture(playhead.shown_at(moment)) for moment in sorted(set(moments))}
        return [frames[moment] for moment in moments]


def check_video(source: Source, decode: bool = False) -> None:
    """Raise BadImage where a file is no video by its header or, with `decode`, where not all of it can be decoded."""
    name = named(source)
    with _opened(source, name) as (container, stream):
        duration = _duration(container, stream)
        if duration <= 0:
            raise BadImage(name, "has no frames")
        if decode:
            _Playhead(container, stream, name, jumps=False).shown_at(duration)


@contextmanager
def _opened(source: Source, name: str) -> Iterator[tuple[Any, Any]]:
    try:
        import av
    except ImportError as error:
        raise ValueError(f"reading videos ({name}) needs PyAV: pip install 'rlcap[video]'") from error
    content = readable(source)
    try:
        with av.open(io.BytesIO(content) if isinstance(content, bytes) else os.fspath(content)) as container:
            if not container.streams.video:
                raise BadImage(name, "has no video in it")
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1  # data workers are the parallel ones
            limit = Image.MAX_IMAGE_PIXELS
            if limit is not None and stream.width * stream.height > limit:
                raise BadImage(name, f"has {stream.width} x {stream.height} pixels, more than the {limit} allowed")
            yield container, stream
    except BadImage:
        raise
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise BadImage(name, f"cannot be decoded as a video ({type(error).__name__}: {error})") from error


def _start(stream: Any) -> float:
    """The seconds that the stream's own clock shows at its start."""
    return float((stream.start_time or 0) * stream.time_base)


def _duration(container: Any, stream: Any) -> float:
    """Seconds of the video stream: by its header, else (Matroska, WebM, streams) by its packets, none decoded."""
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    last, step = None, 0
    for packet in container.demux(stream):
        if packet.pts is not None and (last is None or packet.pts >= last):
            last, step = packet.pts, packet.duration or 0
    return 0.0 if last is None else float((last + step) * stream.time_base) - _start(stream)


class _Playhead:
    """Decodes forward, and jumps to a key frame where the next moment is far."""

    def __init__(self, container: Any, stream: Any, name: str, jumps: bool = True) -> None:
        self.container, self.stream, self.name, self.jumps = container, stream, name, jumps
        self._shown: Any = None  # the frame before the next one
        self._coming: Any = None
        self._rewind()

    def shown_at(self, moment: float) -> Any:
        """The frame on the screen at `moment`, no earlier than the moment before: the last that starts by then."""
        self._jump(moment)
        while self._coming is not None and self._time(self._coming) <= moment + 1e-6:
            self._shown, self._coming = self._coming, next(self._frames, None)
        if self._shown is None:  # the first frame starts later
            self._shown = self._coming
        if self._coming is None and (self._shown is None or moment > self._end(self._shown) + SLACK):
            ends = 0.0 if self._shown is None else self._end(self._shown)
            raise BadImage(self.name, f"ends after {ends:g} seconds, before what its header says: cut off")
        return self._shown

    def _rewind(self) -> None:
        self.container.seek(0)
        self._play()

    def _play(self) -> None:
        self._frames = self.container.decode(self.stream)
        self._shown, self._coming = None, next(self._frames, None)

    def _jump(self, moment: float) -> None:
        if not self.jumps or self._coming is None or moment - self._time(self._coming) <= SEEK_PAST:
            return
        target = int((moment + _start(self.stream)) / self.stream.time_base)
        try:
            self.container.seek(target, stream=self.stream)
            self._play()
            lands_later = self._coming is None or self._time(self._coming) > moment
        except OSError:  # a format that cannot be sought in
            lands_later = True
        if lands_later:
            self._rewind()

    def _time(self, frame: Any) -> float:
        if frame.time is None:
            raise BadImage(self.name, "has frames without a time")
        return float(frame.time) - _start(self.stream)

    def _end(self, frame: Any) -> float:
        return self._time(frame) + float((frame.duration or 0) * self.stream.time_base)


def _picture(frame: Any) -> Image.Image:
    image = frame.to_image()
    return image.rotate(frame.rotation, expand=True) if frame.rotation else image
