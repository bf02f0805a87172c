"""JTT, just train twice (Liu et al. 2021, arXiv 2107.09044)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from dedier_laplace.config import Config
from dedier_laplace.distillation.loss import distillation_loss
from dedier_laplace.distillation.methods.base import Batch, Method, Sources, register
from dedier_laplace.distillation.weights import error_set_weights


@register("jtt")
class Jtt(Method):
    """Weighted ERM, or weighted distillation: the error set of a briefly trained student counts
    `upweight` times (their algorithm 1; their code repeats those samples instead)."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.needs_teacher = config.student.jtt.distil

    def settings(self) -> dict[str, Any]:
        return {
            "jtt": self.config.student.jtt.model_dump(mode="json"),
            "weights": self.config.weights.model_dump(
                mode="json", include={"normalize", "reweight_terms"}
            ),
        }

    def prepare(self, sources: Sources) -> dict[str, Tensor]:
        jtt = self.config.student.jtt
        errors = sources.error_set(jtt.identification_epochs)
        weights = error_set_weights(errors, jtt.upweight, self.config.weights.normalize)
        return {**super().prepare(sources), "weights": weights}

    def loss(self, batch: Batch) -> Tensor:
        return distillation_loss(
            batch.student_logits,
            batch.teacher_logits,
            batch.labels,
            temperature=self.config.student.temperature,
            kd_weight=self.config.student.kd_weight,
            sample_weights=batch.weights,
            reweight_terms=self.config.weights.reweight_terms if self.needs_teacher else ["ce"],
        )
