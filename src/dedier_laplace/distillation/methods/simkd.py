"""SimKD, the reused teacher classifier (Chen et al. 2022, arXiv 2203.14001)."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from dedier_laplace.distillation.methods.base import Batch, Method, Sources, register
from dedier_laplace.distillation.transplant import merge, transplant


@register("simkd")
class SimKd(Method):
    """mean_i |P f_i - t_i|^2 / D: projected student features against the teacher's,
    both read before the last layer, which is the teacher's and frozen. No label is used."""

    def settings(self) -> dict[str, Any]:
        return {}

    def prepare(self, sources: Sources) -> dict[str, Tensor]:
        transplant(sources.student, sources.teacher_head(), self.config.seed)
        return {"teacher_features": sources.teacher_features()}

    def loss(self, batch: Batch) -> Tensor:
        return self.feature_losses(batch).mean()

    def feature_losses(self, batch: Batch) -> Tensor:
        """[B]."""
        assert batch.student_features is not None
        assert batch.teacher_features is not None
        squares = F.mse_loss(batch.student_features, batch.teacher_features, reduction="none")
        return squares.mean(-1)

    def finish(self, student: PreTrainedModel) -> PreTrainedModel:
        return merge(student)
