import math

import numpy as np
import pytest
import torch

from dedier_laplace.data.attributes import make_groups
from dedier_laplace.distillation.weights import (
    describe_weights,
    effective_sample_size,
    sample_weights,
    weight_shift,
)

N = 60


@pytest.fixture
def readout():
    """Probabilities and labels, of which about two thirds are wrong."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(N, 3, generator=generator, dtype=torch.float64)
    return logits.softmax(1), torch.randint(3, (N,), generator=generator)


def weigh(readout, alpha=0.2, beta=3.0, **settings):
    return sample_weights(*readout, alpha=alpha, beta=beta, **settings)


@pytest.mark.parametrize("reweight_on", ["wrong", "all"])
@pytest.mark.parametrize("normalize", ["none", "mean"])
def test_beta_zero_switches_weighting_off(readout, reweight_on, normalize):
    weights = weigh(readout, beta=0.0, reweight_on=reweight_on, normalize=normalize)
    assert (weights == 1).all()


def test_right_samples_keep_weight_one(readout):
    probabilities, labels = readout
    right = probabilities.argmax(1) == labels
    weights = weigh(readout)
    assert 0 < right.sum() < N
    assert (weights[right] == 1).all()
    assert (weights[~right] > 1).all()


def test_wrong_samples_weigh_the_same_whether_or_not_right_ones_are_weighted(readout):
    probabilities, labels = readout
    wrong = probabilities.argmax(1) != labels
    only_wrong, everyone = weigh(readout), weigh(readout, reweight_on="all")
    assert torch.equal(only_wrong[wrong], everyone[wrong])
    assert (everyone[~wrong] > 1).all()


def test_confident_errors_weigh_most():
    weights = sample_weights([[0.5, 0.5], [0.7, 0.3], [1.0, 0.0]], [1, 1, 1], alpha=1.0, beta=2.0)
    expected = [1.0, math.exp(2 * 0.4), math.exp(2)]
    torch.testing.assert_close(weights[1:], torch.tensor(expected[1:]))
    assert weights[0] == 1


def test_alpha_is_the_exponent_of_the_margin():
    weight = sample_weights([[0.75, 0.25]], [1], alpha=2.0, beta=3.0)
    torch.testing.assert_close(weight, torch.tensor([math.exp(3 * 0.5**2)]))


def test_normalised_weights_have_mean_one_and_keep_their_ratios(readout):
    plain, normalised = weigh(readout), weigh(readout, normalize="mean")
    assert float(normalised.mean()) == pytest.approx(1)
    torch.testing.assert_close(normalised * plain.mean(), plain)


def test_weights_depend_on_nothing_but_the_present_probabilities(readout):
    probabilities, labels = readout
    first = weigh(readout)
    weigh((probabilities.flip(1), labels))
    assert torch.equal(first, weigh(readout))
    corrected = torch.nn.functional.one_hot(labels, 3).double()
    assert (weigh((corrected, labels)) == 1).all()


def test_a_samples_weight_does_not_depend_on_the_others(readout):
    probabilities, labels = readout
    assert torch.equal(weigh((probabilities[:5], labels[:5])), weigh(readout)[:5])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_have_the_type_of_the_probabilities(readout, dtype):
    assert weigh((readout[0].to(dtype), readout[1])).dtype == dtype


def test_effective_sample_size_is_n_for_equal_weights():
    assert effective_sample_size(torch.full((N,), 0.3)) == pytest.approx(N, rel=1e-5)


def test_effective_sample_size_is_one_if_one_sample_has_all():
    assert effective_sample_size(torch.eye(N)[0]) == pytest.approx(1)


def test_effective_sample_size_lies_between_one_and_n_whatever_the_scale(readout):
    weights = weigh(readout)
    size = effective_sample_size(weights)
    assert 1 < size < N
    assert effective_sample_size(7 * weights) == pytest.approx(size)


def test_shift_between_equal_weights_is_zero(readout):
    weights = weigh(readout)
    shift = weight_shift(weights, weights)
    assert shift["mean_relative_change"] == 0
    assert shift["rank_correlation"] == pytest.approx(1)


def test_shift_is_relative_to_the_reference():
    shift = weight_shift(torch.tensor([2.0, 3.0, 8.0]), torch.tensor([1.0, 2.0, 10.0]))
    assert shift["mean_relative_change"] == pytest.approx((1 + 0.5 + 0.2) / 3)
    assert shift["rank_correlation"] == pytest.approx(1)
    assert weight_shift(torch.tensor([3.0, 2.0, 1.0]), torch.tensor([1.0, 2.0, 3.0]))[
        "rank_correlation"
    ] == pytest.approx(-1)


def test_constant_weights_have_no_rank_correlation():
    shift = weight_shift(torch.ones(4), torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert shift["rank_correlation"] is None


def test_description_tells_every_group_and_overall():
    groups = make_groups([0, 0, 1], np.array([0, 1, 1]), ["a", "b"], "x")
    reweighted = torch.tensor([False, True, True])
    found = describe_weights(torch.tensor([1.0, 3.0, 5.0]), reweighted, groups)
    assert found["mean"] == pytest.approx(3)
    assert found["max"] == 5
    assert found["share_reweighted"] == pytest.approx(2 / 3)
    assert found["effective_sample_size"] == pytest.approx(81 / 35)
    assert list(found["groups"]) == list(groups.names)
    assert found["groups"]["a, x"] == {"mean": 3, "max": 3, "share_reweighted": 1}
    assert found["groups"]["a, no x"] == {"mean": 1, "max": 1, "share_reweighted": 0}


def test_description_of_an_empty_group_is_none():
    groups = make_groups([0, 0, 1], np.array([0, 1, 1]), ["a", "b"], "x")
    found = describe_weights(torch.ones(3), torch.zeros(3, dtype=torch.bool), groups)
    assert set(found["groups"]["b, no x"].values()) == {None}
