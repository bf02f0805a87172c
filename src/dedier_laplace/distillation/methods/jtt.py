"""JTT, just train twice (Liu et al. 2021, arXiv 2107.09044)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from dedier_laplace.config import Config
from dedier_laplace.distillation.methods.base import Batch, Method, Sources, register
from dedier_laplace.distillation.weights import error_set_weights
from dedier_laplace.errors import UserError


@register("jtt")
class Jtt(Method):
    """Weighted ERM, or weighted distillation: the error set of a briefly trained student counts
    `upweight` times (their algorithm 1; their code repeats those samples instead)."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        check_identification(config)
        self.needs_teacher = config.student.jtt.distil

    def settings(self) -> dict[str, Any]:
        return {
            "jtt": self.config.student.jtt.model_dump(mode="json"),
            "weights": self.config.weights.model_dump(
                mode="json", include={"normalize", "reweight_terms"}
            ),
        }

    def prepare(self, sources: Sources) -> dict[str, Tensor]:
        return {**super().prepare(sources), "weights": identified_weights(self.config, sources)}

    def loss(self, batch: Batch) -> Tensor:
        return self.distillation_loss(
            batch,
            sample_weights=batch.weights,
            reweight_terms=self.config.weights.reweight_terms if self.needs_teacher else ["ce"],
        )


def check_identification(config: Config) -> None:
    """Refuse to stop the identification model after the end of its training.

    Raises:
        UserError: it is to be stopped later.
    """
    epochs, training = config.student.jtt.identification_epochs, config.student.training
    if epochs > float(training.get("num_train_epochs", 3)):  # transformers' own default
        raise UserError(
            f"student.jtt.identification_epochs is {epochs}, but the student trains for "
            f"{training.get('num_train_epochs', 3)} epochs; choose fewer."
        )


def identified_weights(config: Config, sources: Sources) -> Tensor:
    """Weights [N] of the samples: `upweight` on the error set, 1 elsewhere."""
    jtt = config.student.jtt
    errors = sources.error_set(jtt.identification_epochs)
    return error_set_weights(errors, jtt.upweight, config.weights.normalize)
