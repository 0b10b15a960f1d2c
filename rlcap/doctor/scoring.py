"""Which rewards can be loaded here, and which programs that check or score captions can run."""

import inspect
import subprocess
from importlib.util import find_spec

import rewards
from rlcap.doctor.item import LACKING, Item

PROBE = {"a": ["a dog runs", "the dog is running"], "b": ["a red car"]}  # image_id -> references


def reward_items() -> list[Item]:
    """Each built-in reward: that it scores a caption here, or what it needs for that."""
    return [_reward(name) for name in rewards.BUILT_IN]


def _reward(name: str) -> Item:
    from rewards.clip_s import ClipS, PacS
    from rewards.loading import target_of

    target = target_of(name)
    if inspect.isclass(target) and issubclass(target, ClipS):
        return _dual_encoder(name, needs_weights=issubclass(target, PacS))
    required = [own.name for own in inspect.signature(target).parameters.values() if own.default is own.empty]
    if required:
        return Item(name, f"needs {', '.join(f'{own}=DIR' for own in required)}, made by `rlcap reward {name}`")
    reward = rewards.load(name, corpus=PROBE)
    scored = rewards.score(
        [reward],
        ["a dog runs", "a red car"],
        {"references": list(PROBE.values()), "image_id": list(PROBE), "finished": [True, True]},
    )
    return Item(name, "ready" if all(value is not None for value in scored[reward.__name__]) else "scores nothing")


def _dual_encoder(name: str, needs_weights: bool) -> Item:
    published = "checkpoint=FILE (the published weights), or backbone=DIR made by `rlcap reward pac`"
    downloaded = "OpenAI's ViT-B/32, which is downloaded once, or backbone=DIR"
    if find_spec("open_clip") is None:
        own = "pip install 'rlcap[clip]'; without it backbone=DIR of a transformers dual encoder"
        return Item(name, f"open_clip is missing: {own}", LACKING)
    return Item(name, f"needs {published if needs_weights else downloaded}")


def checker_items() -> list[Item]:
    """Java and what is written in it, the grammar checkers, and the parser that makes chains."""
    from rlcap.evaluation.grammar import CHECKERS

    checkers = [_checker(own.name, own.missing() if own.wanted() else None, own.wanted()) for own in CHECKERS.values()]
    return [*_java(), *checkers, _parser()]


def _checker(name: str, missing: str | None, wanted: bool) -> Item:
    if not wanted:
        from rlcap.evaluation.grammar.languagetool_server import SETTING

        return Item(name, f"not asked for ({SETTING} is not set)", LACKING)
    return Item(name, "ready") if missing is None else Item(name, missing, LACKING)


def _java() -> list[Item]:
    from rlcap.evaluation import java

    if find_spec("pycocoevalcap") is None:
        return [Item("pycocoevalcap", "missing, and evaluation needs it: pip install 'rlcap[coco]'", LACKING)]
    program = java.find_java()
    if program is None:
        return [Item("Java", "none, so no METEOR and no SPICE: pip install 'rlcap[coco]' brings one", LACKING)]
    answer = subprocess.run([str(program), "-version"], capture_output=True, text=True, timeout=30, check=False)
    version = (answer.stderr or answer.stdout).splitlines() or [f"ends with code {answer.returncode}"]
    items = [Item("Java", version[0], LACKING if answer.returncode else "ok")]
    items.append(Item("METEOR", "ready") if java.meteor_jar().is_file() else Item("METEOR", "no jar", LACKING))
    if java.spice_jar() is None:
        return [*items, Item("SPICE", "needs stanford-corenlp-3.6.0.jar and its models", LACKING)]
    return [*items, Item("SPICE", "ready")]


def _parser() -> Item:
    from rlcap.degrading.parse import load_parser

    try:
        meta = load_parser().meta
    except ValueError as error:
        return Item("spaCy", str(error), LACKING)
    return Item("spaCy", f"{meta['lang']}_{meta['name']} {meta['version']}")
