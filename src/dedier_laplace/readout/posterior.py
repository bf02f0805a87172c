"""Gaussian posteriors of a linear head around its MAP, by the structure of the curvature.

The curvature is the generalised Gauss-Newton matrix (GGN) of the summed cross-entropy, from
laplace-torch (Daxberger et al. 2021). Logit covariances are closed forms of its factors, so no
Jacobian is ever built.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

Hessian = Literal["kron", "full", "diag"]
ROWS_AT_ONCE = 1024  # samples whose Jacobians laplace-torch holds at a time


@dataclass(frozen=True)
class KroneckerPosterior:
    """Posterior covariance (B (x) A + prior I)^-1 in the eigenbases of B [C, C] and A [D, D].

    Meronen et al. 2023 (2302.06359), sec. 3.2.
    """

    class_vectors: Tensor
    class_values: Tensor
    input_vectors: Tensor
    input_values: Tensor
    prior_precision: Tensor

    @classmethod
    def of(cls, curvature: Any) -> KroneckerPosterior:
        """From laplace-torch's KronLaplace."""
        precision = curvature.posterior_precision
        class_values, input_values = precision.eigenvalues[0]
        class_vectors, input_vectors = precision.eigenvectors[0]
        return cls(
            class_vectors.detach().contiguous(),
            class_values.detach(),
            input_vectors.detach().contiguous(),
            input_values.detach(),
            precision.deltas[0].detach().reshape(()),
        )

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

    @classmethod
    def of(cls, curvature: Any) -> FullPosterior:
        """From laplace-torch's FullLaplace."""
        covariance, n_classes = curvature.posterior_covariance.detach(), curvature.n_outputs
        n_inputs = len(covariance) // n_classes
        shape = (n_classes, n_inputs, n_classes, n_inputs)
        return cls(covariance.reshape(shape).contiguous())

    def logit_covariance(self, inputs: Tensor) -> Tensor:
        """[N, C, C] for inputs [N, D]."""
        half = torch.einsum("cidj,nj->ncid", self.covariance, inputs)
        return torch.einsum("ncid,ni->ncd", half, inputs)


@dataclass(frozen=True)
class DiagonalPosterior:
    """Posterior variance of every weight, [C, D]: weights and logits are independent."""

    variance: Tensor

    @classmethod
    def of(cls, curvature: Any) -> DiagonalPosterior:
        """From laplace-torch's DiagLaplace."""
        variance = curvature.posterior_variance.detach()
        return cls(variance.reshape(curvature.n_outputs, -1).contiguous())

    def logit_covariance(self, inputs: Tensor) -> Tensor:
        """[N, C, C] for inputs [N, D], zero off the diagonal."""
        return torch.diag_embed(inputs.square() @ self.variance.T)


Posterior = KroneckerPosterior | FullPosterior | DiagonalPosterior
POSTERIORS: dict[str, type[Posterior]] = {
    "kron": KroneckerPosterior,
    "full": FullPosterior,
    "diag": DiagonalPosterior,
}


def posterior_of(
    curvature: Any, hessian: Hessian, like: Tensor, temperature: float = 1.0
) -> Posterior:
    """The Gaussian with precision GGN / temperature + prior: laplace-torch's tempered likelihood.

    At temperature 2, N samples count as N / 2; towards 0 the posterior shrinks to the MAP.
    `curvature` is left tempered: use it for no other temperature, nor its marginal likelihood. The
    posterior is of the floating type of `like`.
    """
    curvature.temperature = temperature
    found = POSTERIORS[hessian].of(curvature)
    return type(found)(**{name: tensor.to(like) for name, tensor in vars(found).items()})


def fit_curvature(
    inputs: Tensor, labels: Tensor, weight: Tensor, prior: float, hessian: Hessian
) -> Any:
    """laplace-torch's approximation around `weight` [C, D], for inputs [N, D] and labels [N]."""
    from laplace import Laplace

    if hessian == "full":  # float32 cannot factor a GGN of fewer samples than weights
        inputs, weight = inputs.double(), weight.double()
    n_classes, n_inputs = weight.shape  # not initialised: that would draw from the global generator
    head = nn.utils.skip_init(nn.Linear, n_inputs, n_classes, bias=False).to(weight)
    head.weight.data.copy_(weight)
    curvature = Laplace(
        head,
        "classification",
        subset_of_weights="all",
        hessian_structure=hessian,
        prior_precision=prior,
    )
    rows = len(inputs) if hessian == "kron" else ROWS_AT_ONCE
    with _defaults_like(inputs):
        curvature.fit(_Batches(inputs, labels, rows))  # type: ignore[arg-type]
    return curvature


class _Batches:
    """A data loader of `rows` samples at a time.

    Sums over samples do not mind being cut; Kronecker factors do, and are exact in one batch alone.
    """

    def __init__(self, inputs: Tensor, labels: Tensor, rows: int) -> None:
        self.dataset = labels
        self._batches = list(zip(inputs.split(rows), labels.split(rows), strict=True))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(self._batches)

    def __len__(self) -> int:
        return len(self._batches)


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
