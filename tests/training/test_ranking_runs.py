"""`rlcap rank-dpo` as a command: killed and gone on with, in two processes, and its captioner ranked by `rank-eval`."""

import json
from pathlib import Path
from typing import Any

import pytest
from commands import rlcap
from test_resume import Chain, assert_same, metrics
from test_two_processes import run

pytestmark = pytest.mark.slow
SETTINGS = {"max_caption_length": 24, "learning_rate": 3e-3, "logging_steps": 2, "per_device_train_batch_size": 3}


def test_a_killed_run_ends_with_the_same_bits(chains: Path, captioner_folder: Path, tmp_path: Path) -> None:
    options = {
        **SETTINGS,
        "max_steps": 6,
        "gradient_accumulation_steps": 2,
        "save_steps": 2,
        "eval_strategy": "steps",
        "eval_steps": 3,
        "reference": "stored",
        "xe_weight": 0.1,
    }
    killed = Chain("rank-dpo", options, chains, captioner_folder, tmp_path)
    killed.run_whole()
    assert [line["step"] for line in metrics(killed.whole)] == [2, 3, 4, 6, 6]
    killed.kill("open", r"\.png", 12)  # while the reference is computed
    killed.kill("os.rename", r"/checkpoint-2 ")
    assert not killed.checkpoints()
    killed.kill("open", r"eval-000003\.json")
    assert "going on from" in killed.finish().out
    assert_same(killed.killed, killed.whole)
    stored = [sorted((folder / "reference").rglob("*.bin")) for folder in (killed.whole, killed.killed)]
    assert [len(files) for files in stored] == [2, 2]  # of the training chains, and of those held out


@pytest.mark.parametrize("reference", ["frozen_copy", "stored", "adapters_off"])
def test_two_processes_equal_one(reference: str, chains: Path, captioner_folder: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {**SETTINGS, "max_steps": 4, "eval_strategy": "steps", "eval_steps": 4, "xe_weight": 0.1}
    options |= {"reference": reference, "save_strategy": "no", "logging_steps": 1}
    if reference == "adapters_off":
        options |= {"freeze": "vision", "lora_parts": "decoder"}
    run(1, "rank-dpo", chains, captioner_folder, tmp_path / "one", **{**options, "per_device_train_batch_size": 6})
    said = run(2, "rank-dpo", chains, captioner_folder, tmp_path / "two", **options, disable_tqdm=False)
    assert said.count("checking chains:   0%") == 2  # those to train on and those held out, on the first rank
    one, two = metrics(tmp_path / "one"), metrics(tmp_path / "two")
    assert len(one) == len(two) == 5
    for alone, shared in zip(one, two, strict=True):
        assert shared == pytest.approx(alone, rel=2e-3, abs=1e-4)


def test_rank_eval_shows_the_controls(chains: Path, captioner_folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "ranked.json"
    given = ["--captioner", captioner_folder, "--reference", captioner_folder, "--data", chains, "--split", "train"]
    done = rlcap(["rank-eval", *given, "--output", output, "--per-chain"], tmp_path)
    assert done.code == 0, done.err
    result = json.loads(output.read_text())
    assert set(result["controls"]) == {"true", "shuffled", "blank"}
    assert result["chains"] == len(result["per_chain"]) == 24
    assert all(own["pair_accuracy"] == 0.0 for own in result["controls"].values())  # it is its own reference: no order

    alone = ["--captioner", captioner_folder, "--data", chains, "--split", "train", "--output", output, "--per-chain"]
    assert rlcap(["rank-eval", *alone], tmp_path).code == 0
    result = json.loads(output.read_text())
    chain = result["per_chain"][0]
    assert len({tuple(chain[control]) for control in ("true", "shuffled", "blank")}) == 3
    assert {"adjacent_accuracy/object", "kendall_tau"} <= set(result["controls"]["true"])
    assert "shuffled: every chain with another chain's picture" in rlcap(["rank-eval", *alone], tmp_path).out


@pytest.mark.parametrize("command", ["rank-dpo", "xe", "scst"])
def test_rewards_measure_the_captions_of_an_evaluation(
    command: str, chains: Path, scenes: Path, captioner_folder: Path, tmp_path: Path
) -> None:
    given = ["--captioner", captioner_folder, "--data", chains if command == "rank-dpo" else scenes]
    given += ["--output_dir", tmp_path / "run", "--use_cpu", "true", "--max_steps", 1, "--save_strategy", "no"]
    given += ["--max_caption_length", 24, "--eval_max_new_tokens", 8, "--eval_strategy", "steps", "--eval_steps", 1]
    given += ["--eval_rewards", "cider-d", "repetition", "--eval_reward_options", '{"repetition": {"n": 2}}']
    done = rlcap([command, *given, "--metric_for_best_model", "rewards/cider-d"], tmp_path)
    assert done.code == 0, done.err
    measured = metrics(tmp_path / "run")[-1]
    assert {"eval/rewards/cider-d", "eval/rewards/repetition", "eval/cider"} <= set(measured)
    settings = json.loads((tmp_path / "run" / "run.json").read_text())["settings"]
    assert [own["name"] for own in settings["evaluated_by"]] == ["cider-d", "repetition"]
    assert (tmp_path / "run" / "best").is_dir()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([{"captions": ["a"]}], "a chain is two captions or more"),
        ([{"captions": ["a", "a"]}], "captions 1 and 2 are the same"),
        ([{"captions": ["a", " "]}], "caption 2 of the chain is empty"),
    ],
)
def test_what_is_wrong_in_a_chain_is_named(
    lines: list[dict], message: str, scenes: Path, captioner_folder: Path, tmp_path: Path
) -> None:
    data = tmp_path / "chains.jsonl"
    image = {"image_id": "x", "image": str(next((scenes.parent / "images").iterdir())), "split": "train"}
    data.write_text("".join(json.dumps({**image, **line}) + "\n" for line in lines))
    given = ["--data", data, "--captioner", captioner_folder, "--output_dir", tmp_path / "run", "--use_cpu", "true"]
    done = rlcap(["rank-dpo", *given], tmp_path)
    assert done.code == 2
    assert message in done.err
    assert f"{data}: line 1" in done.err
