"""A linear readout with a Laplace posterior: fit, logit distribution, predictive.

p(W | D) ~ N(W_MAP, (GGN + prior_precision * I)^-1) over all weights and the bias. The curvature
comes from laplace-torch (Daxberger et al. 2021); logit mean and covariance are closed forms of its
factors (Meronen et al. 2023, 2302.06359, sec. 3.2), so no Jacobian is ever built.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dedier_laplace.readout.linear_map import fit_map

Hessian = Literal["kron", "full"]
Link = Literal["mc", "probit", "map"]
MARGLIK_ROUNDS = 10
MARGLIK_TOLERANCE = 0.05  # relative change of the prior precision that ends the rounds
MARGLIK_BOUNDS = (1e-4, 1e6)  # search interval of the prior precision
DRAWS_AT_ONCE = 2**24  # numbers drawn in one chunk of Monte Carlo; part of what a seed means


@dataclass(frozen=True)
class KroneckerPosterior:
    """Posterior covariance (B (x) A + prior I)^-1 in the eigenbases of B [C, C] and A [D, D]."""

    class_vectors: Tensor
    class_values: Tensor
    input_vectors: Tensor
    input_values: Tensor
    prior_precision: Tensor

    def logit_covariance(self, inputs: Tensor) -> Tensor:
        """[N, C, C] for inputs [N, D]."""
        precision = torch.outer(self.class_values, self.input_values) + self.prior_precision
        projected = (inputs @ self.input_vectors).square()
        variances = projected @ precision.reciprocal().T
        return torch.einsum("ck,nk,dk->ncd", self.class_vectors, variances, self.class_vectors)


@dataclass(frozen=True)
class FullPosterior:
    """Posterior covariance of the weights, [C, D, C, D]."""

    covariance: Tensor

    def logit_covariance(self, inputs: Tensor) -> Tensor:
        """[N, C, C] for inputs [N, D]."""
        half = torch.einsum("cidj,nj->ncid", self.covariance, inputs)
        return torch.einsum("ncid,ni->ncd", half, inputs)


POSTERIORS = {"kron": KroneckerPosterior, "full": FullPosterior}


class LaplaceReadout:
    """A linear softmax head on features, with a Gaussian posterior over all its weights.

    A column of ones is appended to the features inside, so the bias is a weight like the others.
    Everything stays in the features' floating type and on their device.
    """

    weight: Tensor
    posterior: KroneckerPosterior | FullPosterior
    prior_precision: float
    hessian: Hessian

    def fit(
        self,
        features: Tensor | Any,
        labels: Tensor | Any,
        *,
        prior_precision: float | Literal["marglik"],
        hessian: Hessian = "kron",
        n_classes: int = 0,
    ) -> LaplaceReadout:
        """Find the MAP and the posterior around it.

        Args:
            features: [N, D].
            labels: [N], 0..C-1.
            prior_precision: of the Gaussian prior, which is the MAP's weight decay too; `marglik`
                alternates MAP fits with maximising the log marginal likelihood.
            hessian: `kron` (Kronecker-factored GGN) or `full`.
            n_classes: C; 0 means the largest label plus one.

        Returns:
            self.

        Raises:
            ValueError: no samples, or shapes or prior_precision that cannot be.
        """
        inputs = _with_ones(features)
        labels = torch.as_tensor(labels, device=inputs.device).long()
        if labels.shape != inputs.shape[:1] or not len(labels):
            raise ValueError(f"{len(inputs)} feature rows and labels of shape {labels.shape}")
        if hessian not in POSTERIORS:
            raise ValueError(f"hessian must be one of {', '.join(POSTERIORS)}, not {hessian!r}")
        search = prior_precision == "marglik"
        prior = 1.0 if search else float(prior_precision)
        if not 0 < prior < float("inf"):
            raise ValueError(f"prior_precision must be above 0, not {prior_precision!r}")
        n_classes = n_classes or int(labels.max()) + 1
        weight = inputs.new_zeros(n_classes, inputs.shape[1])
        for _ in range(MARGLIK_ROUNDS if search else 0):
            weight = fit_map(inputs, labels, prior, start=weight)
            curvature = _curvature(inputs, labels, weight, prior, hessian)
            before, prior = prior, _best_prior_precision(curvature)
            if abs(prior - before) <= MARGLIK_TOLERANCE * before:
                break
        weight = fit_map(inputs, labels, prior, start=weight)
        curvature = _curvature(inputs, labels, weight, prior, hessian)
        self.weight, self.prior_precision, self.hessian = weight, prior, hessian
        self.posterior = _posterior(curvature, n_classes)
        self._log_marginal_likelihood = float(curvature.log_marginal_likelihood())
        return self

    def logit_distribution(self, features: Tensor | Any) -> tuple[Tensor, Tensor]:
        """Mean [N, C] and covariance [N, C, C] of the logits under the posterior."""
        inputs = _with_ones(features).to(self.weight)
        return inputs @ self.weight.T, self.posterior.logit_covariance(inputs)

    def predict(
        self, features: Tensor | Any, *, link: Link = "mc", n_samples: int = 100, seed: int = 0
    ) -> Tensor:
        """Class probabilities [N, C] of the posterior predictive E[softmax(logits)].

        Args:
            features: [N, D].
            link: `mc`: mean over `n_samples` draws in logit space, independent across samples;
                `probit`: softmax(kappa * z) with the covariance centred over classes, which the
                softmax ignores; `map`: softmax at the MAP, no uncertainty.
            n_samples: draws per sample of `mc`.
            seed: of the draws; the same seed gives the same probabilities.

        Raises:
            ValueError: an unknown link, or features that are not [N, D].
        """
        if link == "map":
            return (_with_ones(features).to(self.weight) @ self.weight.T).softmax(-1)
        if link == "probit":
            return _probit(*self.logit_distribution(features))
        if link != "mc":
            raise ValueError(f"link must be mc, probit or map, not {link!r}")
        return torch.cat(list(self._monte_carlo(torch.as_tensor(features), n_samples, seed)))

    def log_marginal_likelihood(self) -> float:
        """Laplace estimate of log p(labels | features, prior_precision)."""
        return self._log_marginal_likelihood

    def save(self, folder: Path) -> None:
        """Write `readout.safetensors` and `readout.json` into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {"weight": self.weight, **vars(self.posterior)}
        save_file({name: t.cpu().contiguous() for name, t in tensors.items()}, folder / _TENSORS)
        facts = {
            "hessian": self.hessian,
            "prior_precision": self.prior_precision,
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
        readout.posterior = POSTERIORS[readout.hessian](**tensors)
        readout._log_marginal_likelihood = facts["log_marginal_likelihood"]
        return readout

    def _monte_carlo(self, features: Tensor, n_samples: int, seed: int) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(seed)
        n_classes = len(self.weight)
        chunk = max(1, DRAWS_AT_ONCE // (n_samples * n_classes))
        for part in features.split(chunk):
            mean, covariance = self.logit_distribution(part)
            values, vectors = torch.linalg.eigh(covariance)
            root = vectors * values.clamp_min(0).sqrt().unsqueeze(-2)
            noise = torch.randn(
                len(part), n_samples, n_classes, generator=generator, dtype=mean.dtype
            ).to(mean.device)
            draws = mean.unsqueeze(1) + noise @ root.mT
            yield draws.softmax(-1).mean(1)


_TENSORS, _FACTS = "readout.safetensors", "readout.json"


def _with_ones(features: Tensor | Any) -> Tensor:
    features = torch.as_tensor(features)
    if not features.is_floating_point():
        features = features.float()
    if features.ndim != 2:
        raise ValueError(f"features must be [N, D], not of shape {tuple(features.shape)}")
    return torch.cat([features, features.new_ones(len(features), 1)], dim=1)


def _probit(mean: Tensor, covariance: Tensor) -> Tensor:
    mean = mean - mean.mean(-1, keepdim=True)
    centred = covariance - covariance.mean(-1, keepdim=True)
    variance = (centred - centred.mean(-2, keepdim=True)).diagonal(dim1=-2, dim2=-1)
    return (mean / (1 + torch.pi / 8 * variance).sqrt()).softmax(-1)


class _OneBatch:
    """All samples as the one batch of a data loader: the Kronecker factors are then exact."""

    def __init__(self, inputs: Tensor, labels: Tensor) -> None:
        self.dataset = labels
        self._batch = inputs, labels

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield self._batch

    def __len__(self) -> int:
        return 1


def _curvature(
    inputs: Tensor, labels: Tensor, weight: Tensor, prior: float, hessian: Hessian
) -> Any:
    """laplace-torch's approximation around `weight`."""
    from laplace import Laplace

    head = nn.Linear(weight.shape[1], weight.shape[0], bias=False).to(weight)
    head.weight.data.copy_(weight)
    curvature = Laplace(
        head,
        "classification",
        subset_of_weights="all",
        hessian_structure=hessian,
        prior_precision=prior,
    )
    with _defaults_like(inputs):
        curvature.fit(_OneBatch(inputs, labels))  # type: ignore[arg-type]
    return curvature


@contextmanager
def _defaults_like(tensor: Tensor) -> Iterator[None]:
    """New tensors get this one's type and device: laplace-torch makes identities without either."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(tensor.dtype)
    try:
        with tensor.device:
            yield
    finally:
        torch.set_default_dtype(before)


def _best_prior_precision(curvature: Any) -> float:
    """argmax of the log marginal likelihood at the present MAP."""
    from math import exp, log

    from scipy.optimize import minimize_scalar

    def negative(log_prior: float) -> float:
        prior = torch.tensor([exp(log_prior)], dtype=curvature.mean.dtype)
        return -float(curvature.log_marginal_likelihood(prior))

    bounds = tuple(log(bound) for bound in MARGLIK_BOUNDS)
    return exp(minimize_scalar(negative, bounds=bounds, method="bounded").x)


def _posterior(curvature: Any, n_classes: int) -> KroneckerPosterior | FullPosterior:
    if curvature._key[1] == "full":
        covariance = curvature.posterior_covariance.detach()
        n_inputs = len(covariance) // n_classes
        shape = (n_classes, n_inputs, n_classes, n_inputs)
        return FullPosterior(covariance.reshape(shape).contiguous())
    precision = curvature.posterior_precision
    (class_values, input_values), (class_vectors, input_vectors) = (
        precision.eigenvalues[0],
        precision.eigenvectors[0],
    )
    return KroneckerPosterior(
        class_vectors.detach().contiguous(),
        class_values.detach(),
        input_vectors.detach().contiguous(),
        input_values.detach(),
        precision.deltas[0].detach().reshape(()),
    )
