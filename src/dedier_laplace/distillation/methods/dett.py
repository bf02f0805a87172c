"""DeTT, debiased distillation by transplanting the last layer (Lee & Lee 2023, 2302.11187)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from dedier_laplace.config import Config
from dedier_laplace.distillation.methods.base import Batch, Sources, register
from dedier_laplace.distillation.methods.jtt import check_identification, identified_weights
from dedier_laplace.distillation.methods.simkd import SimKd


@register("dett")
class Dett(SimKd):
    """SimKD's feature loss, the samples of JTT's error set counting `upweight` times."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        check_identification(config)

    def settings(self) -> dict[str, Any]:
        error_set = self.config.student.jtt.model_dump(mode="json", exclude={"distil"})
        return {"jtt": error_set, "weights": {"normalize": self.config.weights.normalize}}

    def prepare(self, sources: Sources) -> dict[str, Tensor]:
        return {**super().prepare(sources), "weights": identified_weights(self.config, sources)}

    def loss(self, batch: Batch) -> Tensor:
        return (batch.weights * self.feature_losses(batch)).mean()
