"""Knowledge distillation (Hinton et al. 2015, arXiv 1503.02531)."""

from __future__ import annotations

from torch import Tensor

from dedier_laplace.distillation.loss import distillation_loss
from dedier_laplace.distillation.methods.base import Batch, Method, register


@register("kd")
class Kd(Method):
    """mean_i [(1 - lambda) * CE_i + lambda * T^2 * KL_i]."""

    def loss(self, batch: Batch) -> Tensor:
        return distillation_loss(
            batch.student_logits,
            batch.teacher_logits,
            batch.labels,
            temperature=self.config.student.temperature,
            kd_weight=self.config.student.kd_weight,
        )
