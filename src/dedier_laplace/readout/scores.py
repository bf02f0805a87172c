"""How good and how honest a readout is."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics.functional.classification import multiclass_calibration_error

ECE_BINS = 15


def readout_scores(probabilities: Tensor, labels: Tensor) -> dict[str, float]:
    """Accuracy, negative log likelihood (nats) and expected calibration error (15 equal bins).

    Args:
        probabilities: [N, C].
        labels: [N].
    """
    ece = multiclass_calibration_error(
        probabilities, labels, num_classes=probabilities.shape[1], n_bins=ECE_BINS
    )
    return {
        "accuracy": float((probabilities.argmax(1) == labels).float().mean()),
        "nll": mean_nll(probabilities, labels),
        "ece": float(ece),
    }


def mean_nll(probabilities: Tensor, labels: Tensor) -> float:
    """Mean of -ln p(label), nats, for probabilities [N, C] and labels [N]."""
    of_label = probabilities.gather(1, labels.unsqueeze(1)).clamp_min(torch.finfo().tiny)
    return float(-of_label.log().mean())
