"""The machine: system, cores, memory, disks, and the accelerators that torch sees."""

import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path

from rlcap.doctor.item import LACKING, WRONG, Item, shown

GIB = 2**30
LITTLE_DISK = 2 * GIB  # a checkpoint of a captioner of base size, with its optimiser, takes more


def system() -> list[Item]:
    """Operating system, Python, cores, memory, and the room in the folders that are written to."""
    return [
        Item("system", f"{platform.system()} {platform.release()}, {platform.machine()}"),
        Item("Python", f"{platform.python_version()} ({platform.python_implementation()})"),
        Item("CPU cores", _cores()),
        *_memory(),
        *_disks(),
    ]


def accelerators() -> list[Item]:
    """torch's build, and for each accelerator its memory and a product that is computed on it."""
    import torch

    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA in this build"
    if torch.version.hip:
        build = f"ROCm {torch.version.hip}"
    items = [Item("torch", f"{torch.__version__}, {build}, {torch.get_num_threads()} threads")]
    if not torch.accelerator.is_available():
        return [*items, Item("accelerator", "none: training runs on the CPU", LACKING)]
    kind = torch.accelerator.current_accelerator()
    assert kind is not None
    for index in range(torch.accelerator.device_count()):
        items.append(_accelerator(kind.type, index))
    if kind.type == "cuda":
        items.append(Item("bf16", "yes" if torch.cuda.is_bf16_supported(including_emulation=False) else "no: use fp16"))
        nccl = torch.distributed.is_available() and torch.distributed.is_nccl_available()
        number = ".".join(map(str, torch.cuda.nccl.version())) if nccl else "not in this build: one GPU only"
        items.append(Item("NCCL", number))
    return items


def _accelerator(kind: str, index: int) -> Item:
    import torch

    name = f"{kind}:{index}"
    try:
        ones = torch.ones(64, 64, device=name)
        right = float((ones @ ones).sum()) == 64**3
        if kind != "cuda":
            return Item(name, "computes" if right else "computes wrong numbers", "ok" if right else WRONG)
        free, total = torch.cuda.mem_get_info(index)
        what = f"{torch.cuda.get_device_name(index)}, {total / GIB:.1f} GiB ({free / GIB:.1f} free)"
        return Item(name, what if right else f"{what}: computes wrong numbers", "ok" if right else WRONG)
    except RuntimeError as error:
        return Item(name, f"cannot compute: {str(error).splitlines()[0]}", WRONG)


def _cores() -> str:
    there = os.cpu_count() or 1
    ours = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else there
    return str(there) if ours == there else f"{there}, of which this process may use {ours}"


def _memory() -> list[Item]:
    if sys.platform != "linux":
        pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
        return [Item("memory", f"{pages * size / GIB:.1f} GiB")]
    lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines())
    total, free = (int(lines[name].split()[0]) * 1024 / GIB for name in ("MemTotal", "MemAvailable"))
    limit = Path("/sys/fs/cgroup/memory.max")
    bound = limit.read_text(encoding="utf-8").strip() if limit.is_file() else "max"
    more = "" if bound == "max" else f"; this container may use {int(bound) / GIB:.1f}"
    return [Item("memory", f"{total:.1f} GiB ({free:.1f} free){more}")]


def _disks() -> list[Item]:
    """Room in the working folder and the folders of temporary and cached files; data workers also need /dev/shm."""
    folders = {"working folder": Path.cwd(), "temporary files": Path(tempfile.gettempdir()), "cache": _cache()}
    if Path("/dev/shm").is_dir():
        folders["shared memory"] = Path("/dev/shm")
    return [_disk(name, folder) for name, folder in folders.items()]


def _disk(name: str, folder: Path) -> Item:
    there = next(own for own in (folder, *folder.parents) if own.exists())
    free = shutil.disk_usage(there).free
    where = f"{free / GIB:.1f} GiB free" + ("" if name == "working folder" else f" in {shown(folder)}")
    if not os.access(there, os.W_OK):
        return Item(name, f"{where}, and it cannot be written to", LACKING)
    return Item(name, where, LACKING if free < LITTLE_DISK and name != "shared memory" else "ok")


def _cache() -> Path:
    from huggingface_hub.constants import HF_HOME

    return Path(HF_HOME)
