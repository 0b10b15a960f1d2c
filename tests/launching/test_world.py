"""What the environment asks for and what runs, as the launchers leave it there."""

import os
import subprocess
import sys

import pytest

from rlcap.launching import world

RANKS = {"RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "node1", "MASTER_PORT": "29500"}
TORCHRUN = {**RANKS, "WORLD_SIZE": "8", "GROUP_WORLD_SIZE": "1"}
ACCELERATE = {"ACCELERATE_MIXED_PRECISION": "no"}
BATCH = {"ENVIRONMENT": "BATCH", "SLURM_JOB_ID": "7", "SLURM_PROCID": "0"}
STEP = {**BATCH, "SLURM_STEP_ID": "0"}


@pytest.mark.parametrize(
    "environment",
    [
        {},
        TORCHRUN,
        {**TORCHRUN, **ACCELERATE},
        ACCELERATE,
        {**RANKS, "WORLD_SIZE": "1"},
        # salloc, then a plain command: in the shell that it starts, or in the step of an interactive shell
        {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_JOB_NUM_NODES": "2"},
        {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "1", "SLURM_STEP_ID": "4294967290"},
        # a batch job of one task; torchrun on one node; one torchrun on each of two; a task for each rank
        {**BATCH, "SLURM_NTASKS": "1", "SLURM_JOB_NUM_NODES": "1"},
        {**BATCH, **TORCHRUN, "SLURM_NTASKS": "8", "SLURM_JOB_NUM_NODES": "1"},
        {**STEP, **TORCHRUN, "WORLD_SIZE": "16", "GROUP_WORLD_SIZE": "2", "SLURM_STEP_NUM_TASKS": "2"},
        {**STEP, **RANKS, "WORLD_SIZE": "16", "SLURM_STEP_NUM_TASKS": "16", "SLURM_JOB_NUM_NODES": "2"},
        {**TORCHRUN, "PMI_SIZE": "1"},
        # one of several runs that srun starts side by side
        {**STEP, "SLURM_STEP_NUM_TASKS": "4", "RLCAP_OWN_WORLD": "1"},
    ],
)
def test_worlds_that_are_whole(environment: dict[str, str]) -> None:
    assert world.missing("xe", environment) is None


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({**ACCELERATE, "MASTER_ADDR": "127.0.0.1"}, "accelerate launch was asked for several processes or machines"),
        ({"WORLD_SIZE": "4"}, "WORLD_SIZE is 4, and RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT must be set too"),
        ({**STEP, "SLURM_STEP_NUM_TASKS": "4"}, "srun started 4 tasks, and each is a world of 1"),
        ({**STEP, **TORCHRUN, "SLURM_STEP_NUM_TASKS": "9"}, "srun started 9 tasks, and they are in a world of 8"),
        ({**STEP, **TORCHRUN, "SLURM_STEP_NUM_TASKS": "2"}, "srun started 2 launchers, and 1 found each other"),
        ({**BATCH, "SLURM_NTASKS": "4"}, "the batch job has 4 task(s) on 1 node(s), and 1 process(es) run"),
        ({**BATCH, **TORCHRUN, "SLURM_NTASKS": "2", "SLURM_JOB_NUM_NODES": "2"}, "2 task(s) on 2 node(s), and 8 proc"),
        ({"OMPI_COMM_WORLD_SIZE": "4"}, "OMPI_COMM_WORLD_SIZE says that MPI started 4 processes"),
        ({"PMI_SIZE": "2", **RANKS, "WORLD_SIZE": "1"}, "PMI_SIZE says that MPI started 2 processes"),
    ],
)
def test_worlds_that_are_not(environment: dict[str, str], told: str) -> None:
    assert told in str(world.missing("xe", environment))


def test_other_work_than_training_may_run_beside_it_in_a_batch_script() -> None:
    assert world.missing("report", {**BATCH, "SLURM_NTASKS": "4"}) is None
    assert world.missing("report", {**STEP, "SLURM_STEP_NUM_TASKS": "4"}) is not None
    assert world.missing("score", {"RANK": "1", "WORLD_SIZE": "2"}) is None
    assert "RANK must be set too" in str(world.missing("score", {"WORLD_SIZE": "2"}))


def test_without_a_launcher_nothing_is_imported() -> None:
    code = (
        "import sys; from rlcap.launching import world; world.enter('xe'); "
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_sharding_that_would_be_left_out_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.accelerator.is_available", lambda: False)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ValueError, match="accelerate was asked for FSDP, which it leaves out where there is no GPU"):
        world.enter("xe")


def test_commands_of_one_process_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    world.enter("quickstart")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    for command in ("quickstart", "agreement", "rank-eval", "report"):
        with pytest.raises(ValueError, match=f"rlcap {command} runs in one process, and WORLD_SIZE is 2"):
            world.enter(command)
    monkeypatch.setenv("RLCAP_OWN_WORLD", "1")
    world.enter("report")
    assert (world.rank(), world.size()) == (0, 1)


def launched(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    here = {key: value for key, value in os.environ.items() if not key.startswith("ACCELERATE")}
    return subprocess.run(
        [sys.executable, "-m", *command],
        env={**here, "OMP_NUM_THREADS": "1", **environment},
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )


MACHINE_1 = ("--machine_rank", "1", "--main_process_ip", "127.0.0.1", "--main_process_port", "29511")


@pytest.mark.slow
@pytest.mark.parametrize(
    "asked",
    [
        ("--cpu", "--num_processes", "2"),
        ("--cpu", "--num_processes", "2", "--num_machines", "2", *MACHINE_1),
    ],
)
def test_accelerate_that_silently_starts_one_process(asked: tuple[str, ...]) -> None:
    """Run for real: what accelerate sets in the environment may change with its version."""
    done = launched("accelerate.commands.launch", *asked, "-m", "rlcap", "report", "nowhere")
    assert done.returncode != 0
    assert "rlcap: accelerate launch was asked for several processes or machines, and started this one" in done.stderr


@pytest.mark.slow
def test_accelerate_that_is_asked_for_one_process_starts_it() -> None:
    done = launched("accelerate.commands.launch", "--cpu", "--num_processes", "1", "-m", "rlcap", "report", "nowhere")
    assert "rlcap: nowhere" in done.stderr
    assert "asked for" not in done.stderr
