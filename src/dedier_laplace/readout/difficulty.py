"""Difficulty of a sample: signals read from what an early exit says of it.

`SIGNALS` tells every signal by name: raw, in its own unit and direction, and as the confidence in
[0, 1] that takes the place of the margin in DeDiER's weights.
"""

from __future__ import annotations

from collections.abc import Callable
from math import log
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from dedier_laplace.readout.predictive import Predictive


def confidence_margin(probabilities: Tensor | Any) -> Tensor:
    """cm = p_max - p_second (DeDiER, Tiwari et al. 2024, sec. 3.2).

    Args:
        probabilities: [N, C], rows sum to one.

    Returns:
        [N], from 0 (two classes tie) to 1 (certain). High on a wrong sample means a confident
        error: the sample contradicts what the early layer relies on.
    """
    top = torch.as_tensor(probabilities).topk(2, dim=-1).values
    return top[..., 0] - top[..., 1]


def predictive_entropy(probabilities: Tensor | Any) -> Tensor:
    """H[p] = -sum_c p_c ln p_c (Shannon 1948): all uncertainty, whatever it comes from.

    Args:
        probabilities: [..., C], rows sum to one.

    Returns:
        [...], nats, from 0 (certain) to ln C (uniform). High means uncertain.
    """
    return torch.special.entr(torch.as_tensor(probabilities)).sum(-1)


def mutual_information(probabilities: Tensor | Any, expected_entropy: Tensor | Any) -> Tensor:
    """H[p] - E[H] of label and weights: what more data would clear up (BALD, 1112.5745).

    Args:
        probabilities: [N, C], the mean of the softmax over draws.
        expected_entropy: [N], nats, the mean of its entropy over the same draws.

    Returns:
        [N], nats, from 0 (all draws agree) to ln C. High means that the posterior is undecided.
    """
    expected_entropy = torch.as_tensor(expected_entropy)
    return (predictive_entropy(probabilities) - expected_entropy).clamp_min(0)


def top_logit_variance(mean: Tensor, covariance: Tensor) -> Tensor:
    """Var[z_a - z_b] of the two classes a, b with the largest mean logits.

    The variance of MacKay's (1992) probit factor, for two classes; a shift of all logits, which the
    softmax ignores, leaves it alone.

    Args:
        mean: [N, C].
        covariance: [N, C, C].

    Returns:
        [N], squared logits, from 0 (no uncertainty) without bound. High means uncertain.
    """
    first, second = mean.topk(2, dim=-1).indices.unbind(-1)
    row = torch.arange(len(mean), device=mean.device)
    own = covariance[row, first, first] + covariance[row, second, second]
    return (own - covariance[row, first, second] - covariance[row, second, first]).clamp_min(0)


def set_size(sets: Tensor | Any) -> Tensor:
    """Number of labels in a prediction set (Jazbec et al. 2024, 2311.05931).

    Args:
        sets: bool [..., N, C].

    Returns:
        [..., N], labels, from 1 (decided) to C. High means uncertain. An empty set, of exits that
        contradict one another, counts as C: nothing can be ruled out.
    """
    sets = torch.as_tensor(sets)
    size = sets.sum(-1)
    return torch.where(size == 0, sets.shape[-1], size)


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
