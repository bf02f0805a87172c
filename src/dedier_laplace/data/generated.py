"""Generated NLI: a controlled testbed, not language.

A premise is `quantity subject verb [object] [place] [time]`. A hypothesis has the same slots, each
equal, more general (hypernym, dropped), more specific (hyponym, added) or exclusive (antonym,
other number, other noun); or its roles are swapped. The label follows:

- swapped roles (another event, of which the premise tells nothing): neutral;
- else something exclusive: contradiction;
- else something more specific or added: neutral;
- else: entailment.

A frame may follow the hypothesis and never changes the label. Frames with negation words ("nobody
doubts it") go with contradiction at `negation_rate` and with the rest at `minority_rate`: they are
a spurious cue and not semantic negation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerFast

from dedier_laplace.errors import UserError

LABELS = ("entailment", "neutral", "contradiction")
NEGATION_FRAMES = ("nobody doubts it", "no doubt", "never mind", "nothing else")
PLAIN_FRAMES = ("everyone knows it", "of course", "that is clear", "we think")
PLAIN_FRAME_RATE = 0.5
TRANSITIVE_RATE = 0.05
GENERAL_RATE = 0.25
TRIES = 10_000  # draws without a new pair after which the lexicon counts as used up

Taxonomy = Mapping[str, tuple[str, ...]]
# Hypernym -> hyponyms. Two hyponyms of one hypernym exclude each other.
QUANTITIES = {"some": ("two", "three")}
NOUNS = {"animals": ("dogs", "cats"), "people": ("doctors", "singers")}
ACTIONS = {"move": ("walk", "run"), "speak": ("shout", "whisper")}
DEEDS = {"touch": ("push", "pull")}  # take an object
PLACES = {"outdoors": ("ashore", "uphill"), "indoors": ("upstairs", "downstairs")}
TIMES: Taxonomy = {"today": ()}

Slots = tuple[str, ...]  # quantity, subject, verb, object, place, time; "" where absent
QUANTITY, SUBJECT, VERB, OBJECT, PLACE, TIME = range(6)
_TAXONOMIES: tuple[Taxonomy, ...] = (QUANTITIES, NOUNS, ACTIONS | DEEDS, NOUNS, PLACES, TIMES)
# Nouns and places of different hypernyms exclude each other too; verbs of different ones do not.
_DISJOINT_HYPERNYMS = {SUBJECT, PLACE}


@dataclass(frozen=True)
class Pair:
    """One generated pair; `label` is a name."""

    premise: str
    hypothesis: str
    label: str


class PairGenerator:
    """Draws pairs, none of them twice.

    Args:
        seed: the same seed gives the same pairs.
    """

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._seen: set[tuple[str, str]] = set()

    def natural(self, n: int, negation_rate: float, minority_rate: float) -> Iterator[Pair]:
        """`n` pairs, labels uniform; negation words at one rate on contradictions, else another."""
        for _ in range(n):
            label = self._one_of(LABELS)
            rate = negation_rate if label == "contradiction" else minority_rate
            yield self.pair(label, negated=self._rng.random() < rate)

    def balanced(self, n_per_group: int) -> list[Pair]:
        """`n_per_group` pairs of every label with and without negation words, shuffled."""
        groups = [(label, negated) for label in LABELS for negated in (False, True)]
        pairs = [self.pair(*group) for group in groups for _ in range(n_per_group)]
        return [pairs[i] for i in self._rng.permutation(len(pairs))]

    def pair(self, label: str, negated: bool) -> Pair:
        """A new pair of that label, with or without negation words.

        Raises:
            UserError: the lexicon has no more of them.
        """
        for _ in range(TRIES):
            premise = self._premise()
            hypothesis = self._hypothesis(premise, label)
            if hypothesis is None or relation(premise, hypothesis) != label:
                continue
            texts = _text(premise), _text(hypothesis) + self._frame(negated)
            if texts not in self._seen:
                self._seen.add(texts)
                return Pair(*texts, label)
        raise UserError(
            f"The lexicon has no more new pairs ({len(self._seen)} drawn): lower data.generated."
        )

    def _premise(self) -> Slots:
        transitive = self._rng.random() < TRANSITIVE_RATE
        return (
            self._word(QUANTITIES),
            self._word(NOUNS),
            self._word(DEEDS if transitive else ACTIONS),
            self._word(NOUNS) if transitive else "",
            self._word(PLACES) if self._rng.random() < 0.75 else "",
            self._word(TIMES) if self._rng.random() < 0.3 else "",
        )

    def _hypothesis(self, premise: Slots, label: str) -> Slots | None:
        """Slots derived from the premise's by steps that can give `label`; None if a step fails."""
        slots = list(premise)
        for slot in range(6):
            if self._rng.random() < GENERAL_RATE:
                slots[slot] = self._general(slot, slots[slot])
        if label == "entailment":
            return tuple(slots)
        if label == "neutral" and premise[OBJECT] and self._rng.random() < 0.3:
            slots[SUBJECT], slots[OBJECT] = premise[OBJECT], premise[SUBJECT]
            return tuple(slots)
        step = self._specific if label == "neutral" else self._exclusive
        candidates = [slot for slot in range(6) if step(slot, premise[slot]) is not None]
        if not candidates:
            return None
        for slot in self._rng.choice(candidates, size=self._rng.integers(1, 3)):
            slots[slot] = step(int(slot), premise[slot]) or ""
        return tuple(slots)

    def _general(self, slot: int, word: str) -> str:
        hypernym = _hypernym(slot, word)
        if slot in (PLACE, TIME) and self._rng.random() < 0.5:
            return ""
        return hypernym or word

    def _specific(self, slot: int, word: str) -> str | None:
        taxonomy = _TAXONOMIES[slot]
        if taxonomy.get(word):
            return self._one_of(taxonomy[word])
        return self._word(taxonomy) if not word and slot in (PLACE, TIME) else None

    def _exclusive(self, slot: int, word: str) -> str | None:
        others = [other for other in _words(slot) if _excludes(slot, word, other)]
        return self._one_of(others) if others else None

    def _one_of(self, choices: Sequence[str]) -> str:
        return choices[int(self._rng.integers(len(choices)))]

    def _word(self, taxonomy: Taxonomy) -> str:
        """A hyponym mostly, its hypernym sometimes."""
        hypernym = self._one_of(tuple(taxonomy))
        hyponyms = taxonomy[hypernym]
        general = not hyponyms or self._rng.random() < 0.3
        return hypernym if general else self._one_of(hyponyms)

    def _frame(self, negated: bool) -> str:
        if negated:
            return " , " + self._one_of(NEGATION_FRAMES)
        if self._rng.random() < PLAIN_FRAME_RATE:
            return " , " + self._one_of(PLAIN_FRAMES)
        return ""


def relation(premise: Slots, hypothesis: Slots) -> str:
    """The label that follows from the slots."""
    swapped = premise[OBJECT] and (premise[SUBJECT], premise[OBJECT]) == (
        hypothesis[OBJECT],
        hypothesis[SUBJECT],
    )
    if swapped and premise[SUBJECT] != premise[OBJECT]:
        return "neutral"
    slots = list(enumerate(zip(premise, hypothesis, strict=True)))
    if any(_excludes(slot, before, after) for slot, (before, after) in slots):
        return "contradiction"
    if all(after in ("", before, _hypernym(slot, before)) for slot, (before, after) in slots):
        return "entailment"
    return "neutral"


def _text(slots: Slots) -> str:
    return " ".join(word for word in slots if word)


def _words(slot: int) -> list[str]:
    return [word for key, below in _TAXONOMIES[slot].items() for word in (key, *below)]


def _hypernym(slot: int, word: str) -> str | None:
    return next((key for key, below in _TAXONOMIES[slot].items() if word in below), None)


def _excludes(slot: int, word: str, other: str) -> bool:
    """Both cannot hold: sisters under one hypernym, or disjoint branches of a taxonomy."""
    if not word or not other or word == other:
        return False
    over, other_over = _hypernym(slot, word), _hypernym(slot, other)
    if over and other_over and over == other_over:
        return True
    return slot in _DISJOINT_HYPERNYMS and (over or word) != (other_over or other)


def word_tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer over exactly the corpus's words, with BERT's special tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    texts = [*NEGATION_FRAMES, *PLAIN_FRAMES, ",", *(w for slot in range(6) for w in _words(slot))]
    words = sorted({word for text in texts for word in text.split()})
    vocabulary = {word: number for number, word in enumerate(special + words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=64,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )
