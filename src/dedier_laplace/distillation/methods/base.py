"""The interface of a training method, and the registry that `--method` chooses from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from torch import Tensor, nn
from transformers import PreTrainedModel

from dedier_laplace.config import Config
from dedier_laplace.data.attributes import Groups
from dedier_laplace.distillation.loss import distillation_loss
from dedier_laplace.errors import UserError, nearest
from dedier_laplace.readout.predictive import Kind

METHODS: dict[str, type[Method]] = {}


@dataclass(frozen=True)
class Batch:
    """What a loss sees of B samples; the last three only where the method prepared them."""

    student_logits: Tensor  # [B, C]
    labels: Tensor  # [B]
    groups: Tensor  # [B]
    weights: Tensor  # [B]
    teacher_logits: Tensor | None = None  # [B, C], in the student's label order
    teacher_features: Tensor | None = None  # [B, D], what the teacher's last layer reads
    student_features: Tensor | None = None  # [B, D], what the student's last layer reads


class Sources(Protocol):
    """What a method may ask for before training. N training samples, in order; on the CPU."""

    student: PreTrainedModel
    groups: Groups

    def teacher_logits(self) -> Tensor:
        """[N, C], in the student's label order."""

    def teacher_features(self) -> Tensor:
        """[N, D], what the teacher's last linear layer reads."""

    def teacher_head(self) -> nn.Linear:
        """The teacher's last linear layer, its outputs in the student's label order."""

    def error_set(self, epochs: int) -> Tensor:
        """bool [N]: samples that a student trained by ERM and stopped after `epochs` gets wrong."""


class Method(ABC):
    """Decides which weights samples get and which loss they see.

    Made anew for every training. `__init__` refuses settings that cannot be (UserError): it runs
    for all students of a run before the first is trained.
    """

    needs_teacher: bool = True
    predictive: ClassVar[Kind | None] = None  # what weights are made of; None: no readout

    def __init__(self, config: Config) -> None:
        self.config = config

    def settings(self) -> dict[str, Any]:
        """What of the config it reads beyond the model, its training and the KD term.

        A student is trained again when one of these has changed; by default all that there is.
        """
        student = self.config.student.model_dump(mode="json", include={"jtt", "group_dro"})
        return {
            "aux": self.config.aux.model_dump(mode="json"),
            "weights": self.config.weights.model_dump(mode="json"),
            **student,
        }

    def prepare(self, sources: Sources) -> dict[str, Tensor]:
        """Called once, before training; may change the student's head.

        Returns:
            [N, ...] tensors over the training set by field of `Batch`, which carries their rows:
            `teacher_logits`, `teacher_features`, or `weights` to begin with instead of ones.
        """
        return {"teacher_logits": sources.teacher_logits()} if self.needs_teacher else {}

    def reweight(self, weights: Tensor, seed: int) -> Tensor:
        """The weights [N] to train with, from those that a new readout gives."""
        return weights

    @abstractmethod
    def loss(self, batch: Batch) -> Tensor:
        """The scalar to minimise on one batch."""

    def distillation_loss(self, batch: Batch, **options: Any) -> Tensor:
        """`loss.distillation_loss` of a batch at the config's temperature and kd_weight."""
        return distillation_loss(
            batch.student_logits,
            batch.teacher_logits,
            batch.labels,
            temperature=self.config.student.temperature,
            kd_weight=self.config.student.kd_weight,
            **options,
        )

    def finish(self, student: PreTrainedModel) -> PreTrainedModel:
        """Called once, after training: the model to save, a plain one of its architecture."""
        return student


def register(name: str) -> Callable[[type[Method]], type[Method]]:
    """Class decorator: make a method known under `name`."""

    def add(method: type[Method]) -> type[Method]:
        METHODS[name] = method
        return method

    return add


def find_method(name: str) -> type[Method]:
    """The method registered under `name`.

    Raises:
        UserError: there is none.
    """
    if name not in METHODS:
        raise UserError(f"student.method is {name!r}; {nearest(name, METHODS)}")
    return METHODS[name]
