"""Accuracy overall, per group, of the worst group and on the mean of groups."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import norm

from dedier_laplace.data.attributes import Groups

Z95 = float(norm.ppf(0.975))


def wilson_interval(proportion: float, n: float) -> list[float]:
    """Wilson's 95% interval of a proportion.

    Args:
        proportion: observed share of successes.
        n: trials; need not be whole (an effective sample size).

    Returns:
        [low, high].
    """
    shrink = 1 + Z95**2 / n
    centre = (proportion + Z95**2 / (2 * n)) / shrink
    half = Z95 / shrink * np.sqrt(proportion * (1 - proportion) / n + Z95**2 / (4 * n**2))
    return [max(0.0, float(centre - half)), min(1.0, float(centre + half))]


def group_metrics(
    predictions: np.ndarray,
    labels: np.ndarray,
    groups: Groups,
    train_shares: np.ndarray | None = None,
) -> dict[str, Any]:
    """Every accuracy of `evaluation.json`, each with its 95% interval.

    The worst group's interval is its own. Means over groups get Wilson's interval at Kish's
    effective sample size 1 / sum_g(w_g^2 / n_g). A group without samples has no accuracy (None) and
    takes part in no mean and no minimum.

    Args:
        predictions: predicted label of every sample, [N].
        labels: [N].
        groups: of the same samples.
        train_shares: share of every group in training, [G]; None where it is not known.

    Returns:
        `accuracy`, `adjusted_accuracy` (groups weighted by their training shares, Sagawa et al.
        2020; None without them), `worst_group_accuracy`, `group_mean_accuracy`, each with
        `..._ci95`; `worst_group`, `n`, `groups`.
    """
    correct = np.asarray(predictions) == np.asarray(labels)
    sizes = groups.sizes
    hits = np.bincount(groups.index, weights=correct, minlength=len(sizes))
    present = np.flatnonzero(sizes)
    accuracies = hits[present] / sizes[present]
    worst = int(present[accuracies.argmin()])

    def mean_over_groups(weights: np.ndarray) -> tuple[float, list[float]]:
        weights = weights / weights.sum()
        mean = float(weights @ accuracies)
        return mean, wilson_interval(mean, 1 / float((weights**2 / sizes[present]).sum()))

    accuracy = float(correct.mean())
    group_mean, group_mean_ci = mean_over_groups(np.ones(len(present)))
    adjusted, adjusted_ci = None, None
    if train_shares is not None and train_shares[present].sum() > 0:
        adjusted, adjusted_ci = mean_over_groups(train_shares[present])
    return {
        "n": len(correct),
        "accuracy": accuracy,
        "accuracy_ci95": wilson_interval(accuracy, len(correct)),
        "adjusted_accuracy": adjusted,
        "adjusted_accuracy_ci95": adjusted_ci,
        "worst_group": groups.names[worst],
        "worst_group_accuracy": float(accuracies.min()),
        "worst_group_accuracy_ci95": wilson_interval(float(accuracies.min()), int(sizes[worst])),
        "group_mean_accuracy": group_mean,
        "group_mean_accuracy_ci95": group_mean_ci,
        "groups": [
            {
                "name": groups.names[g],
                "label": groups.labels[g],
                "attribute": groups.attributes[g],
                "n": int(sizes[g]),
                "train_share": None if train_shares is None else float(train_shares[g]),
                "accuracy": float(hits[g] / sizes[g]) if sizes[g] else None,
                "ci95": wilson_interval(hits[g] / sizes[g], int(sizes[g])) if sizes[g] else None,
            }
            for g in range(len(sizes))
        ],
    }
