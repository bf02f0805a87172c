"""Control: Laplace's weights, each on a random sample. What it gains, weights as such gain."""

from __future__ import annotations

import torch
from torch import Tensor

from dedier_laplace.distillation.methods.base import register
from dedier_laplace.distillation.methods.laplace import Laplace


@register("shuffled")
class Shuffled(Laplace):
    """The multiset of weights is kept, their relation to samples is not."""

    def reweight(self, weights: Tensor, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return weights[torch.randperm(len(weights), generator=generator)]
