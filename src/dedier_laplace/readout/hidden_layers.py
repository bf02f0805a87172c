"""Hidden layers of a readout: an MLP on frozen features, whose head is the Laplace readout."""

from __future__ import annotations

from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from dedier_laplace.readout.laplace import with_ones
from dedier_laplace.readout.linear_map import fit_map

MAX_EPOCHS = 200  # of minibatches, or rounds of L-BFGS
ROUND = 20  # L-BFGS steps between two looks at the objective
STEP = 0.003  # of Adam, first
LBFGS: dict[str, Any] = {"history_size": 20, "line_search_fn": "strong_wolfe"}
HALVINGS = 6  # of Adam's step, before a stalled objective ends the fit


class Standardize(nn.Module):
    """(x - mean) / scale with fixed buffers [D]; a constant feature becomes 0."""

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.scale

    @classmethod
    def to_features(cls, features: Tensor) -> Standardize:
        """Mean 0 and deviation 1 of features [N, D]."""
        scale = features.std(0, correction=0)
        return cls(features.mean(0), torch.where(scale > 0, scale, 1))


def fit_hidden_layers(
    features: Tensor,
    labels: Tensor,
    *,
    hidden_layers: int,
    hidden_size: int,
    n_classes: int,
    prior_precision: float,
    batch_size: int | None,
    tolerance: float,
    seed: int,
    start: nn.Sequential | None = None,
) -> nn.Sequential:
    """Layers (linear, tanh) that a linear softmax head reads best, trained with one thrown away.

    The objective is CE + prior_precision / (2 N) * |theta|^2 over all weights and biases of layers
    and head, divided by N. The head begins at its optimum, so that a fit which begins where another
    ended goes on from there.

    Args:
        features: [N, D], standardised inside.
        labels: [N], 0..C-1.
        hidden_layers: how many, >= 1.
        hidden_size: units of each.
        n_classes: C.
        prior_precision: > 0.
        batch_size: None: full-batch L-BFGS, 20 steps a round; a number: Adam in batches of so many.
        tolerance: a round or an epoch stalls when it lowers the objective by less than this share.
            L-BFGS then ends; Adam halves its step and ends at the seventh time. At most 200 rounds
            or epochs.
        seed: of the initial weights and the order of the batches; the global generator stays as is.
        start: layers of an earlier fit, whose weights are the first; None: random ones.

    Returns:
        Frozen layers, from features [., D] to the last hidden activations [., hidden_size].
    """
    generator = torch.Generator().manual_seed(seed)
    labels = labels.to(features.device)
    if start is None:
        layers = _random_layers(features, hidden_layers, hidden_size, generator)
    else:
        layers = deepcopy(start).to(features).requires_grad_()
        layers[0] = Standardize.to_features(features)
    head = _best_head(layers(features).detach(), labels, n_classes, prior_precision)
    _descend(
        nn.Sequential(layers, head),
        features,
        labels,
        prior_precision / len(labels),
        batch_size,
        tolerance,
        generator,
    )
    return layers.requires_grad_(False)


def save_hidden_layers(layers: nn.Sequential, path: Path) -> None:
    """Write a safetensors file."""
    save_file({name: t.cpu().contiguous() for name, t in layers.state_dict().items()}, path)


def load_hidden_layers(path: Path) -> nn.Sequential:
    """Read what `save_hidden_layers` wrote; the tensors' shapes tell the architecture."""
    tensors = load_file(path)
    hidden_layers = sum(name.endswith(".weight") for name in tensors)
    standardize = Standardize(tensors["0.mean"], tensors["0.scale"])
    layers = _stack(standardize, hidden_layers, len(tensors["1.bias"]))
    layers.load_state_dict(tensors)
    return layers.requires_grad_(False)


def _stack(standardize: Standardize, hidden_layers: int, hidden_size: int) -> nn.Sequential:
    """Layers in the type and on the device of `standardize`, their weights not yet set."""
    widths = [len(standardize.mean)] + [hidden_size] * hidden_layers
    modules: list[nn.Module] = [standardize]
    for width in widths[:-1]:
        linear = nn.utils.skip_init(nn.Linear, width, hidden_size)
        modules += [linear, nn.Tanh()]
    return nn.Sequential(*modules).to(standardize.mean)


def _random_layers(
    features: Tensor, hidden_layers: int, hidden_size: int, generator: torch.Generator
) -> nn.Sequential:
    layers = _stack(Standardize.to_features(features), hidden_layers, hidden_size).cpu()
    for module in layers:
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight, generator=generator)
            nn.init.zeros_(module.bias)
    return layers.to(features.device)


def _best_head(hidden: Tensor, labels: Tensor, n_classes: int, prior: float) -> nn.Linear:
    """The optimum on top of fixed activations [N, H]."""
    weight = fit_map(
        with_ones(hidden), labels, prior, hidden.new_zeros(n_classes, hidden.shape[1] + 1)
    )
    head = nn.utils.skip_init(nn.Linear, hidden.shape[1], n_classes).to(hidden)
    head.load_state_dict({"weight": weight[:, :-1], "bias": weight[:, -1]})
    return head


def _descend(
    model: nn.Module,
    features: Tensor,
    labels: Tensor,
    decay: float,
    batch_size: int | None,
    tolerance: float,
    generator: torch.Generator,
) -> None:
    """Minimise mean CE + decay / 2 * |theta|^2, round by round, until it stalls."""
    parameters, n = list(model.parameters()), len(labels)
    optimizer: torch.optim.Optimizer
    if batch_size is None:
        optimizer, halvings = torch.optim.LBFGS(parameters, max_iter=ROUND, **LBFGS), 0
    else:
        optimizer, halvings = torch.optim.Adam(parameters, lr=STEP), HALVINGS

    def objective(rows: Tensor) -> Tensor:
        penalty = torch.stack([p.square().sum() for p in parameters]).sum()
        return F.cross_entropy(model(features[rows]), labels[rows]) + decay / 2 * penalty

    def slope(rows: Tensor) -> float:
        optimizer.zero_grad()
        loss = objective(rows)
        loss.backward()
        return float(loss.detach())

    best = float("inf")
    for _ in range(MAX_EPOCHS):
        for rows in torch.randperm(n, generator=generator).split(batch_size or n):
            optimizer.step(partial(slope, rows.to(labels.device)))
        with torch.no_grad():
            now = float(objective(torch.arange(n, device=labels.device)))
        if best - now <= tolerance * abs(now):
            if halvings == 0:
                break
            halvings -= 1
            optimizer.param_groups[0]["lr"] /= 2
        best = min(best, now)
