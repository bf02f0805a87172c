"""dedier-laplace: distillation that weights samples by what an early exit gets confidently wrong.

The pipeline (`load_config`, `Workspace`, `train_teacher`, `train_student`, `evaluate`,
`evaluate_exits`, `run`) and the method's mathematics are importable from here; each is loaded when
first used.
"""

# ruff: noqa: F401  (imported for type checkers; at run time __getattr__ loads each when first used)
from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dedier_laplace.config import Config, load_config
    from dedier_laplace.data.attributes import negation_attribute
    from dedier_laplace.distillation.group_dro import GroupDRO
    from dedier_laplace.distillation.loss import distillation_loss
    from dedier_laplace.distillation.methods import Method, register
    from dedier_laplace.distillation.weights import sample_weights
    from dedier_laplace.errors import UserError
    from dedier_laplace.pipeline import (
        Workspace,
        evaluate,
        evaluate_exits,
        run,
        train_student,
        train_teacher,
    )
    from dedier_laplace.readout.difficulty import confidence, difficulty
    from dedier_laplace.readout.laplace import LaplaceReadout
    from dedier_laplace.readout.prediction_sets import (
        calibrate_thresholds,
        consistency,
        coverage,
        mean_size,
        prediction_sets,
        running_intersection,
    )
    from dedier_laplace.readout.predictive import Predictive
    from dedier_laplace.readout.signals import (
        confidence_margin,
        mutual_information,
        predictive_entropy,
        set_size,
        top_logit_variance,
    )

__version__ = "0.1.0"

_NAMES = {
    "config": ("Config", "load_config"),
    "data.attributes": ("negation_attribute",),
    "distillation.group_dro": ("GroupDRO",),
    "distillation.loss": ("distillation_loss",),
    "distillation.methods": ("Method", "register"),
    "distillation.weights": ("sample_weights",),
    "errors": ("UserError",),
    "pipeline": (
        "Workspace",
        "evaluate",
        "evaluate_exits",
        "run",
        "train_student",
        "train_teacher",
    ),
    "readout.difficulty": ("confidence", "difficulty"),
    "readout.laplace": ("LaplaceReadout",),
    "readout.prediction_sets": (
        "calibrate_thresholds",
        "consistency",
        "coverage",
        "mean_size",
        "prediction_sets",
        "running_intersection",
    ),
    "readout.predictive": ("Predictive",),
    "readout.signals": (
        "confidence_margin",
        "mutual_information",
        "predictive_entropy",
        "set_size",
        "top_logit_variance",
    ),
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
