"""All that the doctor looks at, in sections; each is looked at whatever becomes of the others."""

import importlib
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from rlcap.doctor.item import LACKING, WRONG, Item

# section -> where it is looked at, and what it is where that fails: without the first ones nothing trains
SECTIONS = {
    "packages": ("rlcap.doctor.packages:required", WRONG),
    "extras": ("rlcap.doctor.packages:extras", LACKING),
    "machine": ("rlcap.doctor.machine:system", LACKING),
    "accelerators": ("rlcap.doctor.machine:accelerators", WRONG),
    "rewards": ("rlcap.doctor.scoring:reward_items", LACKING),
    "checkers": ("rlcap.doctor.scoring:checker_items", LACKING),
    "services": ("rlcap.doctor.surroundings:services", LACKING),
    "launcher": ("rlcap.doctor.surroundings:launcher", WRONG),
}
SELF_TEST = "self-test"
MARKS = {LACKING: "-", WRONG: "!"}

Report = dict[str, list[Item]]


def examine(self_test: Callable[[], Item] | None) -> Report:
    """Section -> what was found; `self_test` is run last, where there is one."""
    report = {section: _section(section, where, failed) for section, (where, failed) in SECTIONS.items()}
    if self_test is not None:
        report[SELF_TEST] = _guarded(lambda: [self_test()], SELF_TEST, WRONG)
    return report


def healthy(report: Report) -> bool:
    """Whether rlcap can train here."""
    return not any(item.state == WRONG for items in report.values() for item in items)


def as_json(report: Report) -> dict[str, Any]:
    """The report for machines: `ok`, and section -> [{name, found, state}]."""
    return {"ok": healthy(report), **{section: [asdict(item) for item in items] for section, items in report.items()}}


def as_text(report: Report) -> str:
    """The report for people and for bug reports."""
    lines = []
    for section, items in report.items():
        lines.append(section)
        width = max(len(item.name) for item in items)
        lines += [f"{MARKS.get(item.state, ' ')} {item.name:<{width}}  {item.found}" for item in items]
        lines.append("")
    wrong = [item.name for items in report.values() for item in items if item.state == WRONG]
    lines.append(f"rlcap cannot train here: {', '.join(wrong)}" if wrong else "rlcap can train here")
    return "\n".join(lines)


def _section(section: str, where: str, failed: str) -> list[Item]:
    module, _, function = where.partition(":")
    return _guarded(lambda: getattr(importlib.import_module(module), function)(), section, failed)


def _guarded(look: Callable[[], list[Item]], section: str, failed: str) -> list[Item]:
    """What was found, or the error: a broken library must not keep the rest from being told."""
    try:
        return look()
    except Exception as error:
        return [Item(section, f"{type(error).__name__}: {error}", failed)]
