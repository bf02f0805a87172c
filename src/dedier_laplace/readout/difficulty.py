"""Difficulty of a sample by the name of a signal, read from what an early exit says of it.

`SIGNALS` tells every signal: raw, in its own unit and direction, and as the confidence in [0, 1]
that takes the place of the margin in DeDiER's weights.
"""

from __future__ import annotations

from collections.abc import Callable
from math import log
from typing import NamedTuple

import torch
from torch import Tensor

from dedier_laplace.readout.predictive import Predictive
from dedier_laplace.readout.signals import (
    confidence_margin,
    mutual_information,
    predictive_entropy,
)


class Signal(NamedTuple):
    """A signal of N samples, [N], and the confidence [N] that it is worth among C classes."""

    raw: Callable[[Predictive], Tensor]
    confidence: Callable[[Tensor, int], Tensor]


def difficulty(kind: str, predictive: Predictive) -> Tensor:
    """The raw signal of that name, [N]: margin is high where confident, the others where uncertain.

    Raises:
        ValueError: there is no such signal, or the predictive does not carry it.
    """
    return _signal(kind).raw(predictive)


def confidence(kind: str, predictive: Predictive) -> Tensor:
    """What stands for cm in the weights: [N], from 0 (undecided) to 1 (certain).

    The margin itself; 1 - H / ln C; 1 - MI / ln C; 1 / sqrt(1 + pi / 8 * variance), MacKay's (1992)
    probit factor; 1 - (size - 1) / (C - 1). A confident error thus weighs more by every signal, as
    in DeDiER.

    Raises:
        ValueError: there is no such signal, or the predictive does not carry it.
    """
    n_classes = predictive.probabilities.shape[-1]
    found = _signal(kind).confidence(difficulty(kind, predictive), n_classes)
    return found.clamp(0, 1)  # rounding: the entropy of a uniform row may exceed ln C


def _signal(kind: str) -> Signal:
    if kind not in SIGNALS:
        raise ValueError(f"signal must be one of {', '.join(SIGNALS)}, not {kind!r}")
    return SIGNALS[kind]


def _mutual_information(predictive: Predictive) -> Tensor:
    if predictive.expected_entropy.isnan().any():
        raise ValueError(
            "mutual_information needs posterior draws: there are none with link probit"
        )
    return mutual_information(predictive.probabilities, predictive.expected_entropy)


def _set_size(predictive: Predictive) -> Tensor:
    if predictive.set_size is None:
        raise ValueError("set_size needs prediction sets, which this predictive was made without")
    return predictive.set_size.to(predictive.probabilities)


def _below_log_classes(nats: Tensor, n_classes: int) -> Tensor:
    return 1 - nats / log(n_classes)


SIGNALS = {
    "margin": Signal(lambda p: confidence_margin(p.probabilities), lambda margin, _: margin),
    "entropy": Signal(lambda p: predictive_entropy(p.probabilities), _below_log_classes),
    "mutual_information": Signal(_mutual_information, _below_log_classes),
    "logit_variance": Signal(
        lambda p: p.logit_variance, lambda variance, _: (1 + torch.pi / 8 * variance).rsqrt()
    ),
    "set_size": Signal(_set_size, lambda size, n_classes: 1 - (size - 1) / (n_classes - 1)),
}
