"""The interface of a training method, and the registry that `--method` chooses from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from dedier_laplace.config import Config
from dedier_laplace.errors import UserError, nearest

Predictive = Literal["map", "laplace"]
METHODS: dict[str, type[Method]] = {}


@dataclass(frozen=True)
class Batch:
    """One step: student logits [B, C], labels [B], weights [B], teacher logits [B, C] or None."""

    student_logits: Tensor
    labels: Tensor
    weights: Tensor
    teacher_logits: Tensor | None


class Method(ABC):
    """Decides loss and weights. Stateless but for its settings."""

    needs_teacher: ClassVar[bool] = True
    predictive: ClassVar[Predictive | None] = None  # what weights are made of; None: no readout

    def __init__(self, config: Config) -> None:
        self.config = config

    @abstractmethod
    def loss(self, batch: Batch) -> Tensor:
        """The scalar to minimise on one batch."""


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
