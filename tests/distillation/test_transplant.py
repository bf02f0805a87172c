import pytest
import torch

from dedier_laplace.distillation.transplant import TransplantedHead, merge, transplant
from dedier_laplace.models import final_linear

TEACHER_WIDTH = 24  # the tiny students have 16


@pytest.fixture
def teacher_head():
    torch.manual_seed(7)
    return torch.nn.Linear(TEACHER_WIDTH, 3)


def head_of(student):
    parent, _ = final_linear(student)
    return parent


def test_merged_student_computes_the_same_with_a_plain_head(make, model_type, inputs, teacher_head):
    student = make(model_type)
    names = {name: p.shape for name, p in student.named_parameters()}
    transplant(student, teacher_head, seed=0)
    expected = student(**inputs).logits
    merge(student)
    torch.testing.assert_close(student(**inputs).logits, expected)
    assert {name: p.shape for name, p in student.named_parameters()} == names


def test_teachers_layer_is_copied_and_frozen_and_the_projector_learns(make, inputs, teacher_head):
    student = make()
    transplant(student, teacher_head, seed=0)
    projector, frozen = head_of(student)
    assert torch.equal(frozen.weight, teacher_head.weight)
    assert frozen.weight is not teacher_head.weight
    assert not any(p.requires_grad for p in frozen.parameters())
    student(**inputs).logits.sum().backward()
    assert projector.weight.grad is not None
    assert frozen.weight.grad is None


def test_projector_hangs_on_the_seed_alone(teacher_head):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = TransplantedHead(16, teacher_head, seed=5)[0].weight
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(TransplantedHead(16, teacher_head, seed=5)[0].weight, first)
    assert not torch.equal(TransplantedHead(16, teacher_head, seed=6)[0].weight, first)
