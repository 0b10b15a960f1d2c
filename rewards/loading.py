"""Finding a reward by its name."""

import difflib
import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rewards.reward import Reward, as_reward

BUILT_IN = {
    "cider-d": "rewards.cider_d:CiderD",
    "bleu": "rewards.bleu:Bleu",
    "repetition": "rewards.repetition:Repetition",
    "bad-ending": "rewards.endings:BadEnding",
    "clip-s": "rewards.clip_s:ClipS",
    "pac-s": "rewards.clip_s:PacS",
    "pac-s++": "rewards.clip_s:PacSPlusPlus",
    "ref-clip-s": "rewards.clip_s:RefClipS",
    "ref-pac-s": "rewards.clip_s:RefPacS",
    "ref-pac-s++": "rewards.clip_s:RefPacSPlusPlus",
    "grammar": "rewards.grammar:Grammar",
    "multi-tap": "rewards.multi_tap:MultiTap",
    "comparative": "rewards.comparative:Comparative",
}


def load(name: str, *, corpus: Mapping[str, Sequence[str]] | None = None, **options: Any) -> Reward:
    """The reward of a built-in name, or of `package.module:attribute` for the user's own.

    The attribute is a reward function (it takes `completions`), or a class or factory that takes the options. `corpus`
    (image_id -> references of the training pictures) goes to rewards that say `uses_corpus = True`.
    Raises ValueError for an unknown name or option, listing the known ones.
    """
    target = target_of(name)
    if not inspect.isclass(target) and (isinstance(target, Reward) or "completions" in _parameters(target)):
        if options:
            raise ValueError(
                f"the reward {name!r} is a function and takes no options, but {', '.join(options)} were given; a "
                "class or a factory takes them"
            )
        return as_reward(target)
    _check_options(name, target, options)
    if getattr(target, "uses_corpus", False):
        options = {"corpus": corpus, **options}
    return as_reward(target(**options))


def target_of(name: str) -> Callable[..., Any]:
    """The function, class or factory that a name stands for; raises ValueError as `load` does."""
    module_name, _, attribute = BUILT_IN.get(name, name).partition(":")
    if not attribute or not module_name:
        near = difflib.get_close_matches(name, BUILT_IN, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(
            f"there is no reward {name!r}{hint}; the built-in ones are {', '.join(BUILT_IN)}, and your own is written "
            "package.module:attribute"
        )
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name == error.name or module_name.startswith(error.name + ".")):
            raise  # the module is there, something that it imports is not
        raise ValueError(
            f"the reward {name!r}: there is no module {error.name!r}; run where it can be imported, or install it"
        ) from error
    names = vars(module)
    if attribute not in names:
        raise ValueError(f"the reward {name!r}: the module {module_name} ({module.__file__}) has no {attribute!r}")
    if not callable(names[attribute]):
        raise ValueError(f"the reward {name!r} is {names[attribute]!r}, which cannot be called")
    return names[attribute]


def _parameters(target: Any) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(target).parameters


def _check_options(name: str, target: Any, options: Mapping[str, Any]) -> None:
    parameters = _parameters(target)
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    known = [option for option in parameters if option != "corpus"]
    unknown = [option for option in options if option not in known]
    if unknown:
        raise ValueError(
            f"the reward {name!r} has no option {', '.join(map(repr, unknown))}; its options are "
            f"{', '.join(known) or 'none'}"
        )
    required = [o for o in known if parameters[o].default is inspect.Parameter.empty and o not in options]
    if required:
        raise ValueError(f"the reward {name!r} needs the option(s) {', '.join(required)}")
