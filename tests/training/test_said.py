"""What `rlcap xe` says while it trains, and that `--quiet` leaves nothing of it."""

import re
from pathlib import Path

import pytest
from small import picture_dataset
from test_bad_input import row, write_rows
from tiny import tiny_encoder_decoder

from rlcap.cli import main
from rlcap.tracking.evaluated_pictures import pictures_file, read_pictures

pytest.importorskip("pycocoevalcap", reason="evaluation needs pycocoevalcap: pip install 'rlcap[coco]'")


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("said")
    tiny_encoder_decoder().save_pretrained(folder / "tiny")
    picture_dataset(folder, 6)
    captions = write_rows(folder, [row(i, "val" if i > 3 else "train") for i in range(6)])
    options = {
        **{"captioner": folder / "tiny", "data": captions, "use_cpu": True, "max_caption_length": 24},
        **{"max_steps": 4, "logging_steps": 2, "eval_strategy": "steps", "eval_steps": 2, "save_strategy": "no"},
        **{"per_device_train_batch_size": 2, "eval_max_new_tokens": 5, "eval_num_beams": 1},
    }
    return [str(text) for key, value in options.items() for text in (f"--{key}", value)]


def test_readable_lines_a_bar_and_tables(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["xe", *arguments, "--output_dir", str(tmp_path / "run")])
    out, err = capsys.readouterr()
    assert re.search(r"^step 2/4  loss \d+\.\d+ .* s/step  \d+:\d\d left$", out, re.MULTILINE)
    assert [f"validation at step {step}" in out for step in (2, 4)] == [True, True]
    assert re.search(r"^ cider +│.*│.*│.*│", out, re.MULTILINE)
    assert "4 steps in 0:" in out
    assert "{'" not in out + err  # transformers' dicts
    assert re.search(r"training:.* 4/4 \[.*<.*s/step|training:.* 4/4 \[.*<.*step/s", err)
    pictures = read_pictures(pictures_file(tmp_path / "run"))
    assert list(pictures) == ["p4", "p5"]
    assert all(Path(own.files[0]).is_file() and own.references for own in pictures.values())


def with_options(arguments: list[str], output: Path, **options: object) -> list[str]:
    given = {"output_dir": output, **options}
    return ["xe", *arguments, *(str(text) for key, value in given.items() for text in (f"--{key}", value))]


def test_a_run_that_stops_early_says_so_and_how_to_go_on(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = {"max_steps": 9, "early_stopping_patience": 2, "early_stopping_threshold": 1e9, "save_strategy": "steps"}
    command = with_options(arguments, tmp_path / "run", **chosen, save_steps=2)
    stopped = "rlcap: stopped early at step 6: 2 evaluation(s) without a better cider; the best is step 2. "
    key = "To train on, set early_stopping_patience above 2\n"
    main(command)
    assert stopped + key in capsys.readouterr().out
    main([*command, "--max_steps", "12"])
    out = capsys.readouterr().out
    assert "0 steps in 0:" in out
    assert stopped + key in out
    main([*command, "--early_stopping_patience", "3"])
    out = capsys.readouterr().out
    assert "2 steps in 0:" in out
    assert "stopped early at step 8: 3 evaluation(s)" in out
    main([*command, "--early_stopping_patience", "4"])
    out = capsys.readouterr().out
    assert "1 steps in 0:" in out
    assert "stopped early" not in out
    ended = "rlcap: this run has taken all of its 9 steps; to train on, set a larger max_steps\n"
    assert ended not in out
    main([*command, "--early_stopping_patience", "4"])
    assert ended in capsys.readouterr().out


def test_the_end_names_what_is_there(arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(with_options(arguments, tmp_path / "run"))
    assert capsys.readouterr().out.endswith(f"rlcap: done; see best/ and final/ of {tmp_path / 'run'}\n")
    main(with_options(arguments, tmp_path / "blind", eval_strategy="no", eval_on_start=True, val_split="none"))
    out = capsys.readouterr().out
    assert out.endswith(f"rlcap: done; see final/ of {tmp_path / 'blind'}\n")
    assert "validation" not in out  # nor at the start


def test_quiet(arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["xe", "--quiet", *arguments, "--output_dir", str(tmp_path / "run")])
    assert capsys.readouterr().out == ""
    assert (tmp_path / "run" / "final").is_dir()
    main(["report", str(tmp_path / "run"), "--quiet"])
    assert capsys.readouterr() == ("", "")
    assert (tmp_path / "run" / "report.html").stat().st_size > 30_000
