"""The `rules` degrader: details of the parse replaced by what excludes them, in words of the data set."""

import random
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from rlcap.degrading.chain import Chain, Start
from rlcap.degrading.contrasts import contrasts
from rlcap.degrading.counts import count_slots, more_slots
from rlcap.degrading.order import order_slots
from rlcap.degrading.own_words import own_word_slots
from rlcap.degrading.parse import BATCH, parsed
from rlcap.degrading.relations import relation_slots
from rlcap.degrading.sentence import Sentence, Slot, edited, replaced
from rlcap.degrading.swaps import adjective_slots, noun_slots, verb_slots
from rlcap.degrading.vocabulary import Vocabulary

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc

FINDERS = (
    noun_slots,
    adjective_slots,
    verb_slots,
    relation_slots,
    count_slots,
    more_slots,
    order_slots,
    own_word_slots,
)
AGAIN = 0.35  # how much less often a kind of edit is drawn for every time that the chain has it


class Rules:
    """Makes chains of up to `length` captions; the same for the same (seed, row), whatever else is asked for.

    batch: starts of a unit. kinds: those of rlcap.data.chains.KINDS that may be changed; all where it is empty.
    """

    batch = BATCH

    def __init__(
        self, parser: "Language", vocabulary: Vocabulary, *, length: int, seed: int, kinds: Iterable[str] = ()
    ) -> None:
        self.parser, self.vocabulary = parser, vocabulary
        self.length, self.seed, self.kinds = length, seed, frozenset(kinds)

    def chains(self, units: Iterable[list[Start]]) -> Iterator[list[tuple[Start, Chain]]]:
        """The chains of each unit, in order; of one caption where no detail can be changed."""
        for unit in units:
            docs = parsed(self.parser, (start.caption for start in unit))
            yield [(start, self._chain(start, doc)) for start, doc in zip(unit, docs, strict=True)]

    def _chain(self, start: Start, doc: "Doc") -> Chain:
        rng = random.Random(f"{self.seed} {start.row} {start.image_id}")
        others = [other for other in start.others if other.strip(" .") not in start.caption]
        sentence = Sentence(doc, others, self.vocabulary, contrasts(), rng)
        slots = [slot for find in FINDERS for slot in find(sentence)]
        if self.kinds:
            slots = [slot for slot in slots if slot.kind in self.kinds]
        captions, edits = [start.caption], []
        taken: list[Slot] = []
        texts: dict[int, tuple[int, str]] = {}
        for slot in self._drawn(slots, rng):
            more = replaced(doc, [*taken, slot])
            edit = edited(doc, slot.kind, texts, more)
            caption = edit.applied(captions[-1])
            if caption in captions:
                continue
            taken.append(slot)
            texts = more
            edits.append(edit)
            captions.append(caption)
        failures = {"shorter: too few details": 1} if len(captions) < self.length else {}
        return Chain(tuple(captions), tuple(edits), failures)

    def _drawn(self, slots: list[Slot], rng: random.Random) -> Iterator[Slot]:
        """Slots that do not meet, at random, kinds that are not there yet first; as many as a chain has steps."""
        kinds: Counter[str] = Counter()
        left = list(slots)
        for _ in range(self.length - 1):
            if not left:
                return
            weights = [slot.weight * AGAIN ** kinds[slot.kind] for slot in left]
            slot = rng.choices(left, weights)[0]
            kinds[slot.kind] += 1
            left = [other for other in left if not slot.meets(other)]
            yield slot
