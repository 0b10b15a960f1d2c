"""The grammar reward: what its features are, what a directory holds, what is refused."""

import json
from pathlib import Path

import pytest
import text_encoders
import torch
import transformers
from safetensors.torch import load_file, save_file

import rewards
from rewards.grammar_model import GrammarModel, GrammarSettings, normal_form
from rlcap.evaluation.metrics import score_captions

CAPTIONS = ["a red circle", "the small green star is in the left of a large blue square"]


@pytest.fixture(scope="module", params=text_encoders.BUILDERS)
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return text_encoders.BUILDERS[request.param](tmp_path_factory.mktemp(request.param))


@torch.no_grad()
def test_features_are_the_means_of_every_layer_over_the_real_tokens(base: Path) -> None:
    model = GrammarModel.create(base).eval()
    tokens = model.tokenize(CAPTIONS)
    assert (tokens["attention_mask"][0] == 0).any()
    features = model.features(**tokens)
    assert features.shape == (2, 3 * 32)
    alone = model.encoder(**model.tokenize(CAPTIONS[:1]), output_hidden_states=True)
    for layer, states in enumerate(alone.hidden_states):
        mean = states[0].mean(0)
        expected = (mean - mean.mean()) / (mean.var(unbiased=False) + 1e-5).sqrt()
        torch.testing.assert_close(features[0, 32 * layer : 32 * (layer + 1)], expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_a_directory_scores_as_the_model_did(base: Path, tmp_path: Path) -> None:
    model = GrammarModel.create(base, GrammarSettings("tiny", width=8)).eval()
    expected = model(**model.tokenize(CAPTIONS)).softmax(1)[:, 1].tolist()
    model.save(tmp_path)
    reward = rewards.load("grammar", path=tmp_path, batch_size=1)
    scores = reward([*CAPTIONS, "A red circle.", "", " ... ", CAPTIONS[0]])
    assert scores[:2] == pytest.approx(expected, abs=1e-6)
    assert scores[2] == scores[5] == scores[0]  # typing counts for nothing
    assert scores[3:5] == [0.0, 0.0]
    assert reward.describe()["base_model"] == "tiny"
    assert reward.describe()["weights"].startswith("sha256:")
    assert reward.describe()["transformers"] == transformers.__version__


def test_captions_longer_than_the_encoder_reads_are_scored(base: Path, tmp_path: Path) -> None:
    GrammarModel.create(base, GrammarSettings("tiny", width=8)).save(tmp_path)
    reward = rewards.load("grammar", path=tmp_path)
    assert reward.model.context == (23 if base.name.startswith("roberta") else 24)
    words = ["a red", "circle is", "in the"] * 4
    cut, longer = reward([" ".join(words), " ".join(words + ["blue"] * 9)])
    assert cut == pytest.approx(longer, abs=1e-6)


def test_what_cannot_be_loaded(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"grammar\.json is missing"):
        rewards.load("grammar", path=tmp_path)
    model = GrammarModel.create(base, GrammarSettings("tiny", width=8))
    model.save(tmp_path)
    save_file({"0.weight": torch.zeros(8, 5), "2.weight": torch.zeros(2, 8)}, tmp_path / "grammar_head.safetensors")
    with pytest.raises(ValueError, match=r"does not fit the model .* 0\.weight is \[8, 5\] and must be \[8, 96\]"):
        rewards.load("grammar", path=tmp_path)
    weights = load_file(tmp_path / "encoder" / "model.safetensors")
    lost = next(name for name in weights if "layer" in name and "weight" in name)
    kept = {name: tensor for name, tensor in weights.items() if name != lost}
    save_file(kept, tmp_path / "encoder" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="lacks 1 of the model's weights, which would stay random"):
        rewards.load("grammar", path=tmp_path)
    settings = json.loads((tmp_path / "grammar.json").read_text())
    (tmp_path / "grammar.json").write_text(json.dumps({**settings, "words": "another"}))
    with pytest.raises(ValueError, match="was trained on words of another"):
        rewards.load("grammar", path=tmp_path)


def test_normal_form() -> None:
    assert normal_form(" A dog, running . ") == "a dog running"


@torch.no_grad()
def test_a_real_sentence_encoder(shared: Path) -> None:
    """The half-precision weights of MiniLM are loaded whole and computed in full precision."""
    model = GrammarModel.create(shared / "data" / "weights" / "all-MiniLM-L6-v2").eval()
    assert next(model.encoder.parameters()).dtype == torch.float32
    whole, broken = model.features(**model.tokenize(["a dog runs on the grass", "the grass a runs dog on"]))
    assert whole.shape == (7 * 384,)
    parts = [
        torch.cosine_similarity(a, b, dim=0).item() for a, b in zip(whole.view(7, -1), broken.view(7, -1), strict=True)
    ]
    assert parts[0] > 0.99  # the words are the same
    assert min(parts) < 0.95  # and their order is seen further up


def test_it_is_a_measure_too(base: Path, tmp_path: Path) -> None:
    GrammarModel.create(base, GrammarSettings("tiny", width=8)).save(tmp_path)
    predictions = dict(zip("xy", CAPTIONS, strict=True))
    references = {key: ["a red circle"] for key in predictions}
    evaluation = score_captions(predictions, references, metrics=["grammar_head"], grammar_head=tmp_path)
    values = rewards.load("grammar", path=tmp_path)(CAPTIONS)
    assert evaluation.metrics["grammar_probability"] == pytest.approx(50 * sum(values), abs=1e-4)
    assert evaluation.per_caption["y"]["grammar_probability"] == pytest.approx(100 * values[1], abs=1e-4)
    with pytest.raises(ValueError, match="grammar_probability cannot be computed: no grammar head was given"):
        score_captions(predictions, references, metrics=["grammar_probability"])
    assert "grammar_probability" not in score_captions(predictions, references, java=False, metrics=["bleu"]).metrics
