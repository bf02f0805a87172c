"""A linear readout with a Laplace posterior: fit, logit distribution, predictive.

p(W | D) ~ N(W_MAP, (GGN / temperature + prior_precision * I)^-1) over all weights and the bias
(Daxberger et al. 2021; at early exits Meronen et al. 2023, 2302.06359).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dedier_laplace.readout.linear_map import fit_map
from dedier_laplace.readout.posterior import (
    POSTERIORS,
    Hessian,
    Posterior,
    fit_curvature,
    posterior_of,
)
from dedier_laplace.readout.predictive import (
    Predictive,
    at_map,
    concatenate,
    monte_carlo,
    probit,
)
from dedier_laplace.readout.prior_search import by_marginal_likelihood, by_validation
from dedier_laplace.readout.scores import mean_nll

Link = Literal["mc", "probit", "map"]
PriorPrecision = float | Literal["marglik", "validation_nll"]
DRAWS_AT_ONCE = 2**24  # numbers in one chunk of logit draws; part of what a seed means


class LaplaceReadout:
    """A linear softmax head on features, with a Gaussian posterior over all its weights.

    A column of ones is appended to the features inside, so the bias is a weight like the others.
    Everything stays in the features' floating type and on their device.
    """

    weight: Tensor
    posterior: Posterior
    prior_precision: float
    posterior_temperature: float
    hessian: Hessian

    def fit(
        self,
        features: Tensor | Any,
        labels: Tensor | Any,
        *,
        prior_precision: PriorPrecision,
        hessian: Hessian = "kron",
        n_classes: int = 0,
        posterior_temperature: float = 1.0,
        validation: tuple[Tensor | Any, Tensor | Any] | None = None,
        batch_size: int | None = None,
        tolerance: float = 1e-5,
        start: Tensor | None = None,
        seed: int = 0,
    ) -> LaplaceReadout:
        """Find the MAP and the posterior around it.

        Args:
            features: [N, D].
            labels: [N], 0..C-1.
            prior_precision: of the Gaussian prior, which is the MAP's weight decay too; `marglik`
                alternates MAP fits with maximising the log marginal likelihood; `validation_nll`
                takes the decade whose probit predictive has the smallest NLL on `validation`.
            hessian: structure of the GGN: `kron` (Kronecker-factored), `full` or `diag`.
            n_classes: C; 0 means the largest label plus one.
            posterior_temperature: the posterior's precision is GGN / it + prior. MAP, prior and
                marginal likelihood are those at 1.
            validation: features [M, D] and labels [M], for `validation_nll`.
            batch_size, tolerance, seed: of the MAP fit, see `fit_map`.
            start: weight [C, D + 1] where the first MAP fit begins; None: zero.

        Returns:
            self.

        Raises:
            ValueError: no samples; shapes, prior_precision, hessian or temperature that cannot be;
                `validation_nll` without validation.
        """
        inputs, labels = _samples(features, labels)
        _check_settings(prior_precision, hessian, posterior_temperature, validation)
        n_classes = n_classes or int(labels.max()) + 1
        weight = inputs.new_zeros(n_classes, inputs.shape[1])
        if start is not None and start.shape != weight.shape:
            raise ValueError(f"start must be of shape {tuple(weight.shape)}, not {start.shape}")
        weight = weight if start is None else start.to(weight)

        def approximate(prior: float, start: Tensor) -> tuple[Tensor, Any]:
            found = fit_map(
                inputs, labels, prior, start, tolerance=tolerance, batch_size=batch_size, seed=seed
            )
            return found, fit_curvature(inputs, labels, found, prior, hessian)

        self.hessian, self.posterior_temperature = hessian, posterior_temperature
        if prior_precision == "marglik":
            prior, weight = by_marginal_likelihood(approximate, weight)
        elif prior_precision == "validation_nll":
            assert validation is not None
            prior, weight = by_validation(approximate, weight, partial(self._nll, *validation))
        else:
            prior = float(prior_precision)
        self.prior_precision = prior
        self.weight, curvature = approximate(prior, weight)
        self._log_marginal_likelihood = float(curvature.log_marginal_likelihood())
        self.posterior = posterior_of(curvature, hessian, inputs, posterior_temperature)
        return self

    def logits(self, features: Tensor | Any) -> Tensor:
        """MAP logits [N, C]: their mean under the posterior."""
        return with_ones(features).to(self.weight) @ self.weight.T

    def logit_distribution(self, features: Tensor | Any) -> tuple[Tensor, Tensor]:
        """Mean [N, C] and covariance [N, C, C] of the logits under the posterior."""
        inputs = with_ones(features).to(self.weight)
        return inputs @ self.weight.T, self.posterior.logit_covariance(inputs)

    def predictive(
        self, features: Tensor | Any, *, link: Link = "mc", n_samples: int = 100, seed: int = 0
    ) -> Predictive:
        """The posterior predictive E[softmax(logits)], and how unsure it is.

        Args:
            features: [N, D].
            link: `mc`: mean over `n_samples` draws in logit space, independent across samples;
                `probit`: softmax(kappa * z) with the covariance centred over classes, which the
                softmax ignores, and without draws no expected entropy: NaN; `map`: softmax at the
                MAP, no uncertainty.
            n_samples: draws per sample of `mc`.
            seed: of the draws; the same seed gives the same probabilities.

        Raises:
            ValueError: an unknown link, or features that are not [N, D].
        """
        if link == "map":
            return at_map(self.logits(features))
        integrate: Callable[[Tensor, Tensor], Predictive]
        if link == "mc":
            generator = torch.Generator().manual_seed(seed)
            integrate = partial(monte_carlo, n_samples=n_samples, generator=generator)
        elif link == "probit":
            integrate, n_samples = partial(probit), 1
        else:
            raise ValueError(f"link must be mc, probit or map, not {link!r}")
        n_classes = len(self.weight)
        rows = max(1, DRAWS_AT_ONCE // (n_classes * max(n_samples, n_classes)))
        parts = torch.as_tensor(features).split(rows)
        return concatenate([integrate(*self.logit_distribution(part)) for part in parts])

    def predict(
        self, features: Tensor | Any, *, link: Link = "mc", n_samples: int = 100, seed: int = 0
    ) -> Tensor:
        """The probabilities [N, C] of `predictive`, which says more."""
        return self.predictive(features, link=link, n_samples=n_samples, seed=seed).probabilities

    def log_marginal_likelihood(self) -> float:
        """Laplace estimate of log p(labels | features, prior_precision), at temperature 1."""
        return self._log_marginal_likelihood

    def save(self, folder: Path) -> None:
        """Write `readout.safetensors` and `readout.json` into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {"weight": self.weight, **vars(self.posterior)}
        save_file({name: t.cpu().contiguous() for name, t in tensors.items()}, folder / _TENSORS)
        facts = {
            "hessian": self.hessian,
            "prior_precision": self.prior_precision,
            "posterior_temperature": self.posterior_temperature,
            "log_marginal_likelihood": self._log_marginal_likelihood,
        }
        (folder / _FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> LaplaceReadout:
        """Read what `save` wrote."""
        readout, tensors = cls(), load_file(folder / _TENSORS)
        facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
        readout.weight = tensors.pop("weight")
        readout.hessian, readout.prior_precision = facts["hessian"], facts["prior_precision"]
        readout.posterior_temperature = facts["posterior_temperature"]
        readout.posterior = POSTERIORS[readout.hessian](**tensors)
        readout._log_marginal_likelihood = facts["log_marginal_likelihood"]
        return readout

    def _nll(
        self, features: Tensor | Any, labels: Tensor | Any, weight: Tensor, curvature: Any
    ) -> float:
        """Of held-out samples, by the probit predictive of a candidate."""
        self.weight, self.posterior = weight, posterior_of(curvature, self.hessian, weight)
        labels = torch.as_tensor(labels, device=weight.device).long()
        return mean_nll(self.predict(features, link="probit"), labels)


_TENSORS, _FACTS = "readout.safetensors", "readout.json"


def with_ones(features: Tensor | Any) -> Tensor:
    """[N, D + 1]: features [N, D], as floats, with a column of ones behind them.

    Raises:
        ValueError: they are not [N, D].
    """
    features = torch.as_tensor(features)
    if not features.is_floating_point():
        features = features.float()
    if features.ndim != 2:
        raise ValueError(f"features must be [N, D], not of shape {tuple(features.shape)}")
    return torch.cat([features, features.new_ones(len(features), 1)], dim=1)


def _samples(features: Tensor | Any, labels: Tensor | Any) -> tuple[Tensor, Tensor]:
    """Inputs [N, D + 1] and labels [N]."""
    inputs = with_ones(features)
    labels = torch.as_tensor(labels, device=inputs.device).long()
    if labels.shape != inputs.shape[:1] or not len(labels):
        raise ValueError(f"{len(inputs)} feature rows and labels of shape {labels.shape}")
    return inputs, labels


def _check_settings(
    prior_precision: PriorPrecision, hessian: str, temperature: float, validation: Any
) -> None:
    if hessian not in POSTERIORS:
        raise ValueError(f"hessian must be one of {', '.join(POSTERIORS)}, not {hessian!r}")
    if prior_precision == "validation_nll":
        if validation is None:
            raise ValueError("prior_precision validation_nll needs validation features and labels")
    elif prior_precision != "marglik" and not 0 < float(prior_precision) < float("inf"):
        raise ValueError(f"prior_precision must be above 0, not {prior_precision!r}")
    if not 0 < temperature < float("inf"):
        raise ValueError(f"posterior_temperature must be above 0, not {temperature!r}")
