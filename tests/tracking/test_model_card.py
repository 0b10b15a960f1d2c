"""A model card says what was measured, how it was made and what to cite, and the Hub can read its head."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from rlcap.tracking.model_card import model_card, with_metadata

RESULTS = {"cider": 97.2531, "bleu_4": 25.0, "rep_4_count": 0.25, "captions": 1000.0, "distinct_1": 0.5}


def _card(**settings: Any) -> str:
    run = {
        "command": "scst",
        "seed": 3,
        "settings": {"eval_num_beams": 3, "data": "d/dataset_flickr8k.json", "learning_rate": 5e-6, **settings},
        "versions": {"rlcap": "0.1.0", "torch": "2.15", "pillow": "11"},
        "git": {"commit": "0123456789abcdef", "modified": True},
    }
    defaults = {"learning_rate": 5e-6, "num_samples": 5}
    return model_card(run, name="scst", step=50, results=RESULTS, evaluated_at=50, defaults=defaults)


def test_the_head_is_what_the_hub_reads() -> None:
    card = ModelCard(_card(rewards=["cider-d"], captioner="nlpconnect/vit-gpt2-image-captioning"))
    assert card.data.base_model == "nlpconnect/vit-gpt2-image-captioning"
    assert (card.data.library_name, card.data.pipeline_tag) == ("rlcap", "image-to-text")
    assert card.data.tags == ["image-captioning", "rlcap", "scst"]
    assert card.data.model_name == "scst"
    measured = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert measured == {"cider": 97.2531, "bleu_4": 25.0, "rep_4_count": 0.25}
    assert {(own.dataset_name, own.dataset_split) for own in card.data.eval_results} == {("dataset_flickr8k", "val")}


def test_a_folder_is_no_base_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs" / "xe").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for captioner in ("runs/xe", "/somewhere/xe/best", None):
        assert ModelCard(_card(captioner=captioner)).data.base_model is None


def test_results_recipe_and_citation() -> None:
    text = _card(rewards=["cider-d"], baseline="leave_one_out", num_samples=5, kl_beta=0.1, output_dir="runs/a")
    assert "| cider | 97.25 | CIDEr as everybody prints it" in text
    assert "1,000 pictures of the validation split, beam 3:" in text
    assert "command `rlcap scst`, step 50, seed 3, rlcap 0.1.0, torch 2.15, commit 0123456789ab (modified)" in text
    recipe = yaml.safe_load(text.split("````yaml\n")[1].split("````")[0])
    expected = {"eval_num_beams": 3, "data": "d/dataset_flickr8k.json", "rewards": ["cider-d"], "kl_beta": 0.1}
    assert recipe == {**expected, "baseline": "leave_one_out"}  # neither defaults nor where the run was
    for key in ("rennie2017self", "luo2020better", "vedantam2015cider", "rlcap"):
        assert f"{{{key}," in text


def test_cross_entropy_cites_no_rewards() -> None:
    text = _card()
    assert "rennie2017self" not in text
    assert "software{rlcap," in text


def test_without_an_evaluation_nothing_is_claimed() -> None:
    text = model_card({"settings": {}}, name="x", step=5, results={}, evaluated_at=None, defaults={})
    assert "was not evaluated" in text
    assert ModelCard(text).data.eval_results is None


def test_later_weights_say_when_they_were_measured() -> None:
    text = model_card({"settings": {}}, name="x", step=60, results=RESULTS, evaluated_at=50, defaults={})
    assert "greedy, measured at step 50 of the same run:" in text


def test_names_and_settings_are_text() -> None:
    run = {"settings": {"data": "a\n---\nlicense: mit\n````\n# b.json", "note": "````\n# taken"}}
    text = model_card(run, name="x\n# y: [z", step=1, results=RESULTS, evaluated_at=1, defaults={})
    assert ModelCard(text).data.license is None
    assert text.count("````") == 2
    assert "\n# x- y- -z\n" in text


def test_metadata_is_set_and_lists_grow() -> None:
    text = with_metadata(_card(rewards=["cider-d"]), {"license": "mit", "tags": ["mine", "rlcap"]})
    card = ModelCard(text)
    assert card.data.license == "mit"
    assert card.data.tags == ["image-captioning", "rlcap", "scst", "mine"]
    assert "## Recipe" in text
