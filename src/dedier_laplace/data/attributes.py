"""Group attributes of text, and groups = label x attribute (Sagawa et al. 2020, app. C.1)."""

from __future__ import annotations

import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

NEGATION_WORDS = ("nobody", "no", "never", "nothing")
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


def negation_attribute(
    hypotheses: Iterable[str], words: Iterable[str] = NEGATION_WORDS
) -> np.ndarray:
    """1 where a hypothesis holds one of `words`, else 0.

    Sagawa et al.'s tokenisation: `string.punctuation` is removed (so "no-one" is "noone"), the
    text lower-cased and split on single spaces.

    Args:
        hypotheses: N texts.
        words: single words; punctuation and case count as little as in the texts.

    Returns:
        int64 array [N].
    """
    wanted = {_normalized(word) for word in words}
    tokens = (_normalized(text).split(" ") for text in hypotheses)
    return np.fromiter((not wanted.isdisjoint(found) for found in tokens), dtype=np.int64)


def _normalized(text: str) -> str:
    return text.translate(_WITHOUT_PUNCTUATION).lower()


@dataclass(frozen=True)
class Groups:
    """Group of every sample: index = 2 * label + attribute.

    Attributes:
        index: int array [N].
        names: name of every group, [2 * C].
        labels: label name of every group, [2 * C].
        attributes: attribute value (0 or 1) of every group, [2 * C].
    """

    index: np.ndarray
    names: tuple[str, ...]
    labels: tuple[str, ...]
    attributes: tuple[int, ...]

    @property
    def sizes(self) -> np.ndarray:
        """Samples of every group, [2 * C]."""
        return np.bincount(self.index, minlength=len(self.names))

    @property
    def shares(self) -> np.ndarray:
        """Share of the samples in every group, [2 * C]."""
        return self.sizes / max(len(self.index), 1)


def make_groups(
    labels: Sequence[int] | np.ndarray,
    attribute: np.ndarray,
    label_names: Sequence[str],
    attribute_name: str,
) -> Groups:
    """Groups = label x attribute.

    Args:
        labels: label of every sample, [N], 0..C-1.
        attribute: 0 or 1 for every sample, [N].
        label_names: C names.
        attribute_name: for the groups' names ("contradiction, no negation").
    """
    pairs = [(label, value) for label in label_names for value in (0, 1)]
    return Groups(
        index=2 * np.asarray(labels, dtype=np.int64) + attribute,
        names=tuple(f"{label}, {'' if value else 'no '}{attribute_name}" for label, value in pairs),
        labels=tuple(label for label, _ in pairs),
        attributes=tuple(value for _, value in pairs),
    )
