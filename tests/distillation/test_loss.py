import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from torch.nn import functional as F

from dedier_laplace.distillation.loss import distillation_loss


@pytest.fixture
def batch():
    """Student logits, teacher logits, labels, weights of 12 samples in 4 classes."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = 3 * torch.randn(2, 12, 4, generator=generator, dtype=torch.float64)
    labels = torch.randint(4, (12,), generator=generator)
    return student, teacher, labels, 1 + torch.rand(12, generator=generator, dtype=torch.float64)


def loss(batch, temperature=2.0, kd_weight=0.4, **settings):
    return distillation_loss(*batch[:3], temperature=temperature, kd_weight=kd_weight, **settings)


def test_weights_of_one_equal_no_weights(batch):
    ones = torch.ones(12, dtype=torch.float64)
    torch.testing.assert_close(loss(batch, sample_weights=ones), loss(batch))


def test_equal_weights_scale_the_loss(batch):
    threes = torch.full((12,), 3.0, dtype=torch.float64)
    torch.testing.assert_close(loss(batch, sample_weights=threes), 3 * loss(batch))


def test_without_kd_it_is_the_weighted_cross_entropy(batch):
    student, _, labels, weights = batch
    expected = (weights * F.cross_entropy(student, labels, reduction="none")).mean()
    found = loss(batch, kd_weight=0.0, sample_weights=weights)
    torch.testing.assert_close(found, expected)


def test_without_ce_equal_logits_cost_nothing(batch):
    student, _, labels, weights = batch
    found = loss((student, student + 5.0, labels), kd_weight=1.0, sample_weights=weights)
    assert abs(float(found)) < 1e-12


def test_without_ce_labels_play_no_part(batch):
    student, teacher, labels, _ = batch
    torch.testing.assert_close(
        loss((student, teacher, (labels + 1) % 4), kd_weight=1.0), loss(batch, kd_weight=1.0)
    )


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
@pytest.mark.parametrize("terms", [["ce", "kd"], ["kd"], ["ce"]])
def test_loss_equals_the_formula(batch, temperature, terms):
    student, teacher, labels, weights = (tensor.numpy() for tensor in batch)
    q = log_softmax(student / temperature, axis=1)
    p = log_softmax(teacher / temperature, axis=1)
    ce = -log_softmax(student, axis=1)[np.arange(12), labels]
    kd = temperature**2 * (np.exp(p) * (p - q)).sum(1)
    ce = ce * weights if "ce" in terms else ce
    kd = kd * weights if "kd" in terms else kd
    found = loss(batch, temperature, 0.4, sample_weights=batch[3], reweight_terms=terms)
    assert float(found) == pytest.approx(np.mean(0.6 * ce + 0.4 * kd), rel=1e-12)


def test_gradient_reaches_every_students_logit_and_no_weight_of_zero(batch):
    student, teacher, labels, weights = batch
    student = student.clone().requires_grad_()
    weights = weights.clone()
    weights[0] = 0.0
    loss((student, teacher, labels), sample_weights=weights).backward()
    assert (student.grad[1:] != 0).all()
    assert (student.grad[0] == 0).all()


def test_kd_gradient_keeps_its_size_when_the_temperature_grows(batch):
    _, teacher, labels, _ = batch
    norms = []
    for temperature in (20.0, 200.0):
        student = (0.1 * teacher.flip(1)).requires_grad_()
        loss((student, teacher, labels), temperature, 1.0).backward()
        norms.append(float(student.grad.norm()))
    assert norms[0] == pytest.approx(norms[1], rel=0.1)


def test_impossible_teacher_classes_do_not_make_it_nan(batch):
    student, teacher, labels, _ = batch
    teacher = teacher.clone()
    teacher[:, 0] = -1e4
    assert torch.isfinite(loss((student, teacher, labels), temperature=1.0))
