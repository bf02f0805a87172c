"""Knowledge distillation (Hinton et al. 2015, arXiv 1503.02531)."""

from __future__ import annotations

from torch import Tensor

from dedier_laplace.distillation.loss import distillation_loss
from dedier_laplace.distillation.methods.base import Batch, Method, register


@register("kd")
class Kd(Method):
    """(1 - lambda) * CE + lambda * T^2 * KL; weighted where a readout makes weights."""

    def loss(self, batch: Batch) -> Tensor:
        assert batch.teacher_logits is not None
        return distillation_loss(
            batch.student_logits,
            batch.teacher_logits,
            batch.labels,
            temperature=self.config.student.temperature,
            kd_weight=self.config.student.kd_weight,
            sample_weights=batch.weights if self.predictive else None,
            reweight_terms=self.config.weights.reweight_terms,
        )
