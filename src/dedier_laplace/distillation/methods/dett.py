"""DeTT, debiased distillation by transplanting the last layer (Lee & Lee 2023, 2302.11187)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from dedier_laplace.distillation.methods.base import Batch, Sources, register
from dedier_laplace.distillation.methods.simkd import SimKd
from dedier_laplace.distillation.weights import error_set_weights


@register("dett")
class Dett(SimKd):
    """SimKD's feature loss, the samples of JTT's error set counting `upweight` times."""

    def settings(self) -> dict[str, Any]:
        error_set = self.config.student.jtt.model_dump(mode="json", exclude={"distil"})
        return {"jtt": error_set, "weights": {"normalize": self.config.weights.normalize}}

    def prepare(self, sources: Sources) -> dict[str, Tensor]:
        jtt = self.config.student.jtt
        errors = sources.error_set(jtt.identification_epochs)
        weights = error_set_weights(errors, jtt.upweight, self.config.weights.normalize)
        return {**super().prepare(sources), "weights": weights}

    def loss(self, batch: Batch) -> Tensor:
        return (batch.weights * self.feature_losses(batch)).mean()
