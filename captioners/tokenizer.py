"""A tokenizer of one's own: BPE over lower-cased captions without punctuation, trained on the training captions."""

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

PAD, BOS, EOS = "<pad>", "<bos>", "<eos>"


def train_tokenizer(captions: Iterable[str], vocab_size: int = 5000) -> PreTrainedTokenizerFast:
    """A tokenizer with at most `vocab_size` tokens, <pad> = 0, <bos> = 1 and <eos> = 2 among them.

    Text is lower-cased and loses its punctuation, as in PTB-tokenised captions, except apostrophes and hyphens inside
    words; `decode(encode(x))` gives back that normalised text, for any Unicode text (byte-level BPE). The same captions
    in the same order give the same tokenizer. Raises ValueError where vocab_size leaves no room beside the 256 bytes.
    """
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    smallest = len(alphabet) + 3
    if vocab_size < smallest:
        raise ValueError(f"vocab_size is {vocab_size}; byte-level BPE needs at least {smallest}")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFC(),
            normalizers.Lowercase(),
            normalizers.Replace("’", "'"),
            normalizers.Replace(Regex(r"[^\w\s'-]|_"), " "),
            normalizers.Replace(Regex(r"(?<!\w)['-]+|['-]+(?!\w)"), " "),
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Strip(),
        ]
    )
    # Words with the space before them, so that "t-shirt" and "man's" can become single tokens: GPT-2's own pattern
    # would split them.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(" ", behavior="merged_with_next"),
            pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(content=" ", left=1, right=0)])
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, BOS, EOS],
        initial_alphabet=sorted(alphabet),
        show_progress=False,
    )
    tokenizer.train_from_iterator(captions, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        clean_up_tokenization_spaces=False,
    )
