"""What the environment says: Hugging Face, W&B, the launcher. No key and no token is shown."""

import netrc
import os
from urllib.parse import urlparse

from rlcap.doctor.item import LACKING, WRONG, Item
from rlcap.launching import world

OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
LAUNCHED = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "GROUP_WORLD_SIZE", "SLURM_JOB_ID", "SLURM_NTASKS")
THREADS = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")


def services() -> list[Item]:
    """Hugging Face's offline switches and login, and W&B's mode and login."""
    from huggingface_hub import get_token

    offline = [name for name in OFFLINE if os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE")]
    return [
        Item("Hugging Face", f"offline ({', '.join(offline)})" if offline else "downloads what is not cached"),
        Item("Hugging Face login", "yes" if get_token() else "no: only public models"),
        _wandb(),
    ]


def launcher() -> list[Item]:
    """What a launcher has set, as rlcap reads it."""
    given = [f"{name}={os.environ[name]}" for name in (*LAUNCHED, *THREADS) if name in os.environ]
    wrong = world.missing("xe", os.environ)
    items = [Item("environment", ", ".join(given) or "no launcher")]
    if wrong is not None:
        return [*items, Item("world", wrong, WRONG)]
    return [*items, Item("world", f"{world.size()} process(es)")]


def _wandb() -> Item:
    mode = os.environ.get("WANDB_MODE", "online")
    if mode in ("offline", "disabled", "dryrun"):
        return Item("W&B", f"{mode} (WANDB_MODE)")
    address = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")
    host = urlparse(address).hostname or address
    if os.environ.get("WANDB_API_KEY"):
        return Item("W&B", f"logged in at {host} (WANDB_API_KEY)")
    if _in_netrc(host):
        return Item("W&B", f"logged in at {host} (netrc)")
    return Item("W&B", f"not logged in at {host}: `wandb login`, or runs are kept offline", LACKING)


def _in_netrc(host: str) -> bool:
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
