"""MAP estimate of a linear softmax head under a Gaussian prior, by preconditioned descent."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

MAX_ITERATIONS = 1000  # of L-BFGS
MAX_EPOCHS = 500  # of minibatches
DOUBLE_TOLERANCE = 1e-12  # of L-BFGS on float64, where the caller asks for less


def fit_map(
    inputs: Tensor,
    labels: Tensor,
    prior_precision: float,
    start: Tensor,
    *,
    tolerance: float = 1e-5,
    batch_size: int | None = None,
    seed: int = 0,
) -> Tensor:
    """argmin_W  sum_n CE(W x_n, y_n) + prior_precision / 2 * |W|^2  (strictly convex).

    Hidden states are far from white, which descent alone pays for with hundreds of steps. The
    search therefore runs over U with W = U S Q^T, where Q are the eigenvectors of X^T X and S makes
    the curvature about one in every direction. The objective stays the same.

    Args:
        inputs: X [N, D], a column of ones included where a bias is wanted: the prior covers it too.
        labels: [N], 0..C-1.
        prior_precision: > 0.
        start: [C, D], where the search begins.
        tolerance: the search ends when no entry of the gradient in U of the objective divided by N
            exceeds it. L-BFGS goes on to 1e-12 in float64.
        batch_size: None: L-BFGS over all samples, at most 1000 steps; a number: stochastic descent
            in batches of so many, at most 500 epochs.
        seed: of the order of the batches.

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
    u = start.to(inputs) @ eigenvectors * curvature.sqrt() / n**0.5  # W (S Q^T)^-1
    if batch_size is None:
        u = _lbfgs(whitened, labels, penalty, u, tolerance)
    else:
        u = _variance_reduced(whitened, labels, penalty, u, tolerance, batch_size, seed)
    return u @ basis.mT


def _lbfgs(inputs: Tensor, labels: Tensor, penalty: Tensor, u: Tensor, tolerance: float) -> Tensor:
    u.requires_grad_()
    precise = inputs.dtype == torch.float64
    optimizer = torch.optim.LBFGS(
        [u],
        max_iter=MAX_ITERATIONS,
        tolerance_grad=min(tolerance, DOUBLE_TOLERANCE) if precise else tolerance,
        tolerance_change=0 if precise else 1e-9,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def objective() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(inputs @ u.T, labels) + (penalty * u.square()).sum()
        loss.backward()
        return loss

    optimizer.step(objective)
    return u.detach()


def _variance_reduced(
    inputs: Tensor,
    labels: Tensor,
    penalty: Tensor,
    u: Tensor,
    tolerance: float,
    batch_size: int,
    seed: int,
) -> Tensor:
    """SVRG (Johnson & Zhang 2013): a batch corrects the full gradient of the epoch's anchor.

    Its noise vanishes with the distance to the anchor, so that a constant step converges; plain
    batches stay as far away as their noise. The step is 1, the curvature's inverse, halved from the
    best anchor on whenever an epoch has not made the full gradient smaller. No scaling entry by
    entry, Adam's: it leaves the directions that the preconditioner made equal.
    """

    def gradient(at: Tensor, rows: Tensor) -> Tensor:
        errors = (inputs[rows] @ at.T).softmax(-1)
        errors[torch.arange(len(rows)), labels[rows]] -= 1
        return errors.T @ inputs[rows] / len(rows) + 2 * penalty * at

    everything = torch.arange(len(labels), device=labels.device)
    generator = torch.Generator().manual_seed(seed)
    anchor, at_anchor, step = u, gradient(u, everything), 1.0
    for _ in range(MAX_EPOCHS):
        if at_anchor.abs().max() <= tolerance:
            break
        for rows in torch.randperm(len(labels), generator=generator).split(batch_size):
            rows = rows.to(labels.device)
            u = u - step * (gradient(u, rows) - gradient(anchor, rows) + at_anchor)
        found = gradient(u, everything)
        if found.norm() < at_anchor.norm():
            anchor, at_anchor = u, found
        else:
            u, step = anchor, step / 2
    return anchor
