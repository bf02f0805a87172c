"""Group distributionally robust optimisation, online (Sagawa et al. 2020, arXiv 1911.08731)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


class GroupDRO:
    """sum_g q_g * L_g, with q following the groups that do worst (their algorithm 1).

    Each step: L_g is the mean loss of the group's samples in the batch, 0 if it has none, plus
    C / sqrt(n_g); q_g is multiplied by exp(eta * L_g) and normalised; the new q weighs the same
    step's losses.

    Args:
        n_groups: G.
        eta: step size of q; 0 keeps q at 1/G.
        adjustment: C of the generalization adjustment C / sqrt(n_g).
        group_sizes: n_g in the training set, [G]; needed where adjustment is above 0.

    Raises:
        ValueError: a number that cannot be, or an adjustment without sizes above 0.
    """

    def __init__(
        self,
        n_groups: int,
        eta: float = 0.01,
        adjustment: float = 0.0,
        group_sizes: Sequence[int] | Tensor | None = None,
    ) -> None:
        if n_groups < 1 or eta < 0 or adjustment < 0:
            raise ValueError("n_groups must be 1 or more, eta and adjustment 0 or more")
        sizes = torch.ones(n_groups) if group_sizes is None else torch.as_tensor(group_sizes)
        if len(sizes) != n_groups or (adjustment > 0 and (group_sizes is None or sizes.min() < 1)):
            raise ValueError("an adjustment needs the size of each of the n_groups groups, above 0")
        self.eta = eta
        self.q = torch.full((n_groups,), 1 / n_groups)
        self._adjustments = adjustment / sizes.float().clamp_min(1).sqrt()

    def loss(self, logits: Tensor | Any, labels: Tensor | Any, groups: Tensor | Any) -> Tensor:
        """The robust cross-entropy of a batch, a scalar; q moves.

        Args:
            logits: [B, C].
            labels: [B].
            groups: [B], 0..G-1.
        """
        logits = torch.as_tensor(logits)
        labels, groups = (torch.as_tensor(x, device=logits.device).long() for x in (labels, groups))
        return self.robust(F.cross_entropy(logits, labels, reduction="none"), groups)

    def robust(self, losses: Tensor, groups: Tensor) -> Tensor:
        """The same for any per-sample losses [B]."""
        q = self.q.to(losses)
        sums = torch.zeros_like(q).index_add(0, groups, losses)
        counts = torch.bincount(groups, minlength=len(q)).clamp_min(1)
        group_losses = sums / counts + self._adjustments.to(losses)
        q = q * torch.exp(self.eta * group_losses.detach())
        self.q = q / q.sum()
        return group_losses @ self.q
