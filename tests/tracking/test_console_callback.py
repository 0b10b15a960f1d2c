"""What a training says on the terminal: lines with rate and time left, and a table at every evaluation."""

import re
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table
from transformers import TrainerState, TrainingArguments

from rlcap.console import console, progress, say, silenced
from rlcap.tracking.console_callback import compact, duration, evaluation_table, log_line, too_short

EVALUATIONS = {
    0: {"cider": 90.0, "rep_4_count": 0.5, "length": 9.0, "distinct_1": 0.1},
    25: {"cider": 97.25, "rep_4_count": 0.25, "length": 9.0, "distinct_1": 0.2},
    50: {"cider": 95.0, "rep_4_count": 0.75, "length": 9.5, "distinct_1": 0.3},
}


def _shown(table: Table, width: int = 80) -> list[list[str]]:
    own = Console(width=width, record=True, force_terminal=True, file=open("/dev/null", "w"))  # noqa: SIM115
    own.print(table)
    lines = own.export_text().splitlines()
    return [[cell.strip() for cell in re.split("[│┃]", line) if cell.strip()] for line in lines]


def test_a_line_says_where_the_training_is_and_when_it_ends() -> None:
    logs = {
        **{"loss": 2.8037, "reward": 0.71301, "rewards/cider-d/mean": 0.513, "rewards/polite/mean": 0.2, "epoch": 1.5},
        **{"rewards/cider-d/std": 0.1, "completions/mean_length": 11.25, "kl": None, "learning_rate": 5e-6},
    }
    assert log_line(logs, 50, 1000, 0.84) == (
        "step   50/1000  loss 2.804  reward 0.713  cider-d 0.513  polite 0.2  length 11.25  lr 5.0e-06  "
        "0.84 s/step  13:18 left"
    )
    assert "cider-d" not in log_line({"reward": 0.5, "rewards/cider-d/mean": 0.5}, 1, 2, 1.0)  # said already


@pytest.mark.parametrize(
    ("steps", "settings", "notice"),
    [
        (
            20,
            {},
            "a training of 20 steps ends inside its warm-up (warmup_steps 300) and logs no loss (logging_steps 50)",
        ),
        (300, {}, "a training of 300 steps ends inside its warm-up (warmup_steps 300)"),
        (301, {}, None),
        (20, {"warmup_steps": 0.1}, "a training of 20 steps logs no loss (logging_steps 50)"),
        (20, {"lr_scheduler_type": "constant", "logging_first_step": True}, None),
    ],
)
def test_a_run_that_is_too_short_is_told(steps: int, settings: dict, notice: str | None, tmp_path: Path) -> None:
    chosen = {"warmup_steps": 300, "logging_steps": 50, "lr_scheduler_type": "cosine", **settings}
    args = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, max_steps=steps, **chosen)
    assert too_short(args, TrainerState(max_steps=steps, logging_steps=50)) == notice


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (1234.5, "1234"),
        (132.44, "132.4"),
        (9.2, "9.2"),
        (0.71349, "0.7135"),
        (5e-6, "5.0e-06"),
        (-0.5, "-0.5"),
    ],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert compact(value) == text


def test_durations() -> None:
    assert [duration(seconds) for seconds in (0.4, 61, 3599.6, 3765)] == ["0:00", "1:01", "1:00:00", "1:02:45"]


def test_the_table_sets_an_evaluation_beside_the_first_and_the_best() -> None:
    rows = _shown(evaluation_table(EVALUATIONS, {"metric_for_best_model": "cider", "greater_is_better": True}))
    assert rows[0][0] == "validation at step 50"
    assert rows[1] == ["first", "best", "now"]
    assert rows[2] == ["step 0", "step 25", "step 50", "change"]
    assert rows[4] == ["cider", "90", "97.25", "95", "+5"]
    assert rows[5] == ["rep_4_count", "0.5", "0.25", "0.75", "+0.25"]
    assert rows[6] == ["length", "9", "9", "9.5", "+0.5"]
    assert len(rows) == 7  # distinct_1 is in metrics.jsonl
    chosen = _shown(evaluation_table(EVALUATIONS, {"metric_for_best_model": "distinct_1"}))
    assert chosen[-1] == ["distinct_1", "0.1", "0.3", "0.3", "+0.2"]


def test_gains_are_green_whichever_way_they_go() -> None:
    table = evaluation_table(EVALUATIONS, {})
    changes = list(table.columns[-1].cells)
    assert [str(own.style) for own in changes] == ["green", "red", ""]


def test_quiet_says_nothing_and_draws_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with silenced():
        say("a line", evaluation_table(EVALUATIONS, {}))
        assert list(progress(range(3))) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")
    assert not console.quiet
    say("[b]a line[/b] :smile: " + "long " * 40)
    assert capsys.readouterr().out == "[b]a line[/b] :smile: " + "long " * 40 + "\n"
    list(progress(range(3), desc="three"))
    assert re.search(r"three: 100%.*3/3 .*it/s", capsys.readouterr().err)


def test_lines_stand_above_the_bar(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with progress(range(3), desc="three") as bar:
        bar.refresh()
        say("a line")
    out, err = capsys.readouterr()
    assert out == "a line\n"
    assert err.count("three") >= 2  # cleared, and drawn again below the line
