"""dedier-laplace: distillation that weights samples by what an early exit gets confidently wrong.

The pipeline (`load_config`, `Workspace`, `train_teacher`, `train_student`, `evaluate`, `run`) and
the method's mathematics (`negation_attribute`, `confidence_margin`, `sample_weights`,
`distillation_loss`, `LaplaceReadout`) are importable from here; each is loaded when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dedier_laplace.config import Config, load_config
    from dedier_laplace.data.attributes import negation_attribute
    from dedier_laplace.distillation.group_dro import GroupDRO
    from dedier_laplace.distillation.loss import distillation_loss
    from dedier_laplace.distillation.weights import sample_weights
    from dedier_laplace.errors import UserError
    from dedier_laplace.pipeline import Workspace, evaluate, run, train_student, train_teacher
    from dedier_laplace.readout.difficulty import confidence_margin
    from dedier_laplace.readout.laplace import LaplaceReadout

__version__ = "0.1.0"

_HOMES = {
    "Config": "config",
    "GroupDRO": "distillation.group_dro",
    "LaplaceReadout": "readout.laplace",
    "UserError": "errors",
    "Workspace": "pipeline",
    "confidence_margin": "readout.difficulty",
    "distillation_loss": "distillation.loss",
    "evaluate": "pipeline",
    "load_config": "config",
    "negation_attribute": "data.attributes",
    "run": "pipeline",
    "sample_weights": "distillation.weights",
    "train_student": "pipeline",
    "train_teacher": "pipeline",
}

__all__ = [
    "Config",
    "GroupDRO",
    "LaplaceReadout",
    "UserError",
    "Workspace",
    "confidence_margin",
    "distillation_loss",
    "evaluate",
    "load_config",
    "negation_attribute",
    "run",
    "sample_weights",
    "train_student",
    "train_teacher",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
