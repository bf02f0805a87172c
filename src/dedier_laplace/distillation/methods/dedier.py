"""DeDiER (Tiwari et al. 2024, arXiv 2310.18590): weights from the margins of the plain readout."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from dedier_laplace.distillation.loss import distillation_loss
from dedier_laplace.distillation.methods.base import Batch, Method, Predictive, register


@register("dedier")
class Dedier(Method):
    """The weighted distillation loss; cm is the margin of the readout's MAP softmax."""

    predictive: ClassVar[Predictive | None] = "map"

    def loss(self, batch: Batch) -> Tensor:
        assert batch.teacher_logits is not None
        return distillation_loss(
            batch.student_logits,
            batch.teacher_logits,
            batch.labels,
            temperature=self.config.student.temperature,
            kd_weight=self.config.student.kd_weight,
            sample_weights=batch.weights,
            reweight_terms=self.config.weights.reweight_terms,
        )
