"""What early exits achieve: each alone, leaving at the first confident one, and their sets.

Early exits and their confidence after Meronen et al. 2023 (2302.06359); prediction sets after
Jazbec et al. 2024 (2311.05931).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dedier_laplace.data.attributes import Groups
from dedier_laplace.evaluation.groups import group_metrics
from dedier_laplace.readout.prediction_sets import (
    consistency,
    coverage,
    mean_size,
    running_intersection,
)
from dedier_laplace.readout.scores import readout_scores


def exit_metrics(
    probabilities: Tensor | Any, labels: Tensor | Any, groups: Groups
) -> list[dict[str, Any]]:
    """Every exit as if all samples left there.

    Args:
        probabilities: [E, N, C], first exit first.
        labels: [N].
        groups: of the same samples.

    Returns:
        An entry an exit: `accuracy`, `worst_group_accuracy`, `group_mean_accuracy`, `groups` (name
        to accuracy, None for a group without samples), `nll` (nats), `ece` (15 equal bins).
    """
    probabilities, labels = _tensors(probabilities, labels)
    return [_metrics_of_exit(of_exit, labels, groups) for of_exit in probabilities]


def _metrics_of_exit(probabilities: Tensor, labels: Tensor, groups: Groups) -> dict[str, Any]:
    by_group = group_metrics(probabilities.argmax(1).numpy(), labels.numpy(), groups)
    scores = readout_scores(probabilities, labels)
    return {
        "accuracy": by_group["accuracy"],
        "worst_group_accuracy": by_group["worst_group_accuracy"],
        "group_mean_accuracy": by_group["group_mean_accuracy"],
        "groups": _by_name(by_group),
        "nll": scores["nll"],
        "ece": scores["ece"],
    }


def early_exit_curve(
    probabilities: Tensor | Any,
    labels: Tensor | Any,
    groups: Groups,
    thresholds: Sequence[float],
    *,
    layers: Sequence[int],
    depth: int,
) -> list[dict[str, Any]]:
    """Accuracy against compute when samples leave at the first exit that is confident.

    A sample leaves at the first exit with max_c p(c) >= threshold, or at the last: a threshold of 0
    sends all to the first exit, one above 1 all to the last. Compute counts encoder layers only;
    the readouts' own cost (of several exits, every one up to where a sample leaves, and the Laplace
    predictive's draws) is not in it.

    Args:
        probabilities: [E, N, C], first exit first.
        labels: [N].
        groups: of the same samples.
        thresholds: of confidence.
        layers: layer each exit sits on, [E], rising; 1 is the output of the first block.
        depth: layers of the encoder.

    Returns:
        An entry a threshold: `threshold`, `accuracy`, `worst_group_accuracy`, `compute` (mean share
        of the encoder's layers passed, layer / depth), `exit_shares` (share of the samples that
        leave at each exit, [E]).

    Raises:
        ValueError: `layers` are not one an exit, rising from 1 to at most `depth`.
    """
    probabilities, labels = _tensors(probabilities, labels)
    exits = len(probabilities)
    if list(layers) != sorted({n for n in layers if 1 <= n <= depth}) or len(layers) != exits:
        raise ValueError(
            f"layers is {list(layers)}; it must name {exits} layers, rising, from 1 to {depth}"
        )
    confidence, predictions = probabilities.max(-1)
    entries = []
    for threshold in thresholds:
        leaves_at = _first_confident(confidence, threshold)
        predicted = predictions.gather(0, leaves_at.unsqueeze(0)).squeeze(0)
        found = group_metrics(predicted.numpy(), labels.numpy(), groups)
        shares = np.bincount(leaves_at.numpy(), minlength=exits) / len(labels)
        entries.append(
            {
                "threshold": float(threshold),
                "accuracy": found["accuracy"],
                "worst_group_accuracy": found["worst_group_accuracy"],
                "compute": float(shares @ np.asarray(layers)) / depth,
                "exit_shares": shares.tolist(),
            }
        )
    return entries


def _first_confident(confidence: Tensor, threshold: float) -> Tensor:
    """Index [N] of the first exit of [E, N] that reaches the threshold, or of the last."""
    confident = confidence >= threshold
    confident[-1] = True
    return confident.int().argmax(0)  # the first of equal maxima


def set_metrics(sets: Tensor | Any, labels: Tensor | Any, groups: Groups) -> list[dict[str, Any]]:
    """Every exit's prediction sets: do they hold the label, and how much do they say.

    The headline is the running intersection: what a user holds who never takes a class back.

    Args:
        sets: the raw sets of `readout.prediction_sets`, bool [E, N, C].
        labels: [N].
        groups: of the same samples.

    Returns:
        An entry an exit. Of the running intersection: `coverage` (share of samples whose label is
        in it), `groups` (name to coverage, None for a group without samples), `mean_size` (classes)
        and `share_empty`. Of the raw sets: `raw_coverage`, `raw_mean_size`, `raw_share_empty`. Of
        both: `consistency` (mean of |running intersection| / |raw set|; 1: no class came back).
    """
    sets, labels = _tensors(sets, labels)
    sets, running = sets.bool(), running_intersection(sets)
    covered = running[:, torch.arange(len(labels)), labels].numpy()
    everywhere = np.ones(len(labels), dtype=bool)
    columns: dict[str, list[Any]] = {
        "coverage": coverage(running, labels).tolist(),
        "groups": [_by_name(group_metrics(hit, everywhere, groups)) for hit in covered],
        "mean_size": mean_size(running).tolist(),
        "share_empty": _share_empty(running),
        "raw_coverage": coverage(sets, labels).tolist(),
        "raw_mean_size": mean_size(sets).tolist(),
        "raw_share_empty": _share_empty(sets),
        "consistency": consistency(sets).mean(1).tolist(),
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _share_empty(sets: Tensor) -> list[float]:
    return (~sets.any(-1)).double().mean(1).tolist()


def _tensors(per_exit: Tensor | Any, labels: Tensor | Any) -> tuple[Tensor, Tensor]:
    """Both on the CPU, where groups are."""
    return torch.as_tensor(per_exit, device="cpu"), torch.as_tensor(labels, device="cpu").long()


def _by_name(metrics: dict[str, Any]) -> dict[str, float | None]:
    """Name of every group to its accuracy, of `group_metrics`."""
    return {group["name"]: group["accuracy"] for group in metrics["groups"]}
