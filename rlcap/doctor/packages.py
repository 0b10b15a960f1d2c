"""Which of the packages that rlcap's own metadata names are installed, in a version that it takes."""

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

from rlcap import __version__
from rlcap.doctor.item import LACKING, WRONG, Item

NOT_FOR_USERS = {"all", "dev", "docs"}


def required() -> list[Item]:
    """rlcap, and the packages without which it does not run."""
    own = Item("rlcap", __version__)
    return [own, *(_required(requirement) for requirement in _requirements() if requirement.marker is None)]


def extras() -> list[Item]:
    """The extras: what each has, or how to install it."""
    by_extra: dict[str, list[Requirement]] = {}
    for requirement in _requirements():
        for extra in _extras_of(requirement):
            by_extra.setdefault(extra, []).append(requirement)
    return [_extra(name, by_extra[name]) for name in sorted(by_extra.keys() - NOT_FOR_USERS)]


def _requirements() -> list[Requirement]:
    try:
        return [Requirement(text) for text in requires("rlcap") or ()]
    except PackageNotFoundError as error:
        raise RuntimeError("rlcap runs from its source and is not installed: pip install -e .") from error


def _extras_of(requirement: Requirement) -> Iterable[str]:
    """The extra that a requirement belongs to, as its marker says: `extra == 'clip'`."""
    text = str(requirement.marker or "")
    _, found, name = text.partition("extra == ")
    return [name.strip("\"' )")] if found else []


def _required(requirement: Requirement) -> Item:
    installed, fits = _installed(requirement)
    if fits:
        return Item(requirement.name, str(installed))
    found = "not installed" if installed is None else f"{installed}, and rlcap needs {requirement.specifier}"
    return Item(requirement.name, f"{found}: pip install '{requirement.name}{requirement.specifier}'", WRONG)


def _extra(name: str, requirements: list[Requirement]) -> Item:
    states = [(requirement, *_installed(requirement)) for requirement in requirements]
    there = ", ".join(f"{requirement.name} {installed}" for requirement, installed, _ in states if installed)
    if all(fits for _, _, fits in states):
        return Item(name, there)
    short = ", ".join(
        f"{requirement.name} {'is missing' if installed is None else f'must be {requirement.specifier}'}"
        for requirement, installed, fits in states
        if not fits
    )
    return Item(name, f"{there + '; ' if there else ''}{short}: pip install 'rlcap[{name}]'", LACKING)


def _installed(requirement: Requirement) -> tuple[str | None, bool]:
    """The installed version or None, and whether it is one that rlcap takes."""
    try:
        found = version(requirement.name)
    except PackageNotFoundError:
        return None, False
    return found, requirement.specifier.contains(found, prereleases=True)
