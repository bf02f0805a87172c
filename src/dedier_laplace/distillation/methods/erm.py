"""ERM: cross-entropy alone; a student fine-tuned without teacher."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from dedier_laplace.distillation.methods.base import Batch, Method, register


@register("erm")
class Erm(Method):
    """mean_i CE_i."""

    needs_teacher = False

    def settings(self) -> dict[str, Any]:
        return {}

    def loss(self, batch: Batch) -> Tensor:
        return F.cross_entropy(batch.student_logits, batch.labels, reduction="none").mean()
