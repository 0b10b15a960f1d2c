"""An SCST run that reports to W&B, read back from its offline files: scalars and the table of samples."""

from pathlib import Path

import pytest
import wandb_reader
from small import picture_dataset
from test_scst import K, scst_trainer
from tiny import favour_end, tiny_encoder_decoder

import rewards
from rlcap.tracking.run_directory import read_metrics
from rlcap.training.run import trackers

pytest.importorskip("wandb", reason="W&B is optional: pip install 'rlcap[wandb]'")

SCALARS = {
    *("loss", "grad_norm", "learning_rate", "reward", "reward_std", "rewards/cider-d/mean", "rewards/cider-d/std"),
    *("completions/mean_length", "completions/clipped_ratio", "entropy", "kl", "frac_reward_zero_std"),
    *("repetition/rep_1", "repetition/rep_2", "repetition/rep_4"),
    *("grammar/bad_ending_rate", "grammar/repeated_word_rate"),
    *("time/encode", "time/sample", "time/reward", "time/update"),
}


@pytest.mark.parametrize("baseline", ["greedy", "leave_one_out"])
def test_scalars_and_a_growing_table(baseline: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_RUN_ID", "WANDB_PROJECT", "WANDB_DIR", "WANDB_RESUME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))
    captioner = tiny_encoder_decoder()
    favour_end(captioner)
    dataset = picture_dataset(tmp_path, 6)
    corpus = {row["image_id"]: row["references"] for row in dataset}
    run_dir = tmp_path / "run"
    options = {"baseline": baseline, "kl_beta": 0.1, "max_steps": 4, "samples_logged": 2, "report_to": "wandb"}
    logging = {"logging_strategy": "steps", "logging_steps": 2, "eval_strategy": "steps", "eval_steps": 4}
    reward = rewards.load("cider-d", corpus=corpus)
    trainer = scst_trainer(captioner, dataset, run_dir, reward, val=dataset, **options, **logging)
    for callback in trackers(trainer.args):
        trainer.add_callback(callback)
    trainer.train()

    (folder,) = run_dir.glob("wandb/offline-run-*")
    history = wandb_reader.history(folder)
    trained = [row for row in history if "reward" in row]
    assert [row["train/global_step"] for row in trained] == [2, 4]
    assert trained[0].keys() >= SCALARS
    written = [line for line in read_metrics(run_dir / "metrics.jsonl") if "reward" in line]
    for logged, line in zip(trained, written, strict=True):
        assert {name: logged[name] for name in SCALARS} == {name: line[name] for name in SCALARS}
    (evaluated,) = [row for row in history if "eval/cider" in row]
    assert {"eval/bleu_4", "eval/rep_2_count", "eval/repeated_word_rate", "time/evaluate"} <= evaluated.keys()

    columns, rows = wandb_reader.table(folder, "completions")
    assert [row[0] for row in rows] == [2] * 2 * K + [4] * 2 * K
    for values in rows:
        row = dict(zip(columns, values, strict=True))
        assert row["split"] == "train"
        assert row["image"] == "Image"
        assert row["reward"] == row["rewards/cider-d"]
        assert row["references"] == "\n".join(corpus[row["image_id"]])
        assert isinstance(row["greedy"], str)
        (own,) = reward(
            [row["caption"]], references=[corpus[row["image_id"]]], image_id=[row["image_id"]], finished=[0]
        )
        (finished,) = reward(
            [row["caption"]], references=[corpus[row["image_id"]]], image_id=[row["image_id"]], finished=[1]
        )
        assert row["reward"] == pytest.approx(own, abs=1e-6) or row["reward"] == pytest.approx(finished, abs=1e-6)
    by_picture = {(row[0], row[2]): [] for row in rows}
    for row in rows:
        named = dict(zip(columns, row, strict=True))
        by_picture[named["step"], named["image_id"]].append(named["reward"] - named["advantage"])
    for baselines in by_picture.values():  # the greedy caption's reward, the same for all samples of a picture
        assert len(baselines) == K
        assert baselines == pytest.approx([baselines[0]] * K, abs=1e-6)
