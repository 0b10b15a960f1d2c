"""Told to stop, a training leaves a checkpoint and a code, and the same command ends like one that nobody stopped."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from commands import Moment
from test_resume import XE, Chain, assert_same, learned, metrics

from rlcap.launching import stopping
from rlcap.launching.stopping import Notice, Stopped

TERM, USR1 = signal.SIGTERM, signal.SIGUSR1
CODES = {TERM: 143, USR1: 138}


def test_codes_are_those_of_a_process_that_the_signal_ends() -> None:
    assert {number: Stopped(number).code for number in CODES} == CODES
    done = subprocess.run(["bash", "-c", f"{sys.executable} -c 'import os; os.kill(os.getpid(), 15)'; exit $?"])
    assert done.returncode == Stopped(TERM).code


def test_the_first_signal_is_noted_and_handlers_are_put_back() -> None:
    before = {number: signal.getsignal(number) for number in CODES}
    with Notice() as notice:
        assert notice.number == 0
        os.kill(os.getpid(), USR1)
        os.kill(os.getpid(), USR1)
        os.kill(os.getpid(), TERM)
        os.kill(os.getpid(), TERM)  # at once: the same notice, come by another way
        assert notice.number == USR1
    assert {number: signal.getsignal(number) for number in CODES} == before


def test_a_second_sigterm_ends_the_process() -> None:
    code = (
        "import os; from rlcap.launching import stopping; stopping.SAME = -1.0\n"
        "with stopping.Notice() as notice:\n"
        "    for number in (10, 10, 15): os.kill(os.getpid(), number)\n"
        "    print(notice.number, flush=True)\n"
        "    os.kill(os.getpid(), 15)\n"
        "    print('still here')\n"
    )
    assert stopping.SAME > 0
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (-TERM, "10\n")


@pytest.mark.slow
def test_xe_at_the_next_step(scenes: Path, captioner_folder: Path, tmp_path: Path) -> None:
    """14 steps, four an epoch; told between two steps, which is noticed at the end of the second one."""
    chain = Chain("xe", XE, scenes, captioner_folder, tmp_path)
    chain.run_whole()
    told = chain.tell(Moment("os.rename", "/checkpoint-3 ", signal=USR1), CODES[USR1])
    assert chain.checkpoints() == {"checkpoint-3", "checkpoint-4"}
    assert "told to stop by SIGUSR1; the checkpoint of step 4 is written" in told.out
    assert "Traceback" not in told.err
    told = chain.tell(Moment("open", r"eval-000005\.json", signal=TERM), CODES[TERM])
    assert f"going on from {chain.killed / 'checkpoint-4'}" in told.out
    assert chain.checkpoints() == {"checkpoint-4", "checkpoint-6"}
    assert not (chain.killed / "final").exists()
    chain.tell(Moment("open", r"metrics\.jsonl a", 3, TERM), CODES[TERM])  # logs of step 8 and 10, evaluation of 10
    assert chain.checkpoints() == {"checkpoint-9", "checkpoint-11"}
    chain.finish()
    assert_same(chain.killed, chain.whole)


@pytest.mark.slow
def test_ctrl_c_says_what_is_left(scenes: Path, captioner_folder: Path, tmp_path: Path) -> None:
    chain = Chain("xe", XE, scenes, captioner_folder, tmp_path)
    anew = "rlcap: interrupted; no checkpoint was written yet, and the same command starts anew\n"
    assert anew in chain.tell(Moment("open", r"metrics\.jsonl a", signal=signal.SIGINT), 130).err
    told = chain.tell(Moment("open", r"metrics\.jsonl a", 2, signal.SIGINT), 130)
    assert f"rlcap: interrupted; the same command goes on from {chain.killed / 'checkpoint-3'}\n" in told.err
    assert f"going on from {chain.killed / 'checkpoint-3'}" in chain.finish().out


@pytest.mark.slow
def test_an_epoch_ends_with_its_evaluation(scenes: Path, captioner_folder: Path, tmp_path: Path) -> None:
    options = {**XE, "eval_strategy": "epoch", "logging_strategy": "epoch"}
    chain = Chain("xe", options, scenes, captioner_folder, tmp_path)
    chain.run_whole()
    chain.tell(Moment("os.rename", "/checkpoint-3 ", signal=TERM), CODES[TERM])  # the fourth step ends an epoch
    assert chain.checkpoints() == {"checkpoint-3", "checkpoint-4"}
    assert [line["step"] for line in metrics(chain.killed) if "eval/cider" in line] == [4]
    chain.finish()
    assert_same(chain.killed, chain.whole)


@pytest.mark.slow
def test_scst_stops_where_all_updates_on_its_samples_are_done(
    scenes: Path, captioner_folder: Path, tmp_path: Path
) -> None:
    options = {"max_steps": 8, "per_device_train_batch_size": 6, "num_samples": 3, "max_new_tokens": 10}
    options |= {"num_iterations": 2, "learning_rate": 3e-3, "save_strategy": "no", "logging_steps": 1}
    chain = Chain("scst", options, scenes, captioner_folder, tmp_path)
    chain.run_whole()
    chain.tell(
        Moment("open", r"metrics\.jsonl a", 2, USR1), CODES[USR1]
    )  # noticed in step 3, whose samples serve step 4
    assert chain.checkpoints() == {"checkpoint-4"}
    chain.finish()
    assert metrics(chain.killed) == metrics(chain.whole)
    assert learned(chain.killed / "final") == learned(chain.whole / "final")


@pytest.mark.slow
def test_rank_dpo_at_the_next_step(chains: Path, captioner_folder: Path, tmp_path: Path) -> None:
    options = {"max_steps": 7, "per_device_train_batch_size": 3, "max_caption_length": 24, "learning_rate": 3e-3}
    options |= {"logging_steps": 1, "save_strategy": "no", "reference": "stored", "xe_weight": 0.1}
    chain = Chain("rank-dpo", options, chains, captioner_folder, tmp_path)
    chain.run_whole()
    told = chain.tell(Moment("open", r"metrics\.jsonl a", 2, TERM), CODES[TERM])
    assert "told to stop by SIGTERM; the checkpoint of step 3 is written" in told.out
    assert chain.checkpoints() == {"checkpoint-3"}
    assert f"going on from {chain.killed / 'checkpoint-3'}" in chain.finish().out
    assert metrics(chain.killed) == metrics(chain.whole)
    assert learned(chain.killed / "final") == learned(chain.whole / "final")
