"""Signals of how sure a readout is of a sample: pure functions, one a signal.

Each tells its range and what high means; `difficulty` knows them by name.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


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
