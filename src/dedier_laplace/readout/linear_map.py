"""MAP estimate of a linear softmax head under a Gaussian prior, by preconditioned L-BFGS."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

MAX_ITERATIONS = 1000


def fit_map(inputs: Tensor, labels: Tensor, prior_precision: float, start: Tensor) -> Tensor:
    """argmin_W  sum_n CE(W x_n, y_n) + prior_precision / 2 * |W|^2  (strictly convex).

    Hidden states are far from white, which L-BFGS alone pays for with hundreds of steps. The search
    therefore runs over U with W = U S Q^T, where Q are the eigenvectors of X^T X and S makes the
    curvature about one in every direction. The objective stays the same.

    Args:
        inputs: X [N, D], a column of ones included where a bias is wanted: the prior covers it too.
        labels: [N], 0..C-1.
        prior_precision: > 0.
        start: [C, D], where the search begins.

    Returns:
        W [C, D] in the type of `inputs`.
    """
    n, n_classes = len(inputs), len(start)
    eigenvalues, eigenvectors = torch.linalg.eigh(inputs.mT @ inputs)
    bound = (n_classes - 1) / n_classes**2  # mean eigenvalue of diag(p) - p p^T at uniform p
    curvature = bound * eigenvalues.clamp_min(0) + prior_precision
    basis = eigenvectors / curvature.sqrt() * n**0.5  # Q S, for an objective divided by N
    whitened = inputs @ basis
    penalty = prior_precision * basis.square().sum(0) / (2 * n)
    u = torch.linalg.solve(basis, start.to(inputs).mT).mT.contiguous().requires_grad_()
    precise = inputs.dtype == torch.float64
    optimizer = torch.optim.LBFGS(
        [u],
        max_iter=MAX_ITERATIONS,
        tolerance_grad=1e-12 if precise else 1e-5,
        tolerance_change=0 if precise else 1e-9,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def objective() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(whitened @ u.T, labels) + (penalty * u.square()).sum()
        loss.backward()
        return loss

    optimizer.step(objective)
    return u.detach() @ basis.mT
