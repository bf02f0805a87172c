"""A student under its teacher's frozen last layer (Chen et al. 2022, SimKD, arXiv 2203.14001).

In place of its own last linear layer the student gets a projector to the teacher's width, and the
teacher's layer behind it. Both are linear, so that after training they merge into one layer: the
student is again a plain model of its architecture.
"""

from __future__ import annotations

import torch
from torch import nn
from transformers import PreTrainedModel

from dedier_laplace.errors import UserError
from dedier_laplace.models import final_linear


class TransplantedHead(nn.Sequential):
    """projector [D_student -> D_teacher], then the teacher's frozen layer [D_teacher -> C]."""

    def __init__(self, student_width: int, teacher_head: nn.Linear, seed: int) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            projector = nn.Linear(student_width, teacher_head.in_features)
            frozen = nn.Linear(teacher_head.in_features, teacher_head.out_features)
        frozen.load_state_dict(teacher_head.state_dict())
        super().__init__(projector, frozen.requires_grad_(False))

    def merged(self) -> nn.Linear:
        """One linear layer that computes the same."""
        projector, teacher = self
        assert isinstance(projector, nn.Linear)
        assert isinstance(teacher, nn.Linear)
        with torch.no_grad(), torch.random.fork_rng():
            layer = nn.Linear(projector.in_features, teacher.out_features).to(teacher.weight)
            layer.weight.copy_(teacher.weight @ projector.weight)
            layer.bias.copy_(teacher.weight @ projector.bias + teacher.bias)
        return layer


def transplant(student: PreTrainedModel, teacher_head: nn.Linear, seed: int) -> None:
    """Put the teacher's last layer, behind a new projector, in the place of the student's.

    Raises:
        UserError: the student ends in no linear layer, or in one without a bias.
    """
    parent, name = final_linear(student)
    own = getattr(parent, name)
    if own.bias is None:
        raise UserError(
            f"{type(student).__name__} ends in a layer without a bias, which the teacher's has; "
            "use a method that does not reuse the teacher's head."
        )
    setattr(parent, name, TransplantedHead(own.in_features, teacher_head, seed).to(own.weight))


def merge(student: PreTrainedModel) -> PreTrainedModel:
    """The student, its transplanted head turned into one linear layer."""
    for module in list(student.modules()):
        for name, child in module.named_children():
            if isinstance(child, TransplantedHead):
                setattr(module, name, child.merged())
    return student
