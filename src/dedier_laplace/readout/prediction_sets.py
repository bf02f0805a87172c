"""Nested prediction sets of early exits: anytime-valid confidence sequences over classes.

Jazbec et al. 2024 (2311.05931) and its code. Exit e gives the class probabilities pi_e a
Dirichlet posterior; its predictive ratio R_e(y) = E[pi_e(y)] / pi_e(y), pi_e drawn once a sample,
is multiplied over the exits, and a class stays in the set while the product is at most 1/alpha.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.random import SeedSequence
from torch import Tensor


def prediction_sets(
    logits: Tensor | Any,
    thresholds: Tensor | Any,
    alpha: float,
    *,
    draws: Sequence[Sequence[float]] | None = None,
    seed: int | None = None,
) -> Tensor:
    """y is in the set of exit e iff prod_{i <= e} R_i(y) <= 1/alpha.

    R_i(y) = (a_i(y) / sum_c a_i(c)) / pi_i(y), pi_i ~ Dirichlet(a_i), where a_i(y) is the logit of
    y at exit i if that is positive and at least the exit's threshold. Every other class is outside
    the Dirichlet's support: its R is infinite, and it is out from this exit on. A class whose
    product is finite may come back, hence `running_intersection`.

    Args:
        logits: [E, N, C], first exit first.
        thresholds: [E].
        alpha: share of samples whose label the sets may miss, in (0, 1).
        draws: pi on its support, sample by sample and within a sample exit by exit: N * E lists,
            an empty one for an empty support. None draws them.
        seed: of the draws; other than that of `calibrate_thresholds`, whose draws it would repeat.

    Returns:
        bool [E, N, C] on the CPU.

    Raises:
        ValueError: a shape, alpha or `draws` is wrong; or `draws` and `seed` are both given.
    """
    logits = _checked_logits(logits, alpha)
    thresholds = torch.as_tensor(thresholds, dtype=torch.float64, device="cpu")
    if thresholds.shape != logits.shape[:1]:
        raise ValueError(
            f"thresholds has shape {list(thresholds.shape)}; there are {len(logits)} exits, "
            "and each has one threshold"
        )
    if draws is None:
        streams = SeedSequence(seed).spawn(len(logits))
        ratios = torch.stack(
            [_drawn_ratios(*exit_) for exit_ in zip(logits, thresholds, streams, strict=True)]
        )
    elif seed is None:
        concentrations = _concentrations(logits, thresholds.view(-1, 1, 1))
        ratios = _ratios(concentrations, _given_draws(draws, concentrations > 0))
    else:
        raise ValueError("give draws or seed, not both: given draws leave nothing to seed")
    return _within(ratios, alpha)


def running_intersection(sets: Tensor | Any) -> Tensor:
    """The classes that were in every set so far: nested by construction.

    Args:
        sets: bool [E, N, C].

    Returns:
        bool [E, N, C].
    """
    return torch.as_tensor(sets, dtype=torch.bool).long().cumprod(0).bool()


def consistency(sets: Tensor | Any) -> Tensor:
    """|running intersection| / |set| at every exit; 1 where the set is empty.

    1 means that no class came back; 0 that none of the set had stayed throughout.

    Args:
        sets: bool [E, N, C].

    Returns:
        float64 [E, N].
    """
    sets = torch.as_tensor(sets, dtype=torch.bool)
    size = sets.sum(-1).double()
    return torch.where(size > 0, running_intersection(sets).sum(-1) / size, 1.0)


def coverage(sets: Tensor | Any, labels: Tensor | Any) -> Tensor:
    """Share of samples whose label is in the set.

    Args:
        sets: bool [E, N, C].
        labels: [N].

    Returns:
        float64 [E].

    Raises:
        ValueError: there is not one label a sample.
    """
    sets = torch.as_tensor(sets, dtype=torch.bool)
    return _at_labels(sets, _checked_labels(labels, sets)).double().mean(1)


def mean_size(sets: Tensor | Any) -> Tensor:
    """Mean number of classes in the set.

    Args:
        sets: bool [E, N, C].

    Returns:
        float64 [E].
    """
    return torch.as_tensor(sets, dtype=torch.bool).sum(-1).double().mean(1)


def calibrate_thresholds(
    logits: Tensor | Any,
    labels: Tensor | Any,
    alpha: float,
    *,
    step: float = 0.5,
    seed: int = 0,
) -> Tensor:
    """Thresholds as high as coverage allows: the smaller the supports, the smaller the sets.

    Exit by exit from the first, beginning at 0, a threshold is raised by `step` while the sets of
    every exit (not their running intersection) cover more than 1 - alpha of these samples, and
    while it stays below the exit's largest logit. Where thresholds of 0 cover no more than that,
    they stay 0. The greedy search of Jazbec et al.'s notebook, which tunes on all of its data, what
    it then evaluates included; give this one samples of their own, unseen in training.

    Args:
        logits: [E, N, C], first exit first.
        labels: [N].
        alpha: share of samples whose label the sets may miss, in (0, 1).
        step: of the search, > 0.
        seed: of the draws, which are those of `prediction_sets` with the same seed.

    Returns:
        float64 [E].

    Raises:
        ValueError: a shape, alpha or `step` is wrong.
    """
    logits = _checked_logits(logits, alpha)
    labels = _checked_labels(labels, logits)
    if not step > 0:
        raise ValueError(f"step is {step}; it must be above 0")
    streams = SeedSequence(seed).spawn(len(logits))

    def ratios_of_labels(e: int, threshold: float) -> Tensor:
        return _at_labels(_drawn_ratios(logits[e], threshold, streams[e]), labels)

    def covered(ratios: Tensor) -> bool:
        return bool((_within(ratios, alpha).double().mean(1) > 1 - alpha).all())

    thresholds = torch.zeros(len(logits), dtype=torch.float64)
    ratios = torch.stack([ratios_of_labels(e, 0.0) for e in range(len(logits))])
    if not covered(ratios):
        return thresholds
    for e in range(len(logits)):
        for threshold in np.arange(step, float(logits[e].max()), step):
            raised = ratios.clone()
            raised[e] = ratios_of_labels(e, threshold)
            if not covered(raised):
                break
            ratios, thresholds[e] = raised, threshold
    return thresholds


def _checked_logits(logits: Tensor | Any, alpha: float) -> Tensor:
    """`logits` in float64 on the CPU, [E, N, C]."""
    logits = torch.as_tensor(logits, dtype=torch.float64, device="cpu").detach()
    if logits.ndim != 3 or 0 in logits.shape:
        raise ValueError(f"logits has shape {list(logits.shape)}; it must be [exit, sample, class]")
    if not logits.isfinite().all():
        raise ValueError("logits holds a value that is not a finite number")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is {alpha}; it must lie between 0 and 1")
    return logits


def _checked_labels(labels: Tensor | Any, of: Tensor) -> Tensor:
    """`labels` beside `of` [E, N, C]."""
    labels = torch.as_tensor(labels, device=of.device).long()
    if labels.shape != of.shape[1:2]:
        raise ValueError(
            f"labels has shape {list(labels.shape)}; there are {of.shape[1]} samples, "
            "and each has one label"
        )
    return labels


def _at_labels(values: Tensor, labels: Tensor) -> Tensor:
    """The value of every sample's label, [..., N] of [..., N, C]."""
    return values[..., torch.arange(len(labels), device=values.device), labels]


def _concentrations(logits: Tensor, threshold: Tensor | float) -> Tensor:
    """The Dirichlet's concentrations, 0 off its support."""
    return torch.where(logits >= threshold, logits, 0.0).clamp_min(0)


def _ratios(concentrations: Tensor, pi: Tensor) -> Tensor:
    """E[pi] / pi over the last dimension; infinite off the support and where pi is 0."""
    expected = concentrations / concentrations.sum(-1, keepdim=True)
    return torch.where(concentrations > 0, expected / pi, torch.inf)


def _within(ratios: Tensor, alpha: float) -> Tensor:
    """Whether the product of the ratios up to every exit (dimension 0) is at most 1/alpha."""
    return ratios.cumprod(0) <= 1 / alpha


def _drawn_ratios(logits: Tensor, threshold: Tensor | float, stream: SeedSequence) -> Tensor:
    """One exit's ratios [N, C]; its own stream keeps other exits' thresholds out of its draws."""
    concentrations = _concentrations(logits, threshold)
    return _ratios(concentrations, _dirichlet(concentrations, np.random.default_rng(stream)))


def _dirichlet(concentrations: Tensor, rng: np.random.Generator) -> Tensor:
    """One draw a row, [N, C]; of no meaning in a row without support.

    Gamma draws normalised in logs, as g(a) = g(a + 1) * exp(-exponential / a) (Marsaglia & Tsang
    2000): those of a small concentration are below the smallest float.
    """
    shrink = torch.from_numpy(rng.standard_exponential(concentrations.shape)) / concentrations
    log_gamma = torch.from_numpy(rng.standard_gamma(concentrations.numpy() + 1)).log() - shrink
    off_support = concentrations == 0
    return log_gamma.masked_fill(off_support, torch.finfo(log_gamma.dtype).min).softmax(-1)


def _given_draws(draws: Sequence[Sequence[float]], support: Tensor) -> Tensor:
    """The caller's draws as pi [E, N, C], 0 off the support [E, N, C]."""
    by_sample = support.transpose(0, 1)
    n, exits = by_sample.shape[:2]
    if len(draws) != n * exits:
        raise ValueError(
            f"draws holds {len(draws)} lists; {n} samples at {exits} exits need {n * exits}"
        )
    for i, size in enumerate(by_sample.sum(-1).flatten().tolist()):
        if len(draws[i]) != size:
            raise ValueError(
                f"draws[{i}] (sample {i // exits}, exit {i % exits}) has {len(draws[i])} values; "
                f"{size} classes are in the support"
            )
    pi = torch.zeros(by_sample.shape, dtype=torch.float64)
    pi[by_sample] = torch.tensor([p for draw in draws for p in draw], dtype=torch.float64)
    return pi.transpose(0, 1)
