import pytest
from tiny import CAPTIONS

from captioners.tokenizer import train_tokenizer


def encode(tokenizer, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("A dog runs across the green grass.", "a dog runs across the green grass"),
        ("The dog's ball,  is RED!", "the dog's ball is red"),
        ("a blue t-shirt - 'quoted' - and well-known", "a blue t-shirt quoted and well-known"),
        ("the dog’s bone", "the dog's bone"),
        ("a café 日本 🐕 2 dogs", "a café 日本 2 dogs"),
        ("under_score", "under score"),
    ],
)
def test_decoding_gives_back_the_normalised_caption(text: str, normal: str) -> None:
    tokenizer = train_tokenizer(CAPTIONS, 400)
    ids = encode(tokenizer, text)
    assert tokenizer.decode(ids) == normal
    assert encode(tokenizer, normal) == ids


def test_words_with_apostrophe_and_hyphen_become_single_tokens() -> None:
    tokenizer = train_tokenizer(CAPTIONS * 3, 600)
    for word in ("dog's", "t-shirt", "grass"):
        assert len(encode(tokenizer, word)) == 1


def test_special_tokens_written_in_a_caption_are_plain_text() -> None:
    tokenizer = train_tokenizer(CAPTIONS, 400)
    ids = encode(tokenizer, "a <eos> dog <pad>")
    assert not set(ids) & set(tokenizer.all_special_ids)
    assert tokenizer.decode(ids) == "a eos dog pad"


def test_same_captions_give_the_same_tokenizer() -> None:
    first, second = (train_tokenizer(CAPTIONS, 400) for _ in range(2))
    assert first.backend_tokenizer.to_str() == second.backend_tokenizer.to_str()
    assert (first.pad_token_id, first.bos_token_id, first.eos_token_id) == (0, 1, 2)


def test_a_vocabulary_too_small_for_the_bytes_is_refused() -> None:
    with pytest.raises(ValueError, match="vocab_size is 100; byte-level BPE needs at least 259"):
        train_tokenizer(CAPTIONS, 100)


def test_most_words_of_real_captions_are_single_tokens(shared) -> None:
    import json

    images = json.loads((shared / "data/flickr8k/dataset_flickr8k.json").read_text())["images"]
    train = [s["raw"] for image in images if image["split"] == "train" for s in image["sentences"]]
    tokenizer = train_tokenizer(train, 5000)
    test = [s["raw"] for image in images if image["split"] == "test" for s in image["sentences"]]
    tokens = sum(len(ids) for ids in tokenizer(test, add_special_tokens=False)["input_ids"])
    words = sum(len(tokenizer.decode(ids).split()) for ids in tokenizer(test, add_special_tokens=False)["input_ids"])
    assert tokens / words < 1.05
