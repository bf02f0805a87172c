"""Group DRO (Sagawa et al. 2020, arXiv 1911.08731), on labels or with the teacher's KD term."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from dedier_laplace.config import Config
from dedier_laplace.distillation.group_dro import GroupDRO
from dedier_laplace.distillation.methods.base import Batch, Method, Sources, register
from dedier_laplace.errors import UserError


@register("group_dro")
class GroupDroMethod(Method):
    """sum_g q_g * L_g over the groups of eval.groups; L_g a mean of CE or distillation losses."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.needs_teacher = config.student.group_dro.distil

    def settings(self) -> dict[str, Any]:
        attribute = self.config.data.attributes[self.config.eval.groups]
        return {
            "group_dro": self.config.student.group_dro.model_dump(mode="json"),
            "groups": attribute.model_dump(mode="json"),
        }

    def prepare(self, sources: Sources) -> dict[str, Tensor]:
        settings, groups = self.config.student.group_dro, sources.groups
        if settings.adjustment > 0 and groups.sizes.min() < 1:
            raise UserError(
                "student.group_dro.adjustment divides by the size of every group, but one has no "
                "training sample; set it to 0."
            )
        self.group_dro = GroupDRO(
            len(groups.names), settings.eta, settings.adjustment, groups.sizes.tolist()
        )
        return super().prepare(sources)

    def loss(self, batch: Batch) -> Tensor:
        losses = self.distillation_loss(batch, reduction="none")
        return self.group_dro.robust(losses, batch.groups)
