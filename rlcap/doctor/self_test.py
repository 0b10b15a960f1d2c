"""Two processes by torchrun: they meet, sum a tensor, and train one step of a tiny captioner on drawn scenes."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from rlcap.doctor.item import OK, WRONG, Item

SECONDS = 60.0
PATIENCE = 3  # seconds that torchrun gives its ranks to end
STAGES = ("started", "met", "summed", "trained")  # written by rlcap.doctor.rank
SHOWN = 20  # lines of what the processes said
TORCHRUNS_OWN = "torch/distributed/elastic/"
FOREIGN = ("ACCELERATE_", "TORCHELASTIC_", "SLURM_", "OMPI_", "PMI_", "MV2_")  # what another launcher has set
LAUNCHED = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR"}


def self_test(seconds: float = SECONDS) -> Item:
    """Runs it: NCCL on two GPUs where there are two, else gloo on the CPU. Ends its processes after `seconds`."""
    import torch

    gpus = torch.cuda.is_available() and torch.cuda.device_count() >= 2
    where = "2 processes on GPUs, NCCL" if gpus else "2 processes on the CPU, gloo"
    with tempfile.TemporaryDirectory(prefix="rlcap-doctor-") as name:
        folder = Path(name)
        _draw(folder)
        started = time.monotonic()
        code = _launch(folder, "nccl" if gpus else "gloo", seconds)
        took = time.monotonic() - started
        if code == 0 and _reached(folder) == len(STAGES):
            return Item("two processes", f"{where}: met, summed, trained a step ({took:.0f} s)", OK)
        last = STAGES[_reached(folder) - 1] if _reached(folder) else "not started"
        how = f"no end within {seconds:g} s (--seconds gives more)" if code is None else f"exit code {code}"
        return Item("two processes", f"{where}: {how}; the last stage of both: {last}\n{_said(folder)}", WRONG)


def _draw(folder: Path) -> None:
    """The data and the untrained captioner of the step."""
    from rlcap.console import silenced
    from rlcap.data import load_captions
    from rlcap.data.scenes import make_scenes
    from rlcap.quickstart import tiny_captioner

    with silenced():
        captions = make_scenes(folder / "scenes", 8, 1, 1, seed=0, size=64)
        tiny_captioner(load_captions(captions, split="train"), seed=0).save_pretrained(folder / "captioner")


def _launch(folder: Path, backend: str, seconds: float) -> int | None:
    """torchrun's exit code, or None where it had to be ended; what it says goes into `folder/log`."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "rlcap.doctor.rank", str(folder), backend]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN) and name not in LAUNCHED}
    kept |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled"}
    kept["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"] = str(PATIENCE)
    if backend == "gloo":
        kept |= {"ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=kept, stdout=log, stderr=log, start_new_session=True)
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        finally:
            _end(process, folder)


def _end(process: "subprocess.Popen[bytes]", folder: Path) -> None:
    """Ends what still runs. torchrun ends its ranks when it is told to, each of which has a session of its own."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(3 * PATIENCE)
    for group in (process.pid, *_ranks(folder)):
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
    process.wait()


def _ranks(folder: Path) -> list[int]:
    return [int(path.read_text(encoding="utf-8")) for path in folder.glob("pid_*")]


def _reached(folder: Path) -> int:
    """How many stages both ranks have left behind them."""
    return sum(all((folder / f"{stage}_{rank}").exists() for rank in (0, 1)) for stage in STAGES)


def _said(folder: Path) -> str:
    """The last lines of the ranks: what torchrun adds when they have failed is long and says nothing more."""
    lines = (folder / "log").read_text(encoding="utf-8", errors="replace").splitlines()
    summary = next((at for at, line in enumerate(lines) if TORCHRUNS_OWN in line), len(lines))
    return "\n".join(f"    {line}" for line in lines[:summary][-SHOWN:])
