"""Training of the comparative scorer: that it learns, from every kind of judgment, and that a killed run goes on."""

import os
import signal
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import pictures
from tiny_encoders import tiny_encoders

from rewards.comparative.encoders import PictureEncoder
from rlcap.data.judgments import JudgedCaption, Judgments
from rlcap.data.pairs import levels_of
from rlcap.evaluation.judged import agreement
from rlcap.launching.stopping import Stopped
from rlcap.tracking.run_directory import read_metrics
from rlcap.training.comparative import HeadTraining, cosine
from rlcap.training.comparative_arguments import ComparativeArguments
from rlcap.training.comparative_vectors import JudgedVectors, picture_store, vectors_of


def judged(pictures: int, seed: int, preferences: bool = False) -> JudgedVectors:
    """Captions rated 1 to 5 by how well two numbers of theirs match two of the picture; the rest is noise."""
    rng = torch.Generator().manual_seed(seed)
    seen, told = torch.randn(pictures, 6, generator=rng), torch.randn(5 * pictures, 4, generator=rng)
    picture_of = torch.arange(pictures).repeat_interleave(5)
    match = seen[picture_of, 0] * told[:, 0] + told[:, 1]
    ratings = (2.9 + match).clamp(1, 5).double().numpy().round(1)
    pairs = np.zeros((0, 2), dtype=np.int64)
    if preferences:
        pairs = np.array([(5 * p, 5 * p + 1) for p in range(pictures)])
        wrong = ratings[pairs[:, 0]] < ratings[pairs[:, 1]]
        pairs[wrong] = pairs[wrong][:, ::-1]
        ratings = np.full(len(ratings), np.nan)
    return JudgedVectors(seen, told, picture_of, torch.arange(5 * pictures), ratings, pairs)


SETTINGS = ComparativeArguments(
    data="none",
    output_dir="none",
    hidden=[32],
    dropout=[0.1],
    batch_size=64,
    epochs=12,
    patience=12,
    decay_steps=None,
    learning_rate=1e-2,
    rounds=4,
    use_cpu=True,
)


@pytest.mark.parametrize(
    "changes",
    [
        {"loss": "hinge"},
        {"loss": "bradley_terry"},
        {"loss": "hinge", "pairs": "same_image"},
        {"loss": "hinge", "pairs": "active"},
        {"loss": "bradley_terry", "pairs": "hard"},
        {"loss": "mae_sign"},
        {"loss": "mae_tanh"},
        {"loss": "mse", "batch_norm": False},
    ],
    ids=lambda changes: "-".join(map(str, changes.values())),
)
def test_unseen_pictures_are_ranked_as_people_would(changes: dict[str, object]) -> None:
    train, val, test = judged(120, 0), judged(40, 1), judged(60, 2)
    training = HeadTraining(train, val, replace(SETTINGS, **changes))
    owners = test.picture_of.numpy()
    before = agreement(training.scores(test), test.ratings, owners)
    training.run(quiet=True)
    after = agreement(training.scores(test), test.ratings, owners)
    assert before["spearman"] < 0.5
    assert after["spearman"] > 0.8
    assert after["same_image_pair_accuracy"] > 0.85
    if training.args.on_pairs and training.args.pairs != "same_image":
        assert len(training.pairs) == 5 * len(train)


def test_preferences_are_enough() -> None:
    train, val, test = (judged(number, seed, preferences=True) for number, seed in ((600, 0), (60, 1), (200, 2)))
    training = HeadTraining(train, val, replace(SETTINGS, loss="bradley_terry", pairs="given"))
    training.run(quiet=True)
    found = agreement(training.scores(test), test.ratings, test.picture_of.numpy(), test.preferences)
    assert found["preference_accuracy"] > 0.8
    with pytest.raises(ValueError, match="captions of the split train have no ratings"):
        HeadTraining(train, val, SETTINGS)
    with pytest.raises(ValueError, match='pairs is "given", but the split train has no preferences'):
        HeadTraining(judged(5, 0), val, replace(SETTINGS, pairs="given"))


def test_active_selection_adds_what_the_scores_are_unsure_of() -> None:
    train, val = judged(120, 0), judged(40, 1)
    training = HeadTraining(train, val, replace(SETTINGS, pairs="active", pairs_per_caption=2))
    training.run(quiet=True)
    assert len(training.pairs) == 2 * len(train) == 1200
    assert training.state.asked > 1200  # ties cost
    scores, first, last = training.scores(train), training.pairs[:300], training.pairs[-300:]
    gaps = [np.abs(scores[pairs[:, 0]] - scores[pairs[:, 1]]).mean() for pairs in (first, last)]
    assert gaps[1] < 0.5 * gaps[0]
    assert len({tuple(sorted(pair)) for pair in training.pairs.tolist()}) == 1200
    levels = levels_of(train.ratings)
    assert (levels[training.pairs[:, 0]] > levels[training.pairs[:, 1]]).all()


def test_ratings_are_predicted_on_their_scale() -> None:
    train, val, test = judged(200, 0), judged(40, 1), judged(60, 2)
    training = HeadTraining(train, val, replace(SETTINGS, loss="mse"))
    training.run(quiet=True)
    assert (
        np.abs(training.scores(test) - test.ratings).mean() < 0.5 * np.abs(train.ratings.mean() - test.ratings).mean()
    )


@dataclass(frozen=True)
class Interrupting(JudgedVectors):
    """Training captions that end the process, as Ctrl-C would, or tell it to stop, when they are read the 30th time."""

    reads: list[int] = field(default_factory=list)
    told: int | None = None  # the signal, in place of Ctrl-C

    def rows(self, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.reads.append(len(index))
        if len(self.reads) == 30:
            if self.told is None:
                raise KeyboardInterrupt
            os.kill(os.getpid(), self.told)
        return super().rows(index)


@pytest.mark.parametrize("changes", [{"loss": "mse"}, {"pairs": "active"}], ids=["ratings", "active pairs"])
def test_a_killed_run_goes_on_to_the_same_bits(changes: dict[str, object], tmp_path: Path) -> None:
    train, val = judged(40, 0), judged(20, 1)
    args = replace(SETTINGS, save_epochs=1, epochs=12, pairs_per_caption=2, **changes)
    whole = HeadTraining(train, val, args, tmp_path / "whole").run(quiet=True)
    with pytest.raises(KeyboardInterrupt):
        HeadTraining(Interrupting(**vars(train)), val, args, tmp_path / "killed").run(quiet=True)
    assert len(read_metrics(tmp_path / "killed" / "metrics.jsonl")) in range(4, 10)
    torch.manual_seed(99)  # another process has another state
    again = HeadTraining(train, val, args, tmp_path / "killed").run(quiet=True)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    lines = [read_metrics(tmp_path / name / "metrics.jsonl") for name in ("whole", "killed")]
    assert lines[0] == lines[1]
    assert [line["epoch"] for line in lines[0]] == list(range(1, 13))


def test_told_to_stop_it_saves_at_the_end_of_the_epoch(tmp_path: Path) -> None:
    train, val = judged(40, 0), judged(20, 1)
    args = replace(SETTINGS, loss="mse", save_epochs=100)
    whole = HeadTraining(train, val, args, tmp_path / "whole").run(quiet=True)
    with pytest.raises(Stopped) as stopped:
        HeadTraining(Interrupting(**vars(train), told=signal.SIGUSR1), val, args, tmp_path / "told").run(quiet=True)
    assert stopped.value.code == 138
    done = read_metrics(tmp_path / "told" / "metrics.jsonl")[-1]["epoch"]
    assert 4 <= done < 12
    assert (tmp_path / "told" / f"checkpoint-{done}").is_dir()
    again = HeadTraining(train, val, args, tmp_path / "told").run(quiet=True)
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in whole.state_dict().items())


def test_patience_stops_and_the_best_weights_stay() -> None:
    train, val = judged(40, 0), judged(20, 1)
    training = HeadTraining(train, val, replace(SETTINGS, loss="mse", epochs=60, patience=3))
    training.run(quiet=True)
    assert training.state.epoch == training.state.best_epoch + 3 < 60
    assert training.evaluate()["spearman"] == pytest.approx(training.state.best_value)


def test_steps_of_an_epoch_are_a_budget() -> None:
    training = HeadTraining(judged(40, 0), judged(20, 1), replace(SETTINGS, steps_per_epoch=3, epochs=2, rounds=1))
    training.run(quiet=True)
    assert training.state.step == 6


def test_learning_rate_falls_by_a_cosine() -> None:
    assert cosine(0, 100) == 1
    assert cosine(50, 100) == pytest.approx(0.50005)
    assert cosine(100, 100) == cosine(500, 100) == pytest.approx(1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "mae_cos"}, "loss is 'mae_cos'; it must be one of hinge"),
        ({"hidden": [8, 8]}, "dropout is .*one rate below 1 for each of the 2 hidden layers"),
        ({"split": [0.9, 0.2, 0.1]}, "shares that sum to at most 1"),
        ({"loss": "mse", "curve": [1, 2]}, "one on pairs"),
        ({"rounds": 13}, "rounds is 13; it must be at most the 12 epochs"),
        ({"picture_features": "x", "picture_pooling": "pooler"}, "mean or first with picture_features"),
    ],
)
def test_what_is_wrong_in_a_recipe_is_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SETTINGS, **changes)


def test_a_clip_is_the_mean_of_its_frames(tmp_path: Path) -> None:
    picture_path, _ = tiny_encoders(tmp_path)
    encoder = PictureEncoder.from_pretrained(picture_path)
    for number, picture in enumerate(pictures(3)):
        picture.save(tmp_path / f"{number}.png")
    paths = [str(tmp_path / f"{number}.png") for number in range(3)]
    rated = [JudgedCaption("clip", tuple(paths), "a", (1.0,)), JudgedCaption("one", (paths[0],), "b", (2.0,))]
    how = {"grids": None, "batch_size": 2, "max_bad_images": 0.0}
    store = picture_store(encoder, rated, tmp_path / "clips", **how)
    vectors = vectors_of(Judgments(rated), store, "mean", {"a": torch.zeros(2), "b": torch.ones(2)})
    frames = encoder(encoder.preprocess(pictures(3)))
    torch.testing.assert_close(vectors.pictures[0], frames.mean(0), atol=2e-3, rtol=2e-3)  # kept in half precision
    torch.testing.assert_close(vectors.pictures[1], frames[0], atol=2e-3, rtol=2e-3)
    alone = picture_store(encoder, rated[1:], tmp_path / "pictures", **how)
    assert alone.header["frames"] == 1
    assert store.header["frames"] == 3


def test_a_folder_of_another_pooling_is_refused(tmp_path: Path) -> None:
    picture_path, _ = tiny_encoders(tmp_path, "vit")
    pictures(1)[0].save(tmp_path / "0.png")
    rated = [JudgedCaption("0", (str(tmp_path / "0.png"),), "a", (1.0,))]
    how = {"grids": None, "batch_size": 1, "max_bad_images": 0.0}
    picture_store(PictureEncoder.from_pretrained(picture_path, "mean"), rated, tmp_path / "vectors", **how)
    with pytest.raises(ValueError, match="pooling: stored mean, now first"):
        picture_store(PictureEncoder.from_pretrained(picture_path, "first"), rated, tmp_path / "vectors", **how)


def test_one_pair_is_enough_to_train_on() -> None:
    train, val = judged(1, seed=0, preferences=True), judged(5, seed=1, preferences=True)
    assert len(train.preferences) == 1
    training = HeadTraining(train, val, replace(SETTINGS, pairs="given", rounds=1, epochs=3))
    training.run(quiet=True)
    assert training.state.step == 3
