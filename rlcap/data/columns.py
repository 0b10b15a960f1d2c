"""Which columns of a data set are the picture, the references, the id and the split: named, or the usual names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlcap.data.rows import shown

# Where a name is not given, the first of these that is there.
IMAGES = ("image", "img", "jpg", "jpeg", "png", "webp")
FRAMES = ("frames", "images")
VIDEOS = ("video", "mp4", "webm", "mkv", "mov", "avi")
REFERENCES = ("references", "captions", "caption", "sentences", "txt", "text")
IDS = ("image_id", "id", "video_id", "cocoid", "img_id", "__key__")
SPLITS = ("split",)


@dataclass(frozen=True)
class Columns:
    """The names that a recipe gives; None or () where the usual names are looked for.

    A name may lead into a column: "json.caption" is `caption` of the object `json`. Several `references` are joined.
    """

    image: str | None = None
    frames: str | None = None
    video: str | None = None
    references: tuple[str, ...] = ()
    id: str | None = None
    split: str | None = None

    def __post_init__(self) -> None:
        given = [f"{key}_column" for key in ("image", "frames", "video") if getattr(self, key) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} are both given; a row is a picture, a list of frames or a video")

    @classmethod
    def named_by(cls, keys: Any) -> "Columns":
        """The names in the keys of a recipe or the flags of a command: `image_column`, `references_column` …"""
        return cls(
            image=keys.image_column,
            frames=keys.frames_column,
            video=keys.video_column,
            references=tuple(keys.references_column or ()),
            id=keys.id_column,
            split=keys.split_column,
        )

    @property
    def given(self) -> bool:
        """Whether any name is given."""
        return self != Columns()

    def among(self, names: Sequence[str], where: str, visuals: Sequence[str] | None = None) -> "Columns":
        """Return the columns to read of those there are, `references` empty and others None where there is none.

        `visuals`: those that can be a picture without being named; default: all. Raises ValueError naming a column that
        is given and not there, and where nothing can be the picture.
        """
        visuals = names if visuals is None else visuals
        visual: dict[str, str] = {}
        for kind, usual in (("frames", FRAMES), ("image", IMAGES), ("video", VIDEOS)):
            given = getattr(self, kind)
            found = _chosen(given, usual, names if given else visuals, where, f"{kind}_column")
            if found is not None and (given or not visual):
                visual = {kind: found}
            if given:
                break
        if not visual:
            raise ValueError(
                f"{where}: no column is known to be a picture or video: name it (--image-column, --frames-column or "
                f"--video-column); there are {', '.join(names) or 'none'}"
            )
        for name in self.references:
            _chosen(name, (), names, where, "references_column")
        usual_references = next(((name,) for name in REFERENCES if name in names), ())
        return Columns(
            references=self.references or usual_references,
            id=_chosen(self.id, IDS, names, where, "id_column"),
            split=_chosen(self.split, SPLITS, names, where, "split_column"),
            **visual,
        )


def _chosen(given: str | None, usual: Sequence[str], names: Sequence[str], where: str, key: str) -> str | None:
    if given is None:
        return next((name for name in usual if name in names), None)
    if given not in names and given.split(".")[0] not in names:
        raise ValueError(f'{where}: there is no column "{given}" ({key}); there are {", ".join(names) or "none"}')
    return given


def root(name: str, names: Sequence[str]) -> str:
    """Return the column that a name, which may lead into it, is found in."""
    return name if name in names else name.split(".")[0]


def value_of(item: Mapping[str, Any], name: str, where: str) -> Any:
    """Return what stands under a name of `Columns`; raises ValueError where there is nothing."""
    if name in item:
        return item[name]
    value: Any = item
    for key in name.split("."):
        if not isinstance(value, Mapping) or key not in value:
            raise ValueError(f'{where} has no "{name}"; it has {", ".join(map(str, item)) or "nothing"}')
        value = value[key]
    return value


def captions_of(item: Mapping[str, Any], columns: Columns, where: str) -> list[str]:
    """Return the captions of a row: texts, lists of texts, or lists of objects with `raw` or `caption`."""
    captions: list[str] = []
    for name in columns.references:
        value = value_of(item, name, where)
        if value is None:
            continue
        for caption in value if isinstance(value, list | tuple) else [value]:
            if isinstance(caption, Mapping):
                caption = caption.get("raw", caption.get("caption"))
            if not isinstance(caption, str):
                raise ValueError(f'{where}: "{name}" must be a text or a list of texts, not {shown(value)}')
            captions.append(caption)
    return captions


def text_of(item: Mapping[str, Any], name: str, where: str) -> str:
    """Return an id or the name of a split as text; raises ValueError where it is neither text nor a whole number."""
    value = value_of(item, name, where)
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise ValueError(f'{where}: "{name}" must be a text or a whole number, not {shown(value)}')
    return str(value)


def timestamps_of(item: Mapping[str, Any], where: str) -> list[float] | None:
    """Return the row's own `timestamps`, the seconds of a video to look at, where it has any."""
    times = item.get("timestamps")
    if times is None:
        return None
    if not isinstance(times, list) or not all(isinstance(t, int | float) and not isinstance(t, bool) for t in times):
        raise ValueError(f'{where}: "timestamps" must be a list of seconds, not {shown(times)}')
    return list(map(float, times))
