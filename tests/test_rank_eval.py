"""Chains ranked beside a reference: what either cannot see is left out, and the two must read alike."""

import io
import sys
from pathlib import Path

import pytest
from rich.console import Console
from tiny import CAPTIONS, tiny_blip, tiny_encoder_decoder

from captioners.tokenizer import train_tokenizer
from rlcap.rank_eval import rank_evaluation, results_table

sys.path.insert(0, str(Path(__file__).parent / "training"))

from chains import chain_dataset


def test_a_chain_that_the_reference_alone_cannot_see_is_left_out_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = chain_dataset(tmp_path, 4)
    captioner, reference = tiny_encoder_decoder(), tiny_encoder_decoder(seed=1)
    gone = tmp_path / "1.png"
    captioner.register_forward_hook(lambda *_: gone.unlink(missing_ok=True))  # between the two
    found = rank_evaluation(captioner, dataset, reference=reference, controls=["true"])
    assert f"{gone}: there is no such file" in capsys.readouterr().err
    assert found.left_out == {"true": 1}
    assert ["true" in own for own in found.per_chain] == [True, False, True, True]
    others = rank_evaluation(captioner, dataset.select([0, 2, 3]), reference=reference, controls=["true"])
    assert others.left_out == {"true": 0}
    assert found.measures["true"] == pytest.approx(others.measures["true"])
    assert list(results_table(found).columns[0].cells)[-1] == "left out"
    kinds = [kind for own in dataset["kinds"] for kind in own]
    console = Console(width=80, file=io.StringIO())
    console.print(results_table(found))
    for kind in set(kinds) - {""}:
        told = next(line for line in console.file.getvalue().splitlines() if f"adjacent_accuracy/{kind} " in line)
        assert f" {kinds.count(kind)} steps" in told


def test_a_reference_that_reads_otherwise_is_refused(tmp_path: Path) -> None:
    dataset = chain_dataset(tmp_path, 2)
    with pytest.raises(ValueError, match="the captioner's prompt is 'a dog' and the reference's None: choose one"):
        rank_evaluation(tiny_blip(prompt="a dog"), dataset, reference=tiny_blip())
    other = tiny_encoder_decoder()
    other.codec.tokenizer = train_tokenizer(CAPTIONS[:2], 260)
    told = r"different tokenizers: '.*' is \[[\d, ]+\] to the captioner \(\w+, \d+ tokens\) and \[[\d, ]+\] to the ref"
    with pytest.raises(ValueError, match=told):
        rank_evaluation(tiny_encoder_decoder(), dataset, reference=other)
