"""Two ranks by every launcher that this machine can run, told to stop by each of the ways that there are."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from launched import ACCELERATE, LAUNCH, TORCHRUN, free_port, start, wait_for_step
from test_resume import learned, metrics

pytestmark = pytest.mark.slow
STEPS = 60


def command(scenes: Path, captioner: Path, output: Path) -> list[Any]:
    """A training of STEPS logged steps; nothing in it says that it runs on a CPU."""
    options = {"data": scenes, "captioner": captioner, "output_dir": output, "max_steps": STEPS, "logging_steps": 1}
    options |= {"per_device_train_batch_size": 3, "save_strategy": "no", "disable_tqdm": True, "learning_rate": 1e-3}
    return ["xe", *(text for key, value in options.items() for text in (f"--{key}", value))]


@pytest.fixture(scope="module")
def whole(scenes: Path, captioner_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of two ranks on one machine, by launch/torchrun.sh."""
    folder = tmp_path_factory.mktemp("whole")
    script = [LAUNCH / "torchrun.sh", *command(scenes, captioner_folder, folder / "run")]
    process = start(script, folder / "log", RANKS=2)
    assert process.wait(300) == 0, (folder / "log").read_text()[-3000:]
    assert "2 process(es)" in (folder / "log").read_text()
    assert "destroy_process_group" not in (folder / "log").read_text()
    assert [line["step"] for line in metrics(folder / "run")] == list(range(1, STEPS + 1))
    return folder / "run"


def assert_same(run: Path, whole: Path) -> None:
    assert metrics(run) == metrics(whole)
    assert learned(run / "final") == learned(whole / "final")


@pytest.mark.parametrize("launcher", ["accelerate", "torchrun.sh"])
def test_two_machines(launcher: str, whole: Path, scenes: Path, captioner_folder: Path, tmp_path: Path) -> None:
    port, run = free_port(), command(scenes, captioner_folder, tmp_path / "run")
    processes = []
    for rank in (0, 1):
        if launcher == "accelerate":
            meeting = ["--machine_rank", rank, "--main_process_ip", "127.0.0.1", "--main_process_port", port]
            machines = [*ACCELERATE, "--multi_gpu", "--num_machines", 2, "--num_processes", 2, *meeting, "-m", "rlcap"]
            processes.append(start([sys.executable, *machines, *run], tmp_path / f"log{rank}"))
        else:
            where = {"NODES": 2, "NODE_RANK": rank, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "RANKS": 1}
            processes.append(start([LAUNCH / "torchrun.sh", *run], tmp_path / f"log{rank}", **where))
    codes = [process.wait(300) for process in processes]
    assert codes == [0, 0], [(tmp_path / f"log{rank}").read_text()[-3000:] for rank in (0, 1)]
    assert "2 process(es)" in (tmp_path / "log0").read_text()
    assert_same(tmp_path / "run", whole)


@pytest.mark.parametrize("way", ["USR1 to the second rank", "TERM to the launcher"])
def test_told_to_stop(way: str, whole: Path, scenes: Path, captioner_folder: Path, tmp_path: Path) -> None:
    run = command(scenes, captioner_folder, tmp_path / "run")
    torchrun = [sys.executable, *TORCHRUN, "--standalone", "--nproc-per-node", 2, "-m", "rlcap", *run]
    process = start(torchrun, tmp_path / "log")
    wait_for_step(tmp_path / "run", 5, process, tmp_path / "log")
    if way.startswith("TERM"):
        process.send_signal(signal.SIGTERM)
    else:
        ranks = subprocess.run(["pgrep", "-P", str(process.pid), "-f", "rlcap"], capture_output=True, check=True)
        os.kill(max(map(int, ranks.stdout.split())), signal.SIGUSR1)
    assert process.wait(120) == 1  # whatever its ranks end with
    said = (tmp_path / "log").read_text()
    number = signal.SIGTERM if way.startswith("TERM") else signal.SIGUSR1
    assert f"told to stop by {number.name}" in said
    (left,) = (tmp_path / "run").glob("checkpoint-*")
    assert 5 <= int(left.name.removeprefix("checkpoint-")) < STEPS
    process = start(torchrun, tmp_path / "log")
    assert process.wait(300) == 0, (tmp_path / "log").read_text()[-3000:]
    assert f"going on from {left}" in (tmp_path / "log").read_text()
    assert_same(tmp_path / "run", whole)


SHIMS = {
    "scontrol": """#!/usr/bin/env bash
case $1 in
    show) printf '127.0.0.1\\n127.0.0.1\\n' ;;
    requeue) echo "requeued $2" ;;
esac
""",
    # Two tasks, as on two nodes; a signal goes to the tasks themselves, not to what they have started, as with SLURM's
    # proctrack/cgroup.
    "srun": """#!/usr/bin/env bash
while [[ $1 == --* ]]; do shift; done
echo "srun: ${SRUN_CPUS_PER_TASK:-1} CPUs a task"
for node in 0 1; do
    SLURM_NODEID=$node SLURM_PROCID=$node SLURM_NNODES=2 SLURM_STEP_NUM_TASKS=2 "$@" &
    tasks+=($!)
done
trap 'kill -USR1 "${tasks[@]}"; again=yes' USR1
highest=0
for task in "${tasks[@]}"; do
    again=yes
    while [[ -n $again ]]; do again=; wait "$task" && code=0 || code=$?; done
    ((code > highest)) && highest=$code
done
exit "$highest"
""",
}


def test_slurm_script(whole: Path, scenes: Path, captioner_folder: Path, tmp_path: Path) -> None:
    """The script itself, with SLURM's two commands played by short ones that run its tasks on this machine."""
    for name, text in SHIMS.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    job = {"SLURM_JOB_ID": free_port() - 20000, "SLURM_JOB_NODELIST": "node[1-2]", "SLURM_NTASKS": 2, "RANKS": 1}
    job |= {"SLURM_JOB_NUM_NODES": 2, "SLURM_SUBMIT_DIR": LAUNCH.parent, "ENVIRONMENT": "BATCH"}
    job |= {"SLURM_CPUS_PER_TASK": 3, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    script = ["bash", LAUNCH / "slurm.sh", *command(scenes, captioner_folder, tmp_path / "run")]
    process = start(script, tmp_path / "log", **job)
    wait_for_step(tmp_path / "run", 5, process, tmp_path / "log")
    process.send_signal(signal.SIGUSR1)
    assert process.wait(120) == 138, (tmp_path / "log").read_text()[-3000:]
    said = (tmp_path / "log").read_text()
    assert "srun: 3 CPUs a task" in said
    assert "told to stop by SIGUSR1" in said
    assert f"requeued {job['SLURM_JOB_ID']}" in said
    (left,) = (tmp_path / "run").glob("checkpoint-*")
    process = start(script, tmp_path / "log", **job)
    assert process.wait(300) == 0, (tmp_path / "log").read_text()[-3000:]
    assert f"going on from {left}" in (tmp_path / "log").read_text()
    assert "requeued" not in (tmp_path / "log").read_text()
    assert_same(tmp_path / "run", whole)
