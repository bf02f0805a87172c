"""DeDiER (Tiwari et al. 2024, arXiv 2310.18590): weights from the margins of the plain readout."""

from __future__ import annotations

from typing import ClassVar

from dedier_laplace.distillation.methods.base import register
from dedier_laplace.distillation.methods.reweighted import Reweighted
from dedier_laplace.readout.predictive import Kind


@register("dedier")
class Dedier(Reweighted):
    """cm is the margin of the readout's MAP softmax."""

    predictive: ClassVar[Kind | None] = "map"
