"""The plumbing of a local chat model: templates, batches, seeds. A tiny model's answers are no chains."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from rlcap.degrading.chain import Start
from rlcap.degrading.conversation import Limits, conversation
from rlcap.degrading.local_chat import LocalChat, load_chat_tokenizer

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


def test_missing_weights_are_named(tmp_path: Path) -> None:
    path = chat_model(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if not name.endswith("c_fc.weight")}
    save_file(kept, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks 1 of the model's weights, which would stay random: .*c_fc.weight"):
        LocalChat(path, Limits())


def test_generation_settings_of_the_model_change_no_answer(tmp_path: Path) -> None:
    requests = [next(conversation(start, 0, Limits(length=2))) for start in starts(0, 1)]
    plain = LocalChat(chat_model(tmp_path), Limits(length=2))._answers(requests)
    settings = {"eos_token_id": 1, "repetition_penalty": 50.0, "min_new_tokens": 20, "no_repeat_ngram_size": 1}
    GenerationConfig(**settings).save_pretrained(tmp_path)
    assert LocalChat(str(tmp_path), Limits(length=2))._answers(requests) == plain


def test_an_answer_has_room_for_its_caption_and_what_does_not_end_is_cut(tmp_path: Path) -> None:
    chat = LocalChat(chat_model(tmp_path), Limits(length=2, tries=1))
    short, long = (Start(0, "a", "a#0", "a red cat " * times) for times in (1, 200))
    chat.model.generation_config.eos_token_id = 99  # which it never says
    made = [next(conversation(start, 0, chat.limits)) for start in (short, long)]
    answers = chat._answers(made)
    assert [chat._budget(request) for request in made] == [64 + 4, 64 + 780]
    assert [answer.flaw for answer in answers] == ["answer cut off"] * 2
    assert len(answers[1].text) > 5 * len(answers[0].text)


@pytest.mark.parametrize("name", ["no/such/folder", "empty"])
def test_a_wrong_path_is_told(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=f"--model {tmp_path / name} is neither the folder nor the hub id"):
        load_chat_tokenizer(str(tmp_path / name))


def test_no_chat_model(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no chat template"):
        LocalChat(chat_model(tmp_path, template=None), Limits())
