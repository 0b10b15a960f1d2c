"""The files of launch/, read by accelerate itself and by bash."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env
from launched import free_port
from torch.distributed.fsdp.wrap import transformer_auto_wrap_policy

LAUNCH = Path(__file__).resolve().parents[2] / "launch"
TYPES = {
    "one_gpu": DistributedType.NO,
    "ddp": DistributedType.MULTI_GPU,
    "fsdp2": DistributedType.FSDP,
    "deepspeed_zero2": DistributedType.DEEPSPEED,
    "deepspeed_zero3": DistributedType.DEEPSPEED,
}


def launch_arguments(name: str, *more: str):  # type: ignore[no-untyped-def]
    """What `accelerate launch --config_file NAME ... -m rlcap xe` makes of its files and flags."""
    given = ["--config_file", str(LAUNCH / f"{name}.yaml"), *more, "-m", "rlcap", "xe"]
    return _validate_launch_command(launch_command_parser().parse_args(given))[0]


def test_every_file_is_known_to_accelerate() -> None:
    assert {path.stem for path in LAUNCH.glob("*.yaml")} == TYPES.keys()
    for name, kind in TYPES.items():
        assert load_config_from_file(str(LAUNCH / f"{name}.yaml")).distributed_type == kind


@pytest.mark.parametrize("name", sorted(TYPES.keys() - {"one_gpu"}))
def test_how_many_ranks_is_said_on_the_command_line(name: str) -> None:
    with pytest.raises(ValueError, match="manually pass in `--num_processes`"):
        launch_arguments(name)
    assert launch_arguments(name, "--num_processes", "8").num_processes == 8


def test_fsdp2_as_its_plugin_understands_it(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = launch_arguments("fsdp2", "--num_processes", "2")
    for key, value in prepare_multi_gpu_env(arguments).items():
        monkeypatch.setenv(key, value)
    assert os.environ["ACCELERATE_USE_FSDP"] == "true"
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2
    assert plugin.reshard_after_forward is True
    assert plugin.auto_wrap_policy is transformer_auto_wrap_policy
    assert not plugin.cpu_ram_efficient_loading


@pytest.mark.parametrize("stage", ["2", "3"])
def test_deepspeed_takes_from_the_recipe_what_the_recipe_says(stage: str) -> None:
    arguments = launch_arguments(f"deepspeed_zero{stage}", "--num_processes", "2")
    arguments.deepspeed_fields_from_accelerate_config = ""  # as launch_command does
    _, environment = prepare_deepspeed_cmd_env(arguments)
    assert environment["ACCELERATE_USE_DEEPSPEED"] == "true"
    assert environment["ACCELERATE_DEEPSPEED_ZERO_STAGE"] == stage
    assert environment["ACCELERATE_GRADIENT_ACCUMULATION_STEPS"] == "auto"
    assert environment["ACCELERATE_GRADIENT_CLIPPING"] == "auto"
    assert environment["ACCELERATE_MIXED_PRECISION"] == "no"


@pytest.mark.parametrize("name", sorted(TYPES.keys() - {"one_gpu"}))
def test_on_two_machines_each_starts_its_own_ranks(name: str) -> None:
    """Without ssh from one to the other, and without another launcher."""
    port = str(free_port())  # accelerate looks whether it is free
    meeting = ("--machine_rank", "0", "--main_process_ip", "127.0.0.1", "--main_process_port", port)
    arguments = launch_arguments(name, "--num_machines", "2", "--num_processes", "4", *meeting)
    if TYPES[name] == DistributedType.DEEPSPEED:
        arguments.deepspeed_fields_from_accelerate_config = ""  # as launch_command does
        command, _ = prepare_deepspeed_cmd_env(arguments)
        assert command is None  # it would be another launcher's; torchrun has none
    else:
        prepare_multi_gpu_env(arguments)
    assert (arguments.nnodes, arguments.nproc_per_node) == ("2", "2")


@pytest.mark.parametrize("script", sorted(path.name for path in LAUNCH.glob("*.sh")))
def test_scripts_are_bash_and_can_be_started(script: str) -> None:
    subprocess.run(["bash", "-n", str(LAUNCH / script)], check=True)
    assert os.access(LAUNCH / script, os.X_OK)


def test_scripts_name_what_they_miss() -> None:
    started = {"PATH": os.environ["PATH"], "NODES": "2"}
    done = subprocess.run(
        ["bash", str(LAUNCH / "torchrun.sh")], check=False, env=started, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "NODE_RANK: which of the machines is this?" in done.stderr
    del started["NODES"]
    given = {**started, "PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(["bash", str(LAUNCH / "torchrun.sh")], check=False, env=given, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("torchrun.sh: torch sees no GPU on this machine: set RANKS")
    done = subprocess.run(["bash", str(LAUNCH / "node.sh")], check=False, env=started, capture_output=True, text=True)
    assert done.returncode != 0
    assert "this job has no GPUs: set RANKS" in done.stderr
