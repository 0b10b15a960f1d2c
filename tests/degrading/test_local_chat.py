"""The plumbing of a local chat model: templates, batches, seeds. A tiny model's answers are no chains."""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from rlcap.degrading.chain import Start
from rlcap.degrading.conversation import Limits, conversation
from rlcap.degrading.local_chat import LocalChat

TEMPLATE = "{% for m in messages %}<{{ m['role'] }}> {{ m['content'] }} {% endfor %}<assistant>"
ANSWER = '{"kind": "attribute", "caption": "a blue cat"}'


def chat_model(folder: Path, template: str | None = TEMPLATE) -> str:
    """A tiny model with a vocabulary of whole answers, so that some of what it draws is a chain."""
    words = ["<pad>", "<eos>", "<unk>", ANSWER, "nonsense"]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", chat_template=template
    )
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 2048, "vocab_size": len(words)}
    model = GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=1, eos_token_id=1))
    model.generation_config.max_length = None
    model.save_pretrained(folder)
    return str(folder)


def starts(*rows: int) -> list[Start]:
    return [Start(row, f"v{row}", f"v{row}#0", "a red cat") for row in rows]


def test_units_give_the_same_chains_whatever_came_before(tmp_path: Path) -> None:
    path = chat_model(tmp_path)
    limits = Limits(length=2, tries=3)

    def made(*units: list[Start]) -> list[list[tuple[tuple[str, ...], dict[str, int]]]]:
        degrader = LocalChat(path, limits, seed=5, batch=3)
        return [[(chain.captions, chain.failures) for _, chain in unit] for unit in degrader.chains(units)]

    first, second = starts(0, 1, 2), starts(3, 4, 5)
    both = made(first, second)
    assert both == [*made(first), *made(second)]
    chains = [chain for unit in both for chain in unit]
    assert all(captions[0] == "a red cat" for captions, _ in chains)
    assert all(len(captions) == 2 or failures["given up"] == 1 for captions, failures in chains)


def test_a_batch_is_answered_as_each_alone(tmp_path: Path) -> None:
    chat = LocalChat(chat_model(tmp_path), Limits(length=2), temperature=0.0)
    long = Start(1, "b", "b#0", "a red cat " * 20)
    requests = [next(conversation(start, 0, chat.limits)) for start in (*starts(0), long)]
    assert chat._answers(requests) == [chat._answers([request])[0] for request in requests]


def test_no_chat_model(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no chat template"):
        LocalChat(chat_model(tmp_path, template=None), Limits())
