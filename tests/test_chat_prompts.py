"""A chat model reads the same prompt where it captions (captioners) and where it rates a caption (rewards)."""

import sys
from pathlib import Path

import pytest
from PIL import Image
from tokenizers.processors import TemplateProcessing
from transformers import AutoProcessor

from captioners.chat_template import PROMPT_IDS, ChatPreprocessor
from rewards.multi_tap_prompt import RatingPrompt

sys.path.insert(0, str(Path(__file__).resolve().parent / "rewards"))

import lvlms


@pytest.mark.parametrize("build", lvlms.BUILDERS.values())
@pytest.mark.parametrize("by_template", [True, False])
@pytest.mark.parametrize("by_tokenizer", [True, False])
def test_the_first_token_is_read_once(build, by_template: bool, by_tokenizer: bool, tmp_path: Path) -> None:
    """Whether the template writes it, the tokenizer adds it, or both do, as Llama-3.2-Vision's."""
    processor = AutoProcessor.from_pretrained(build(tmp_path))
    begun = "<s> " if by_template else ""
    processor.chat_template = begun + processor.chat_template.replace("{{ '<s> ' }}", "")
    bos = processor.tokenizer.bos_token_id
    if by_tokenizer:
        adding = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", bos)])
        processor.tokenizer.backend_tokenizer.post_processor = adding
    picture = Image.new("RGB", (16, 16), "red")
    asked = ChatPreprocessor(processor, "Describe this image.")([picture])[PROMPT_IDS][0].tolist()
    rated = RatingPrompt(processor)([[picture]], ["a red circle"])["input_ids"][0].tolist()
    assert rated[: len(asked)] == asked
    assert rated.count(bos) == (by_template or by_tokenizer)
