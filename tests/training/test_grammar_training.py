"""`rlcap reward grammar`: it learns, resumes, and says what it cannot use."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

import rewards
from rlcap.cli import main
from rlcap.data.corruptions import CORRUPTIONS
from rlcap.training.grammar import REAL, Corpus, EveryKind, Pairs

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "rewards"))

import text_encoders


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = random.Random(0)
    one = "A {} {} {} is on the {} of the {} {}."
    words = [["small", "large"], ["red", "blue", "green"], ["circle", "square", "star"], ["left", "right"]]
    words += words[1:3]
    path = tmp_path_factory.mktemp("data") / "captions.jsonl"
    with path.open("w") as file:
        for number in range(300):
            split = ("train", "train", "train", "train", "val", "test")[number % 6]
            caption = one.format(*map(rng.choice, words))
            file.write(json.dumps({"image": f"{number}.png", "captions": [caption], "split": split}) + "\n")
    return path


def run(data: Path, encoder: Path, output: Path, *more: str) -> None:
    main(
        [
            *("reward", "grammar", "--data", str(data), "--encoder", str(encoder), "--output_dir", str(output)),
            *("--per_device_train_batch_size", "32", "--per_device_eval_batch_size", "64", "--learning_rate", "0.01"),
            *("--use_cpu", "true", "--report_to", "none", "--disable_tqdm", "true", "--width", "32", *more),
        ]
    )


def test_it_learns_what_a_caption_is(data: Path, tmp_path: Path) -> None:
    encoder = text_encoders.bert(tmp_path / "bert")
    run(data, encoder, tmp_path / "run", "--train_encoder", "true", "--negatives", "16", "--learning_rate", "0.002")
    accuracy = json.loads((tmp_path / "run" / "accuracy.json").read_text())
    assert set(accuracy) == {f"test_accuracy{kind}" for kind in ("", "_real", *(f"_{kind}" for kind in CORRUPTIONS))}
    assert accuracy["test_accuracy"] > 85
    reward = rewards.load("grammar", path=tmp_path / "run" / "final")
    good, bad = reward(["a small red star is on the left of the blue circle", "a a small is star is on left the left"])
    assert good > 0.5 > bad


def test_a_stopped_run_goes_on_to_the_same_weights(data: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    encoder = text_encoders.bert(tmp_path / "bert")
    constant = ("--negatives", "1", "--lr_scheduler_type", "constant", "--max_eval_captions", "10")
    run(data, encoder, tmp_path / "whole", "--num_train_epochs", "2", *constant)
    run(data, encoder, tmp_path / "parts", "--num_train_epochs", "1", *constant)
    run(data, encoder, tmp_path / "parts", "--num_train_epochs", "2", *constant)
    whole, parts = (load_file(tmp_path / name / "checkpoint-14" / "trained.safetensors") for name in ("whole", "parts"))
    assert list(whole) == ["head.0.weight", "head.2.weight"]
    assert all((whole[name] == parts[name]).all() for name in whole)


def test_a_run_that_has_ended_is_left_as_it_is(data: Path, tmp_path: Path) -> None:
    encoder = text_encoders.bert(tmp_path / "bert")
    # The last step is not an epoch's end, and the learning rate has not come down to 0.
    options = ("--max_steps", "3", "--logging_steps", "1", "--lr_scheduler_type", "constant")
    options += ("--negatives", "1", "--max_eval_captions", "10")
    for evaluation in ("no", "epoch"):
        output = tmp_path / evaluation
        more = ("--eval_strategy", evaluation, "--save_strategy", "steps", "--save_steps", "3")
        run(data, encoder, output, *options, *more)
        kept = [output / "final" / "grammar_head.safetensors", output / "metrics.jsonl"]
        before = [path.read_bytes() for path in kept]
        run(data, encoder, output, *options, *more)
        assert [path.name for path in output.glob("checkpoint-*")] == ["checkpoint-3"]
        assert [path.read_bytes() for path in kept] == before


LATE = """
import os, sys, time
from pathlib import Path
from rlcap.cli import main
from rlcap.training.reward_trainer import RewardTrainer

save = RewardTrainer._save_rng_state

def late(self, directory):
    last = time.monotonic() + 3
    while os.environ["RANK"] == "1" and time.monotonic() < last and not Path(directory, "complete.json").exists():
        time.sleep(0.05)
    save(self, directory)

RewardTrainer._save_rng_state = late
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_a_checkpoint_is_complete_once_every_process_has_written(data: Path, tmp_path: Path) -> None:
    """The second process writes its state late: after the first one has marked the checkpoint, if that can be."""
    encoder, output = text_encoders.bert(tmp_path / "bert"), tmp_path / "run"
    (tmp_path / "late.py").write_text(LATE)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(tmp_path / "late.py")]
    keys = {"data": data, "encoder": encoder, "output_dir": output, "max_steps": 1, "use_cpu": "true"}
    keys |= {"report_to": "none", "disable_tqdm": "true", "eval_strategy": "no", "width": 8}
    keys |= {"save_strategy": "steps", "save_steps": 1, "max_eval_captions": 2}
    done = subprocess.run(
        [sys.executable, *launcher, "reward", "grammar", *(str(t) for k, v in keys.items() for t in (f"--{k}", v))],
        env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    marked = json.loads((output / "checkpoint-1" / "complete.json").read_text())["sha256"]
    assert {"rng_state_0.pth", "rng_state_1.pth"} <= set(marked)


def test_pairs_are_a_function_of_the_seed_and_the_index() -> None:
    corpus = Corpus.of(["A red circle.", "a blue star on the left", "Star", "the circle a red"])
    assert corpus.captions == ("a red circle", "a blue star on the left", "the circle a red")
    pairs = Pairs(corpus, negatives=50, seed=1)
    assert len(pairs) == 150
    assert [pairs[i] for i in range(150)] == [Pairs(corpus, 50, 1)[i] for i in range(150)]
    assert pairs[0] != Pairs(corpus, 50, 2)[0] or pairs[3] != Pairs(corpus, 50, 2)[3]
    for i in range(150):
        (real, label), (broken, kind) = pairs[i]
        assert label == REAL
        assert kind in range(5)
        assert real in corpus.real
        assert broken not in corpus.real
    every = EveryKind(corpus, limit=2, seed=0)
    assert [kind for ((_, kind),) in map(every.__getitem__, range(len(every)))] == [REAL, REAL, *range(5), *range(5)]


def test_what_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="none of 2 captions has two different words"):
        Corpus.of(["dog", "a a"])
    with pytest.raises(ValueError, match="/nowhere could not be loaded as a text encoder"):
        run(data, Path("/nowhere"), tmp_path, "--debug")
    with pytest.raises(ValueError, match="negatives is 0; it must be 1 or more"):
        run(data, Path("/nowhere"), tmp_path, "--negatives", "0", "--debug")
    with pytest.raises(ValueError, match=r"no reward 'gramar' to train \(did you mean 'grammar'\?\); there are pac"):
        main(["reward", "gramar", "--debug"])
