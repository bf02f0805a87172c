"""Tokenized splits: what a model reads, with the label and each sample's index."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import Any

import numpy as np
import pyarrow.compute as pc
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

INDEX, LABELS = "index", "labels"


def tokenize(
    rows: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    accepted: Collection[str],
) -> Dataset:
    """Pairs as token ids, unpadded; cached by the `datasets` fingerprint.

    Args:
        rows: columns premise, hypothesis, label.
        tokenizer: the model's.
        max_length: tokens of a pair; the longer text is truncated first.
        accepted: names of the model's inputs; others (DistilBERT has no token types) are left out.

    Returns:
        columns: the model's inputs, `labels`, and `index`, the sample's place in `rows`.
    """
    names = [name for name in tokenizer.model_input_names if name in accepted]

    def encode(batch: dict[str, Any], indices: list[int]) -> dict[str, Any]:
        tokens = tokenizer(
            batch["premise"], batch["hypothesis"], truncation=True, max_length=max_length
        )
        inputs = {name: tokens[name] for name in names}
        return {**inputs, LABELS: batch["label"], INDEX: indices}

    return rows.map(
        encode, with_indices=True, batched=True, remove_columns=rows.column_names, desc="tokenizing"
    )


def content_fingerprint(tokenized: Dataset) -> str:
    """A hash of every token id and label, in order."""
    table = tokenized.with_format("arrow")[:]
    ids = table["input_ids"]
    digest = hashlib.sha256()
    for column in (pc.list_value_length(ids), pc.list_flatten(ids), table[LABELS]):
        digest.update(column.to_numpy().astype(np.int64).tobytes())
    return digest.hexdigest()


def lengths(tokenized: Dataset) -> list[int]:
    """Tokens of every sample."""
    column = tokenized.with_format("arrow")[:]["input_ids"]
    return pc.list_value_length(column).to_pylist()
