"""The README.md of a saved captioner: its results, the recipe that made it, how to load it, what to cite."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCardData

from rlcap.evaluation.metrics import IN_SHORT, METRICS
from rlcap.evaluation.ranking import RANKED

FILE = "README.md"
# Settings that say where and how a run was watched, not what was learned.
NOT_RECIPE = re.compile(
    r"output_dir$|run_name$|report_to$|disable_tqdm$|log|save_|hub_|push_to_hub|dataloader_|project$|trackio|"
    r"resume_from|eval_on_start$|samples_logged$|overwrite|use_cpu$|parallelism_config$|seed$"
)
# What else a recipe leaves out where it is not set: a captioner is trained from an id or on a vision model, not both.
UNSET: tuple[Any, ...] = (None, False, [], {}, "")
USE = """## Use

```bash
rlcap caption --captioner PATH_OR_ID --images photo.jpg
```

or in Python `captioners.load("PATH_OR_ID")`."""
SCST = """@inproceedings{rennie2017self,
  title     = {Self-Critical Sequence Training for Image Captioning},
  author    = {Rennie, Steven J. and Marcheret, Etienne and Mroueh, Youssef and Ross, Jerret and Goel, Vaibhava},
  booktitle = {CVPR},
  year      = {2017}
}"""
LEAVE_ONE_OUT = """@article{luo2020better,
  title   = {A Better Variant of Self-Critical Sequence Training},
  author  = {Luo, Ruotian},
  journal = {arXiv preprint arXiv:2003.09971},
  year    = {2020}
}"""
CIDER = """@inproceedings{vedantam2015cider,
  title     = {{CIDEr}: Consensus-Based Image Description Evaluation},
  author    = {Vedantam, Ramakrishna and Lawrence Zitnick, C. and Parikh, Devi},
  booktitle = {CVPR},
  year      = {2015}
}"""
DPO = """@inproceedings{rafailov2023direct,
  title     = {Direct Preference Optimization: Your Language Model is Secretly a Reward Model},
  author    = {Rafailov, Rafael and Sharma, Archit and Mitchell, Eric and Ermon, Stefano and Manning, Christopher D. and
               Finn, Chelsea},
  booktitle = {NeurIPS},
  year      = {2023}
}"""
RLCAP = """@software{{rlcap,
  title   = {{rlcap: RL fine-tuning for image and video captioners}},
  version = {{{version}}}
}}"""


def model_card(
    run: Mapping[str, Any],
    *,
    name: str,
    step: int,
    results: Mapping[str, float],
    evaluated_at: int | None,
    defaults: Mapping[str, Any],
) -> str:
    """The text of a model card, with the metadata that the Hub reads at its top.

    run            run.json, or the part of it that is known (`settings` at least)
    step           of the weights
    results        metric -> value on the validation split, measured at step `evaluated_at`; may be empty
    defaults       what the settings are where nobody sets them: the recipe shows the others
    """
    settings = run["settings"]
    recipe = {
        key: value
        for key, value in settings.items()
        if not NOT_RECIPE.match(key) and value not in UNSET and value != defaults.get(key, None)
    }
    command = str(run.get("command") or "training")
    data = ModelCardData(
        library_name="rlcap",
        pipeline_tag="image-to-text",
        tags=[
            "image-captioning",
            "rlcap",
            *(["scst"] if "rewards" in settings else []),
            *(["dpo"] if _ranks(settings) else []),
        ],
        base_model=_hub_id(settings.get("captioner") or settings.get("vision")),
        model_name=name,
        eval_results=_eval_results(settings, results) or None,
    )
    versions = run.get("versions") or {}
    facts = [f"command `rlcap {command}`", f"step {step:,}", f"seed {run.get('seed', settings.get('seed'))}"]
    facts += [f"{library} {versions[library]}" for library in ("rlcap", "torch", "transformers") if library in versions]
    git = run.get("git")
    facts += [f"commit {git['commit'][:12]}{' (modified)' if git['modified'] else ''}"] if git else []
    sections = [
        f"---\n{data.to_yaml().strip()}\n---",
        f"# {_line(name)}",
        f"An image captioner trained with rlcap: {', '.join(facts)}.",
        USE,
        f"## Results\n\n{_results(settings, results, evaluated_at, step)}",
        f"## Recipe\n\nWhat differs from the defaults of `rlcap {command}`:\n\n````yaml\n{_yaml(recipe)}````",
        "## Citation\n\n```bibtex\n" + "\n\n".join(_citations(settings, versions)) + "\n```",
    ]
    return "\n\n".join(sections) + "\n"


def with_metadata(card: str, metadata: Mapping[str, Any]) -> str:
    """A card with entries of its metadata set (`license`, `language`, …); lists, such as `tags`, grow."""
    _, head, body = card.split("---\n", 2)
    known = yaml.safe_load(head)
    for key, value in metadata.items():
        before = known.get(key)
        added = [value] if isinstance(before, list) and isinstance(value, str) else value
        known[key] = [*before, *(own for own in added if own not in before)] if isinstance(before, list) else added
    return f"---\n{yaml.safe_dump(known, sort_keys=False, allow_unicode=True)}---\n{body}"


def write_card(directory: Path, card: str) -> None:
    """Puts a card into a folder."""
    (directory / FILE).write_text(card, encoding="utf-8")


def _eval_results(settings: Mapping[str, Any], results: Mapping[str, float]) -> list[EvalResult]:
    data = Path(str(settings.get("val_data") or settings.get("data") or "validation")).stem
    return [
        EvalResult(
            task_type="image-to-text",
            task_name="Image captioning",
            dataset_type=_line(data),
            dataset_name=_line(data),
            dataset_split=str(settings.get("val_split") or "val"),
            metric_type=metric,
            metric_name=metric,
            metric_value=round(results[metric], 4),
        )
        for metric in IN_SHORT
        if metric in results and math.isfinite(results[metric])
    ]


def _results(settings: Mapping[str, Any], results: Mapping[str, float], evaluated_at: int | None, step: int) -> str:
    if not results:
        return "The run was not evaluated on a validation split."
    beams = settings.get("eval_num_beams", 1)
    decoding = "greedy" if beams == 1 else f"beam {beams}"
    count = f"{results['captions']:,.0f} pictures of the validation split" if "captions" in results else "validation"
    late = "" if evaluated_at == step else f", measured at step {evaluated_at:,} of the same run"
    rows = "\n".join(
        f"| {metric} | {results[metric]:.4g} | {text} |"
        for metric, text in ({name: METRICS[name] for name in IN_SHORT} | RANKED).items()
        if metric in results
    )
    chosen = "The checkpoint was chosen on these pictures, so the numbers are optimistic: report those of a test split."
    return f"{count}, {decoding}{late}:\n\n| metric | value | what it is |\n|---|---|---|\n{rows}\n\n{chosen}"


def _citations(settings: Mapping[str, Any], versions: Mapping[str, Any]) -> list[str]:
    rewards = settings.get("rewards") or []
    cited = [SCST] if rewards else [DPO] if _ranks(settings) else []
    cited += [LEAVE_ONE_OUT] if rewards and settings.get("baseline") == "leave_one_out" else []
    cited += [CIDER] if "cider-d" in rewards else []
    return [*cited, RLCAP.format(version=versions.get("rlcap", ""))]


def _ranks(settings: Mapping[str, Any]) -> bool:
    """Whether the run was one of ranking-DPO, whose keys no other command has."""
    return "pairs" in settings


def _hub_id(source: Any) -> str | None:
    """A captioner's id on the Hub; None for a folder."""
    known = isinstance(source, str) and re.fullmatch(r"[\w.-]+/[\w.-]+", source) and not Path(source).exists()
    return source if known else None


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True).replace("`", "'") if value else "{}\n"


def _line(text: str) -> str:
    """A name as one line of plain letters, so that it is nothing else in YAML or Markdown."""
    return re.sub(r"[^\w.\- ]+", "-", text).strip() or "captioner"
