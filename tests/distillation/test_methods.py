import pytest
import torch
from torch.nn import functional as F

from dedier_laplace.config import Config
from dedier_laplace.distillation.methods import METHODS, Batch, Method, register
from dedier_laplace.distillation.methods.base import find_method
from dedier_laplace.errors import UserError


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    return Batch(
        student_logits=torch.randn(10, 3, generator=generator),
        teacher_logits=torch.randn(10, 3, generator=generator),
        labels=torch.randint(3, (10,), generator=generator),
        weights=1 + torch.rand(10, generator=generator),
    )


@pytest.fixture
def registry(monkeypatch):
    """A copy of the registry that a test may add to."""
    copy = dict(METHODS)
    monkeypatch.setattr("dedier_laplace.distillation.methods.base.METHODS", copy)
    return copy


def loss(name, batch, **blocks):
    return find_method(name)(Config.model_validate(blocks)).loss(batch)


def replaced(batch, **fields):
    return Batch(**{**vars(batch), **fields})


def test_registry_has_the_four_methods():
    assert {"erm", "kd", "dedier", "laplace"} <= set(METHODS)


@pytest.mark.parametrize(
    ("name", "needs_teacher", "predictive"),
    [
        ("erm", False, None),
        ("kd", True, None),
        ("dedier", True, "map"),
        ("laplace", True, "laplace"),
    ],
)
def test_method_says_what_it_needs(name, needs_teacher, predictive):
    method = find_method(name)
    assert (method.needs_teacher, method.predictive) == (needs_teacher, predictive)


def test_unknown_method_names_the_nearest():
    with pytest.raises(UserError, match=r"'lapalce'.*'laplace'"):
        find_method("lapalce")


def test_registered_method_is_found(registry, batch):
    @register("toy")
    class Toy(Method):
        needs_teacher = False

        def loss(self, batch):
            return batch.weights.sum()

    assert find_method("toy") is Toy
    assert loss("toy", batch) == batch.weights.sum()
    assert "toy" not in METHODS


def test_erm_is_the_cross_entropy_without_teacher_or_weights(batch):
    expected = F.cross_entropy(batch.student_logits, batch.labels)
    assert loss("erm", replaced(batch, teacher_logits=None)) == expected
    assert loss("erm", batch) == expected


def test_kd_without_kd_weight_equals_erm(batch):
    torch.testing.assert_close(
        loss("kd", batch, student={"kd_weight": 0}), loss("erm", batch), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("name", ["dedier", "laplace"])
def test_kd_equals_reweighting_with_weights_of_one(batch, name):
    settings = {"student": {"temperature": 3.0, "kd_weight": 0.3}}
    with_ones = replaced(batch, weights=torch.ones(10))
    torch.testing.assert_close(loss(name, with_ones, **settings), loss("kd", batch, **settings))


def test_kd_ignores_weights_and_reweighting_does_not(batch):
    doubled = replaced(batch, weights=2 * batch.weights)
    assert loss("kd", doubled) == loss("kd", batch)
    torch.testing.assert_close(loss("dedier", doubled), 2 * loss("dedier", batch))


def test_laplace_and_dedier_share_one_loss(batch):
    assert loss("laplace", batch) == loss("dedier", batch)


@pytest.mark.parametrize("terms", [["ce"], ["kd"]])
def test_reweight_terms_of_the_config_reach_the_loss(batch, terms):
    kd_weight = float(terms == ["ce"])  # only the other term is left
    settings = {"student": {"kd_weight": kd_weight}, "weights": {"reweight_terms": terms}}
    torch.testing.assert_close(loss("dedier", batch, **settings), loss("kd", batch, **settings))
