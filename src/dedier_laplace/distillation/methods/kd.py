"""Knowledge distillation (Hinton et al. 2015, arXiv 1503.02531)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from dedier_laplace.distillation.methods.base import Batch, Method, register


@register("kd")
class Kd(Method):
    """mean_i [(1 - lambda) * CE_i + lambda * T^2 * KL_i]."""

    def settings(self) -> dict[str, Any]:
        return {}

    def loss(self, batch: Batch) -> Tensor:
        return self.distillation_loss(batch)
