"""The method of arXiv 2505.01070: DeDiER's weights from the Laplace predictive of the readout."""

from __future__ import annotations

from typing import ClassVar

from dedier_laplace.distillation.methods.base import register
from dedier_laplace.distillation.methods.reweighted import Reweighted
from dedier_laplace.readout.predictive import Kind


@register("laplace")
class Laplace(Reweighted):
    """cm is the margin of the posterior predictive."""

    predictive: ClassVar[Kind | None] = "laplace"
