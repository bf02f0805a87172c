"""What a corpus looks like before any training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats.contingency import association
from sklearn.metrics import mutual_info_score

from dedier_laplace.data.attributes import Groups

PERCENTILES = (5, 50, 95, 99, 100)


def summarize_groups(groups: Groups) -> dict[str, Any]:
    """Sizes of the groups, and how strongly the attribute tells the label.

    Returns:
        `groups` (name, n, share of all, share of the attribute's value), `mutual_information`
        (bits), `cramers_v` (0 independent, 1 determined; None where it is not defined),
        `attribute_rule_accuracy` (guessing each attribute value's most frequent label) beside
        `majority_accuracy` (guessing the most frequent label).
    """
    counts = groups.sizes.reshape(-1, 2)
    n = int(counts.sum())
    of_attribute = np.maximum(counts.sum(0), 1)
    defined = bool((counts.sum(0) > 0).all() and (counts.sum(1) > 0).all())
    return {
        "n": n,
        "groups": [
            {
                "name": name,
                "n": int(size),
                "share": float(size / n),
                "share_of_attribute": float(size / of_attribute[value]),
            }
            for name, size, value in zip(groups.names, groups.sizes, groups.attributes, strict=True)
        ],
        "mutual_information": float(mutual_info_score(None, None, contingency=counts) / np.log(2)),
        "cramers_v": float(association(counts, method="cramer")) if defined else None,
        "attribute_rule_accuracy": float(counts.max(0).sum() / n),
        "majority_accuracy": float(counts.sum(1).max() / n),
    }


def length_percentiles(lengths: Sequence[int]) -> dict[str, float]:
    """Percentiles of pair lengths, by name (`p50` is the median)."""
    values = np.percentile(np.asarray(lengths), PERCENTILES)
    return {f"p{p}": float(value) for p, value in zip(PERCENTILES, values, strict=True)}
