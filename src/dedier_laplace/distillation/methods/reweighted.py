"""Distillation whose samples are weighted by a readout: what dedier, laplace and controls share."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from dedier_laplace.config import Config
from dedier_laplace.distillation.methods.base import Batch, Method
from dedier_laplace.distillation.weights import check_signal


class Reweighted(Method):
    """mean_i [(1 - lambda) * wt_i * CE_i + lambda * wt_i * T^2 * KL_i]."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        assert self.predictive is not None
        check_signal(config.weights.signal, self.predictive, config.aux)

    def settings(self) -> dict[str, Any]:
        return {
            "aux": self.config.aux.model_dump(mode="json"),
            "weights": self.config.weights.model_dump(mode="json"),
        }

    def loss(self, batch: Batch) -> Tensor:
        return self.distillation_loss(
            batch,
            sample_weights=batch.weights,
            reweight_terms=self.config.weights.reweight_terms,
        )
