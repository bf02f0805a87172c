"""`dedier inspect`: the corpus before any training."""

from __future__ import annotations

from typing import Any

from dedier_laplace.config import Config
from dedier_laplace.data.corpus import Corpus, load_corpus
from dedier_laplace.data.generated import word_tokenizer
from dedier_laplace.data.summary import length_percentiles, summarize_groups
from dedier_laplace.errors import UserError
from dedier_laplace.models import load_tokenizer


def inspect_corpus(config: Config) -> dict[str, Any]:
    """Rows, dropped rows, groups, association of attribute and label, lengths; per split.

    Raises:
        UserError: the corpus cannot be read.
    """
    attribute = config.eval.groups
    corpus = load_corpus(config.data, attribute)
    lengths, unit = _lengths(config, corpus)
    return {
        "corpus": config.data.corpus,
        "groups_by": attribute,
        "notes": list(corpus.notes),
        "length_unit": unit,
        "max_length": config.data.max_length,
        "splits": {
            split: {
                **summarize_groups(corpus.groups(split, attribute)),
                "dropped": dict(corpus.dropped.get(split, {})),
                "length": length_percentiles(lengths[split]),
                "truncated_share": _share_above(lengths[split], config.data.max_length),
            }
            for split in corpus.splits
        },
    }


def _lengths(config: Config, corpus: Corpus) -> tuple[dict[str, list[int]], str]:
    """Pair lengths in the student's tokens; in words where its tokenizer cannot be had."""
    student = config.student
    source = student.model if student.tokenizer == "same" else student.tokenizer
    try:
        tokenizer = load_tokenizer(source) if isinstance(source, str) else word_tokenizer()
        unit = "tokens"
    except UserError:
        tokenizer, unit = None, "words (the student's tokenizer cannot be loaded)"
    lengths = {}
    for split, rows in corpus.splits.items():
        premises, hypotheses = list(rows["premise"]), list(rows["hypothesis"])
        if tokenizer is None:
            pairs = zip(premises, hypotheses, strict=True)
            lengths[split] = [len(a.split()) + len(b.split()) for a, b in pairs]
        else:
            tokens = tokenizer(premises, hypotheses, truncation=False, verbose=False)
            lengths[split] = [len(ids) for ids in tokens["input_ids"]]
    return lengths, unit


def _share_above(lengths: list[int], limit: int) -> float:
    return sum(length > limit for length in lengths) / len(lengths)
