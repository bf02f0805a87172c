"""The predictive distribution of a readout: what Gaussian logits say of class probabilities.

Pure functions of logit mean [N, C] and covariance [N, C, C].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dedier_laplace.readout.signals import predictive_entropy, top_logit_variance

Kind = Literal["map", "laplace"]  # softmax at the MAP, or the posterior predictive


@dataclass(frozen=True)
class Predictive:
    """What a readout says of N samples.

    Attributes:
        probabilities: [N, C].
        expected_entropy: [N], nats: mean entropy of the softmax over posterior draws; at the MAP
            the entropy itself; NaN where nothing was drawn (link probit).
        logit_variance: [N]: posterior variance of the difference of the two largest mean logits, 0
            at the MAP.
        set_size: [N], labels in the nested prediction set of several exits, where asked for.
    """

    probabilities: Tensor
    expected_entropy: Tensor
    logit_variance: Tensor
    set_size: Tensor | None = None


def at_map(logits: Tensor) -> Predictive:
    """softmax(logits), logits [N, C] taken for certain."""
    probabilities = logits.softmax(-1)
    return Predictive(
        probabilities, predictive_entropy(probabilities), torch.zeros_like(logits[..., 0])
    )


def probit(mean: Tensor, covariance: Tensor) -> Predictive:
    """softmax(kappa * z), kappa = 1 / sqrt(1 + pi / 8 * variance) (MacKay 1992), no draws.

    Mean and covariance are centred over the classes first: the softmax ignores what they share.
    """
    mean_centred = mean - mean.mean(-1, keepdim=True)
    centred = covariance - covariance.mean(-1, keepdim=True)
    variance = (centred - centred.mean(-2, keepdim=True)).diagonal(dim1=-2, dim2=-1)
    return Predictive(
        (mean_centred / (1 + torch.pi / 8 * variance).sqrt()).softmax(-1),
        torch.full_like(mean[..., 0], torch.nan),
        top_logit_variance(mean, covariance),
    )


def monte_carlo(
    mean: Tensor, covariance: Tensor, *, n_samples: int, generator: torch.Generator
) -> Predictive:
    """Mean softmax over `n_samples` draws of the logits, independent across samples.

    `generator` is one of the CPU.
    """
    values, vectors = torch.linalg.eigh(covariance)
    root = vectors * values.clamp_min(0).sqrt().unsqueeze(-2)
    shape = (len(mean), n_samples, mean.shape[-1])
    noise = torch.randn(shape, generator=generator, dtype=mean.dtype).to(mean.device)
    draws = (mean.unsqueeze(1) + noise @ root.mT).softmax(-1)
    return Predictive(
        draws.mean(1), predictive_entropy(draws).mean(1), top_logit_variance(mean, covariance)
    )


def mixture(predictives: Sequence[Predictive]) -> Predictive:
    """The equal-weight mixture of what several readouts say of the same samples.

    Probabilities and expected entropies are averaged, as a draw from a mixture is a draw from one
    of its members: their disagreement counts as mutual information, at the MAP too. Logit variances
    are averaged as well, which leaves disagreement out. Set sizes are not carried over.

    Raises:
        ValueError: there is none.
    """
    if not predictives:
        raise ValueError("a mixture needs at least one predictive")
    return Predictive(
        torch.stack([each.probabilities for each in predictives]).mean(0),
        torch.stack([each.expected_entropy for each in predictives]).mean(0),
        torch.stack([each.logit_variance for each in predictives]).mean(0),
    )


def concatenate(predictives: Sequence[Predictive]) -> Predictive:
    """One predictive of the samples of several, without their set sizes."""
    return Predictive(
        torch.cat([each.probabilities for each in predictives]),
        torch.cat([each.expected_entropy for each in predictives]),
        torch.cat([each.logit_variance for each in predictives]),
    )
