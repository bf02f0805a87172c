"""Control: the mean of Laplace's weights on every sample. What it gains, a larger loss gains.

Adam hardly sees a constant factor: gradient clipping and its epsilon do.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dedier_laplace.distillation.methods.base import register
from dedier_laplace.distillation.methods.laplace import Laplace


@register("uniform")
class Uniform(Laplace):
    """With weights.normalize: mean this is plain distillation."""

    def reweight(self, weights: Tensor, seed: int) -> Tensor:
        return torch.full_like(weights, float(weights.mean()))
