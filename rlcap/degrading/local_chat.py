"""A chat model of `transformers` on this machine, many captions a batch."""

import math
from collections.abc import Generator, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from rewards.whole import load_whole
from rlcap.degrading.chain import Chain, Start
from rlcap.degrading.conversation import CUT, Answer, Limits, Request, conversation

ROOM = 64  # tokens of an answer beside the caption in it


def load_chat_tokenizer(model: str) -> Any:
    """The tokenizer of a chat model, a hub id or folder; ValueError where there is none, or no chat template."""
    try:
        AutoConfig.from_pretrained(model)
        tokenizer: Any = AutoTokenizer.from_pretrained(model, padding_side="left")
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"--model {model} is neither the folder nor the hub id of a chat model: {error}") from error
    if not tokenizer.chat_template:
        raise ValueError(f"{model} has no chat template: it is no chat model, or its tokenizer lacks the template")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


class LocalChat:
    """Chains by a causal language model with a chat template; a unit is `batch` captions, which step side by side.

    What is drawn depends on the seed and on the unit, which are the same whatever the number of processes.
    """

    def __init__(
        self, model: str, limits: Limits, *, seed: int = 0, batch: int = 16, temperature: float = 0.7, device: str = ""
    ) -> None:
        """model: a hub id or folder. device: the GPU where there is one.

        Raises ValueError without a chat template, and by name where weights are missing, which would stay random.
        """
        self.limits, self.seed, self.batch, self.temperature = limits, seed, batch, temperature
        self.tokenizer = load_chat_tokenizer(model)
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        language_model = load_whole(AutoModelForCausalLM, model, "a causal language model", dtype="auto")
        ends = language_model.generation_config.eos_token_id
        # Nothing else of what its makers generate with (a repetition penalty, say): it would change the answers.
        language_model.generation_config = GenerationConfig(
            eos_token_id=self.tokenizer.eos_token_id if ends is None else ends,
            pad_token_id=self.tokenizer.pad_token_id,
        )
        self.model = language_model.to(self.device).eval()

    def chains(self, units: Iterable[list[Start]]) -> Iterator[list[tuple[Start, Chain]]]:
        """The chains of each unit, in order."""
        for unit in units:
            yield list(zip(unit, self._unit(unit), strict=True))

    def _unit(self, unit: list[Start]) -> list[Chain]:
        talks = [conversation(start, self.seed, self.limits) for start in unit]
        chains: dict[int, Chain] = {}
        asked = {place: next(talk) for place, talk in enumerate(talks) if self.limits.length > 1}
        while asked:
            answers = self._answers(list(asked.values()))
            asked = {
                place: request
                for place, answer in zip(asked, answers, strict=True)
                if (request := _sent(talks[place], answer, chains, place)) is not None
            }
        return [chains[place] for place in range(len(unit))]

    @torch.inference_mode()
    def _answers(self, requests: list[Request]) -> list[Answer]:
        texts = [
            self.tokenizer.apply_chat_template(list(request.messages), tokenize=False, add_generation_prompt=True)
            for request in requests
        ]
        inputs = self.tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False).to(self.device)
        torch.manual_seed(requests[0].seed)
        drawn = {"do_sample": True, "temperature": self.temperature, "top_k": 0, "top_p": 1.0}
        budgets = [self._budget(request) for request in requests]
        tokens = self.model.generate(
            **inputs,
            max_new_tokens=max(budgets),
            **(drawn if self.temperature > 0 else {"do_sample": False}),
        )
        new = tokens[:, inputs["input_ids"].shape[1] :]
        own = [row[:budget] for row, budget in zip(new, budgets, strict=True)]  # whatever the others of the batch need
        said = self.tokenizer.batch_decode(own, skip_special_tokens=True)
        return [Answer(text, "" if self._ended(row) else CUT) for text, row in zip(said, own, strict=True)]

    def _budget(self, request: Request) -> int:
        """The most tokens of an answer: it repeats the caption, escaped, with a change."""
        return ROOM + math.ceil(1.3 * len(self.tokenizer(request.caption, add_special_tokens=False)["input_ids"]))

    def _ended(self, tokens: Tensor) -> bool:
        ends = self.model.generation_config.eos_token_id
        ends = torch.tensor(ends if isinstance(ends, list) else [ends], device=tokens.device)
        return bool(torch.isin(tokens, ends).any())


def _sent(
    talk: Generator[Request, Answer, Chain], answer: Answer, chains: dict[int, Chain], place: int
) -> Request | None:
    """The next request of a conversation; None where it is over, its chain then being in `chains`."""
    try:
        return talk.send(answer)
    except StopIteration as end:
        chains[place] = end.value
        return None
