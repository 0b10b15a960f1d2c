"""Training from a stream of shards: the rows of the stream are those trained on, and a resume goes on where it was."""

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from tiny import CAPTIONS, pictures, tiny_encoder_decoder

from rlcap.cli import main


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A captioner, shards of seven and five pictures to train on (one broken), and one of two to validate with."""
    folder = tmp_path_factory.mktemp("streamed")
    tiny_encoder_decoder().save_pretrained(folder / "captioner")
    drawn = pictures(14)
    for name, numbers in (("train-0", range(7)), ("train-1", range(7, 12)), ("val-0", range(12, 14))):
        with tarfile.open(folder / f"{name}.tar", "w") as tar:
            for n in numbers:
                buffer = io.BytesIO()
                drawn[n].save(buffer, "PNG")
                meta = json.dumps(
                    {"captions": [CAPTIONS[n % len(CAPTIONS)], CAPTIONS[(n + 1) % len(CAPTIONS)]]}
                ).encode()
                for ending, data in (("png", b"broken" if n == 3 else buffer.getvalue()), ("json", meta)):
                    info = tarfile.TarInfo(f"p{n:02d}.{ending}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    return folder


def train(made: Path, output: Path, command: str = "xe", **others: Any) -> None:
    main([command, *arguments(made, output, **others)])


def arguments(made: Path, output: Path, **others: Any) -> list[str]:
    options = {
        "data": made / "train-{0..1}.tar",
        "val_data": made / "val-0.tar",
        "captioner": made / "captioner",
        "output_dir": output,
        "shuffle_buffer": 4,
        "use_cpu": True,
        "disable_tqdm": True,
        "max_caption_length": 24,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "lr_scheduler_type": "constant",
        "learning_rate": 1e-3,
        "max_steps": 5,
        "save_steps": 2,
        "logging_steps": 1,
        "max_bad_images": 0.2,
        **others,
    }
    return [text for key, value in options.items() for text in (f"--{key}", str(value))]


def test_a_resume_ends_with_the_same_bits(made: Path, tmp_path: Path) -> None:
    train(made, tmp_path / "whole")
    train(made, tmp_path / "again", max_steps=2)
    train(made, tmp_path / "again", dataloader_num_workers=1)  # the order does not depend on the workers
    whole, again = (
        json.loads((tmp_path / run / "metrics.jsonl").read_text().splitlines()[-1]) for run in ("whole", "again")
    )
    assert whole["step"] == again["step"] == 5
    assert whole["loss"] == again["loss"]
    weights = [(tmp_path / run / "final/model.safetensors").read_bytes() for run in ("whole", "again")]
    assert weights[0] == weights[1]
    state = json.loads((tmp_path / "again/checkpoint-5/rlcap_state_0.json").read_text())
    assert state["stream"]["position"]["batches"] == 10
    assert state["stream"]["rows_seen"] == 20
    assert [path for path, _ in state["bad_images"]] == [f"{made}/train-0.tar::p03.png"]


NOTING = """
import os

def noted(completions, image_id, **columns):
    with open(os.environ["NOTED"] + os.environ["RANK"], "a") as file:
        file.write(" ".join(dict.fromkeys(image_id)) + " ")
    return [len(text) / 10 for text in completions]
"""


@pytest.mark.slow
def test_two_processes_share_a_stream_and_go_on_with_it(made: Path, tmp_path: Path) -> None:
    (tmp_path / "noting.py").write_text(NOTING)

    def seen(name: str, *steps: int) -> list[list[str]]:
        for max_steps in steps:
            options = {
                **{"rewards": "noting:noted", "num_samples": 2, "max_new_tokens": 6, "gradient_accumulation_steps": 1},
                **{"per_device_train_batch_size": 1, "max_steps": max_steps, "save_steps": 2, "max_bad_images": 0.5},
            }
            launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "rlcap", "scst"]
            done = subprocess.run(
                [sys.executable, *launcher, *arguments(made, tmp_path / name, **options)],
                env={**os.environ, "OMP_NUM_THREADS": "1", "NOTED": str(tmp_path / f"{name}-")},
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=300,
            )
            assert done.returncode == 0, done.stderr[-3000:]
        return [(tmp_path / f"{name}-{rank}").read_text().split() for rank in (0, 1)]

    whole = seen("whole", 5)
    both = [*whole[0], *whole[1]]
    # A shard each: five pictures of one, and five of the other, or four where the broken one was among them.
    assert len(both) == len(set(both)) >= 9
    assert {len({int(name[1:]) < 7 for name in own}) for own in whole} == {1}
    assert seen("again", 2, 5) == whole


def test_scst_counts_its_document_frequencies_on_the_shards(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(
        made,
        tmp_path / "run",
        "scst",
        max_steps=1,
        num_samples=2,
        max_new_tokens=6,
        eval_strategy="steps",
        eval_steps=1,
    )
    assert "reading the captions of 2 shards" in capsys.readouterr().out
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert any("eval/cider" in line for line in lines)
    assert sorted(json.loads(next((tmp_path / "run/captions").glob("*.json")).read_text())) == ["p12", "p13"]


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"max_steps": -1}, "max_steps is -1; it must be set: a stream of shards has no end"),
        ({"data": "captions.json"}, "there is no such captions file"),
        ({"max_train_images": 3}, "max_train_images is 3; it must be left out where shuffle_buffer streams"),
        ({"video_frames": "all"}, "frames of a video are chosen by"),
        ({"max_bad_images": 0}, "1 of 4 pictures cannot be decoded"),
    ],
    ids=str,
)
def test_what_does_not_go(
    others: dict[str, Any], message: str, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        train(made, tmp_path / "run", **{"max_steps": 8, **others})
    assert end.value.code == (1 if others == {"max_bad_images": 0} else 2)  # pictures are met on the way
    err = capsys.readouterr().err
    assert message in err or (others == {"max_bad_images": 0} and "more than the 0 that max_bad_images allows" in err)
