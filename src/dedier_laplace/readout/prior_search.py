"""The prior precision of a readout: by its marginal likelihood, or by what held-out samples say."""

from __future__ import annotations

from collections.abc import Callable
from math import exp, log, log10
from typing import Any

import torch
from torch import Tensor

PRIOR_BOUNDS = (1e-4, 1e6)  # of both searches
MARGLIK_ROUNDS = 10
MARGLIK_TOLERANCE = 0.05  # relative change of the prior precision that ends the rounds

# (prior precision, start [C, D]) -> MAP weight [C, D] and laplace-torch's curvature around it
Approximate = Callable[[float, Tensor], tuple[Tensor, Any]]


def by_marginal_likelihood(approximate: Approximate, start: Tensor) -> tuple[float, Tensor]:
    """Alternate MAP fits with maximising the log marginal likelihood (MacKay 1992).

    Args:
        approximate: fits MAP and curvature at a prior precision.
        start: [C, D], where the first MAP search begins.

    Returns:
        The prior precision, and the MAP weight [C, D] of the last but this prior.
    """
    prior, weight = 1.0, start
    for _ in range(MARGLIK_ROUNDS):
        weight, curvature = approximate(prior, weight)
        before, prior = prior, _most_likely(curvature)
        if abs(prior - before) <= MARGLIK_TOLERANCE * before:
            break
    return prior, weight


def by_validation(
    approximate: Approximate, start: Tensor, nll: Callable[[Tensor, Any], float]
) -> tuple[float, Tensor]:
    """The best of the prior precisions one decade apart, the strongest tried first.

    Args:
        approximate: fits MAP and curvature at a prior precision.
        start: [C, D], where the first MAP search begins; every other one where the last ended.
        nll: of held-out samples, given MAP weight and curvature.

    Returns:
        The prior precision with the smallest `nll`, and its MAP weight [C, D].
    """
    lowest, highest = (round(log10(bound)) for bound in PRIOR_BOUNDS)
    tried, weight = [], start
    for exponent in range(highest, lowest - 1, -1):
        weight, curvature = approximate(10.0**exponent, weight)
        tried.append((nll(weight, curvature), 10.0**exponent, weight))
    _, prior, weight = min(tried, key=lambda found: found[0])
    return prior, weight


def _most_likely(curvature: Any) -> float:
    """argmax of the log marginal likelihood at the present MAP."""
    from scipy.optimize import minimize_scalar

    def negative(log_prior: float) -> float:
        prior = torch.tensor([exp(log_prior)], dtype=curvature.mean.dtype)
        return -float(curvature.log_marginal_likelihood(prior))

    bounds = tuple(log(bound) for bound in PRIOR_BOUNDS)
    return exp(minimize_scalar(negative, bounds=bounds, method="bounded").x)
