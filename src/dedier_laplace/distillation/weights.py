"""Per-sample weights from a readout's predictive, and what a set of weights looks like."""

from __future__ import annotations

from typing import Any, Literal

import torch
from scipy.stats import spearmanr
from torch import Tensor

from dedier_laplace.config.readout import Aux, Signal
from dedier_laplace.data.attributes import Groups
from dedier_laplace.errors import UserError
from dedier_laplace.readout.predictive import Kind
from dedier_laplace.readout.signals import confidence_margin


def sample_weights(
    probabilities: Tensor | Any,
    labels: Tensor | Any,
    *,
    alpha: float,
    beta: float,
    reweight_on: Literal["wrong", "all"] = "wrong",
    normalize: Literal["none", "mean"] = "none",
    confidence: Tensor | None = None,
) -> Tensor:
    """wt = exp(beta * c^alpha) where the readout is wrong, 1 elsewhere.

    DeDiER (Tiwari et al. 2024, eq. 2 and its code), where c is the confidence margin cm.

    Args:
        probabilities: the readout's, [N, C].
        labels: [N].
        alpha: exponent of the confidence, >= 0.
        beta: scale, >= 0; 0 gives every sample weight 1.
        reweight_on: `wrong` (argmax differs from the label) or `all`.
        normalize: `mean` divides by the mean over the N samples.
        confidence: c [N], 0 to 1 (see `readout.difficulty.confidence`); None: the margin.

    Returns:
        [N], in the type of `probabilities`.
    """
    probabilities = torch.as_tensor(probabilities)
    labels = torch.as_tensor(labels, device=probabilities.device)
    c = confidence_margin(probabilities) if confidence is None else confidence
    weights = torch.exp(beta * c**alpha)
    if reweight_on == "wrong":
        wrong = probabilities.argmax(-1) != labels
        weights = torch.where(wrong, weights, torch.ones_like(weights))
    return weights / weights.mean() if normalize == "mean" else weights


def error_set_weights(
    errors: Tensor, upweight: float, normalize: Literal["none", "mean"] = "none"
) -> Tensor:
    """`upweight` on JTT's error set, 1 elsewhere (Liu et al. 2021, algorithm 1).

    Args:
        errors: bool [N].
        upweight: lambda_up; 1 leaves plain training.
        normalize: `mean` divides by the mean over the N samples.

    Returns:
        [N].
    """
    weights = torch.where(errors, upweight, 1.0)
    return weights / weights.mean() if normalize == "mean" else weights


def check_signal(signal: Signal, predictive: Kind, aux: Aux) -> None:
    """Refuse a signal that a method's predictive does not carry.

    Raises:
        UserError: it needs a posterior, or draws from it, that are not there.
    """
    several = aux.layers == "all" or len(aux.layers) > 1  # whose disagreement is information too
    if predictive == "map" and (
        signal == "logit_variance" or (signal == "mutual_information" and not several)
    ):
        raise UserError(
            f"weights.signal is {signal}, which comes from the posterior, but this method reads "
            "the MAP softmax alone; set student.method to laplace, or the signal to margin or "
            "entropy."
        )
    links = {"mutual_information": ("mc",), "logit_variance": ("mc", "probit")}.get(signal)
    if links and predictive == "laplace" and aux.laplace.link not in links:
        raise UserError(
            f"weights.signal is {signal}, which aux.laplace.link: {aux.laplace.link} does not "
            f"give; set the link to {' or '.join(links)}."
        )


def effective_sample_size(weights: Tensor) -> float:
    """(sum wt)^2 / sum wt^2 (Kish): N for equal weights, 1 if one sample has all."""
    return float(weights.sum() ** 2 / weights.square().sum())


def describe_weights(weights: Tensor, reweighted: Tensor, groups: Groups) -> dict[str, Any]:
    """What an epoch's weights look like, overall and per group.

    Args:
        weights: [N].
        reweighted: bool [N], samples whose weight depends on the readout.
        groups: of the same samples.
    """

    def summary(chosen: Tensor) -> dict[str, float | None]:
        if not len(chosen) or not bool(chosen.any()):
            return {"mean": None, "max": None, "share_reweighted": None}
        return {
            "mean": float(weights[chosen].mean()),
            "max": float(weights[chosen].max()),
            "share_reweighted": float(reweighted[chosen].float().mean()),
        }

    index = torch.as_tensor(groups.index)
    return {
        **summary(torch.ones_like(index, dtype=torch.bool)),
        "effective_sample_size": effective_sample_size(weights),
        "groups": {name: summary(index == number) for number, name in enumerate(groups.names)},
    }


def weight_shift(weights: Tensor, reference: Tensor) -> dict[str, float | None]:
    """How far weights are from reference weights: mean |w - r| / r and Spearman's correlation."""
    constant = len(weights.unique()) < 2 or len(reference.unique()) < 2
    return {
        "mean_relative_change": float(((weights - reference).abs() / reference).mean()),
        "rank_correlation": None if constant else float(spearmanr(weights, reference).statistic),
    }
