"""One of the two processes of the doctor's self-test: `torchrun -m rlcap.doctor.rank FOLDER BACKEND`."""

import os
import sys
from pathlib import Path


def main(folder: Path, backend: str) -> None:
    """Meets the other rank, sums a tensor with it, trains a step; leaves a file behind for each stage."""
    rank = os.environ["RANK"]
    (folder / f"pid_{rank}").write_text(str(os.getpid()), encoding="utf-8")
    (folder / f"started_{rank}").touch()
    import torch
    import torch.distributed as dist

    device = "cpu" if backend == "gloo" else f"cuda:{os.environ['LOCAL_RANK']}"
    dist.init_process_group(backend)
    (folder / f"met_{rank}").touch()
    tensor = torch.full((1000,), float(rank) + 1, device=device)
    dist.all_reduce(tensor)
    if not bool((tensor == 3).all()):
        raise RuntimeError(f"1 + 2 is {tensor[0].item()} on {device} by {backend}")
    (folder / f"summed_{rank}").touch()

    from rlcap.cli import main as rlcap

    settings = {"data": folder / "scenes" / "captions.jsonl", "captioner": folder / "captioner", "max_steps": 1}
    settings |= {"output_dir": folder / "run", "per_device_train_batch_size": 2, "report_to": "none"}
    settings |= {"use_cpu": str(backend == "gloo").lower(), "disable_tqdm": "true", "logging_steps": 1}
    rlcap(["xe", *(str(text) for key, value in settings.items() for text in (f"--{key}", value))])
    (folder / f"trained_{rank}").touch()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
