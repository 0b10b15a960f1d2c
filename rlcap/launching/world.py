"""The world that was asked for is the world that runs: a launcher that started fewer processes is an error at start.

A launcher says in the environment what it was asked for, and torch.distributed reads there what runs:

    torchrun            RANK, LOCAL_RANK, WORLD_SIZE (what runs), GROUP_WORLD_SIZE (the launchers that found each other)
    accelerate launch   as torchrun; where it starts one process alone it sets MASTER_ADDR only if it was asked for more
                        (accelerate 1.15, utils/launch.py, prepare_simple_launcher_cmd_env)
    srun                SLURM_STEP_NUM_TASKS, whatever the tasks do with it
    sbatch              ENVIRONMENT=BATCH, SLURM_NTASKS and SLURM_JOB_NUM_NODES, in the script itself, where no srun is
    mpirun              OMPI_COMM_WORLD_SIZE, PMI_SIZE or MV2_COMM_WORLD_SIZE
"""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from transformers import TrainingArguments

TRAINING = ("xe", "scst", "rank-dpo", "reward")
MEETING = (*TRAINING, "evaluate")  # in a process group; the others that share work do so by RANK, and meet in files
SHARING = (*MEETING, "features", "caption", "score", "chains", "positives")
DIAGNOSIS = "doctor"  # says what is wrong with a world, and so must not be refused in it
OWN_WORLD = "RLCAP_OWN_WORLD"
_MPI = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")
_SHARDED = {"ACCELERATE_USE_FSDP": "FSDP", "ACCELERATE_USE_DEEPSPEED": "DeepSpeed"}
_ALONE = f"If this is meant to be a run of its own, set {OWN_WORLD}=1."


def size() -> int:
    """How many processes run together, as torch.distributed reads it: WORLD_SIZE, or 1. A world of one's own is 1."""
    return 1 if _own_world(os.environ) else _number(os.environ, "WORLD_SIZE") or 1


def rank() -> int:
    """Which of them this one is: RANK, or 0 where there is only one."""
    return (_number(os.environ, "RANK") or 0) if size() > 1 else 0


def device(given: str | None) -> "torch.device":
    """The device that was given, or a GPU for each process of a machine, or the CPU where there is none."""
    import torch

    if given is not None:
        return torch.device(given)
    if not torch.cuda.is_available():
        return torch.device("cpu")
    local = _number(os.environ, "LOCAL_RANK")
    # srun may show each of its tasks one GPU, which is then number 0 to all of them.
    return torch.device("cuda", (rank() if local is None else local) % torch.cuda.device_count())


def enter(command: str) -> None:
    """Raises ValueError where the environment asks for more processes than run, or than the command can use.

    Several on a CPU are told so. Without a launcher nothing happens, and nothing is imported.
    """
    if command == DIAGNOSIS:
        return
    wrong = missing(command, os.environ)
    if wrong is not None:
        raise ValueError(wrong)
    if command not in SHARING:
        alone(command)
    sharded = [name for key, name in _SHARDED.items() if os.environ.get(key, "").lower() == "true"]
    if size() == 1 and not sharded:
        return
    import torch

    if torch.accelerator.is_available():
        return
    if sharded:
        raise ValueError(
            f"accelerate was asked for {sharded[0]}, which it leaves out where there is no GPU, and here is none: use "
            "torchrun, which trains with DDP on CPUs"
        )
    os.environ.setdefault("ACCELERATE_USE_CPU", "true")  # or each rank would believe that it is the only one


def missing(command: str, environment: Mapping[str, str]) -> str | None:
    """What was asked for, what runs and how to mend it, where fewer processes run than were asked for; else None."""
    if _own_world(environment):
        return None
    runs = _number(environment, "WORLD_SIZE")
    if runs is not None and runs > 1:
        needed = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if command in MEETING else ("RANK",)
        unset = [name for name in needed if name not in environment]
        if unset:
            return (
                f"WORLD_SIZE is {runs}, and {', '.join(unset)} must be set too, or this process would run alone: "
                "start it by torchrun, which sets them."
            )
    if runs is None and {"ACCELERATE_MIXED_PRECISION", "MASTER_ADDR"} <= environment.keys():
        return (
            "accelerate launch was asked for several processes or machines, and started this one alone: so it does "
            "for --cpu, for MULTI_CPU, and where it sees one GPU. On CPUs use `torchrun --nproc-per-node N -m rlcap "
            "...`; on several machines add --multi_gpu. For one process ask for --num_processes 1 and unset "
            f"MASTER_ADDR. {_ALONE}"
        )
    return _missing_of_slurm(command, environment, runs or 1) or _missing_of_mpi(environment, runs or 1)


def _missing_of_slurm(command: str, environment: Mapping[str, str], runs: int) -> str | None:
    launchers = _number(environment, "GROUP_WORLD_SIZE")
    tasks = _number(environment, "SLURM_STEP_NUM_TASKS")
    if tasks is not None:  # inside srun; an interactive shell is one task of its own
        if runs < tasks:
            return (
                f"srun started {tasks} tasks, and {'each is' if runs == 1 else 'they are in'} a world of {runs}: they "
                "would all write the same files. Start one torchrun a node (launch/slurm.sh), or set RANK, LOCAL_RANK, "
                f"WORLD_SIZE, MASTER_ADDR and MASTER_PORT for each task. {_ALONE}"
            )
        if launchers is not None and launchers < tasks:
            return (
                f"srun started {tasks} launchers, and {launchers} found each other ({runs} processes): give each the "
                f"same --nnodes {tasks} and --rdzv-endpoint (or --master-addr), as launch/slurm.sh does. {_ALONE}"
            )
        return None
    # The batch script itself. Work that is done beside a training (`rlcap report`) may well run there alone.
    if environment.get("ENVIRONMENT") != "BATCH" or "SLURM_JOB_ID" not in environment or command not in TRAINING:
        return None
    asked, nodes = _number(environment, "SLURM_NTASKS") or 1, _number(environment, "SLURM_JOB_NUM_NODES") or 1
    if runs < asked or (launchers or runs) < nodes:
        return (
            f"the batch job has {asked} task(s) on {nodes} node(s), and {runs} process(es) run, on this node alone: "
            f"without srun nothing starts the others. Use launch/slurm.sh, or ask for --nodes=1 --ntasks=1. {_ALONE}"
        )
    return None


def _missing_of_mpi(environment: Mapping[str, str], runs: int) -> str | None:
    for name in _MPI:
        asked = _number(environment, name)
        if asked is not None and asked > runs:
            return (
                f"{name} says that MPI started {asked} processes, and torch.distributed would see {runs}: use "
                f"torchrun, or set RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT for each process. {_ALONE}"
            )
    return None


def alone(command: str) -> None:
    """Raises ValueError where several processes run a command that cannot share its work."""
    if size() > 1:
        raise ValueError(
            f"rlcap {command} runs in one process, and WORLD_SIZE is {size()}: start it without a launcher. {_ALONE}"
        )


def settle(args: "TrainingArguments") -> None:
    """Raises ValueError where Trainer's world is not the one that was started; one process uses one GPU.

    Trainer by itself would split a batch over all GPUs that it sees (nn.DataParallel), which no captioner here knows.
    """
    started = size()
    if args.world_size != started:
        raise ValueError(
            f"WORLD_SIZE is {started}, and Trainer sees {args.world_size} process(es) on {args.device}: "
            "with use_cpu it needs gloo, without it a GPU for each process"
        )
    if args.n_gpu > 1:
        from rlcap.console import say

        say(f"rlcap: one process uses one of the {args.n_gpu} GPUs; torchrun and accelerate use them all")
        args._n_gpu = 1


def _own_world(environment: Mapping[str, str]) -> bool:
    return environment.get(OWN_WORLD, "0") not in ("", "0")


def _number(environment: Mapping[str, str], name: str) -> int | None:
    value = environment.get(name, "")
    return int(value) if value.isdigit() else None
