"""Work on single items by two processes: `Processes.each`, and `rlcap evaluate` upon it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from launched import TORCHRUN, environment, free_port
from PIL import Image

from rlcap.cli import main

EACH = """
import sys
from rlcap.launching import process_group
from rlcap.launching.processes import Processes

def work(items):
    if "bad" in items:
        b"\\xff".decode()  # an error that takes five arguments
    for item in items:
        yield f"{item} by {processes.rank}"

processes = Processes.of_launcher()
with process_group.torn_down():
    said = processes.each(work, list("abcde"))
    try:
        processes.each(work, ["good", "bad"])
    except ValueError as error:
        said.append(str(error))
    said.append(len(processes.each(work, [])))
    print(said, file=open(f"{sys.argv[1]}/{processes.rank}", "w"))
"""
GONE = """
import os
import sys
from rlcap.launching.processes import Processes

processes = Processes.of_launcher()
def work(items):
    if processes.rank == 1:
        os._exit(1)
    return items

try:
    processes.each(work, [1, 2])
except ConnectionError as error:
    open(f"{sys.argv[1]}/told", "w").write(str(error))
    os._exit(3)
"""
DECODING = "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"
SHARED = [*("a by 0", "b by 1", "c by 0", "d by 1", "e by 0"), DECODING, 0]


def test_each_item_is_worked_on_once_and_known_everywhere(tmp_path: Path) -> None:
    (tmp_path / "each.py").write_text(EACH)
    command = [sys.executable, *TORCHRUN, "--standalone", "--nproc-per-node", "2", tmp_path / "each.py", tmp_path]
    subprocess.run(command, env=environment(), check=True, timeout=300)
    assert [(tmp_path / rank).read_text().strip() for rank in "01"] == [str(SHARED)] * 2


def test_a_process_that_is_gone_is_no_error_of_the_work(tmp_path: Path) -> None:
    """RuntimeError is what a grammar checker raises, after which an evaluation goes on."""
    (tmp_path / "gone.py").write_text(GONE)
    places = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    command = [sys.executable, tmp_path / "gone.py", tmp_path]
    started = [subprocess.Popen(command, env=environment(**places, RANK=rank)) for rank in range(2)]
    assert [process.wait(120) for process in started] == [3, 1]
    assert "has ended before the others" in (tmp_path / "told").read_text()


def test_evaluation_is_shared(tmp_path: Path) -> None:
    """Grammar checkers and a dual encoder, by two processes as by one, and the table once."""
    pytest.importorskip("open_clip", reason="the encoder is open_clip's: pip install 'rlcap[clip]'")
    from tiny_clip import random_state, write_open_clip

    captions = {"1": "a dog runs on a", "2": "a red bus", "3": "a a cat sits"}
    for name, colour in zip(captions, ("red", "blue", "green"), strict=True):
        Image.new("RGB", (32, 32), colour).save(tmp_path / f"{name}.png")
    rows = [{"image": f"{name}.png", "references": [text, "a thing"]} for name, text in captions.items()]
    (tmp_path / "r.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "p.json").write_text(json.dumps(captions))
    given = ["evaluate", "--predictions", tmp_path / "p.json", "--references", tmp_path / "r.jsonl", "--no-java"]
    given += ["--retrieval-encoder", write_open_clip(tmp_path / "clip", random_state()), "--images", tmp_path]
    given += ["--per-caption", "--output"]
    main([*map(str, given), str(tmp_path / "alone.json")])
    launcher = [sys.executable, *TORCHRUN, "--standalone", "--nproc-per-node", "2", "-m", "rlcap"]
    command = list(map(str, [*launcher, *given, tmp_path / "shared.json"]))
    done = subprocess.run(command, env=environment(), check=True, timeout=300, capture_output=True, text=True)
    assert done.stdout.count("2 processes share the captions") == 1
    assert done.stdout.count("bad_ending_rate") == 1
    alone, shared = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("alone", "shared"))
    for result in (alone, shared):
        del result["settings"]
    assert shared == alone
    assert alone["bad_ending_rate"] == pytest.approx(100 / 3)
