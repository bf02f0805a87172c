import json
from math import log

import pytest
import torch

from dedier_laplace.readout.difficulty import difficulty
from dedier_laplace.readout.predictive import at_map, monte_carlo
from dedier_laplace.readout.signals import (
    confidence_margin,
    mutual_information,
    predictive_entropy,
    set_size,
    top_logit_variance,
)


def test_margin_is_the_distance_between_the_two_largest():
    found = confidence_margin([[0.2, 0.7, 0.1], [0.1, 0.15, 0.75]])
    torch.testing.assert_close(found, torch.tensor([0.5, 0.6]))


@pytest.mark.parametrize(("row", "margin"), [([0.4, 0.2, 0.4], 0.0), ([0.0, 1.0, 0.0], 1.0)])
def test_margin_is_zero_at_a_tie_and_one_when_certain(row, margin):
    assert confidence_margin([row]).tolist() == [margin]


def test_margin_equals_sorting():
    probabilities = torch.rand(50, 5, dtype=torch.float64).softmax(-1)
    ordered = probabilities.sort(dim=1).values
    torch.testing.assert_close(confidence_margin(probabilities), ordered[:, -1] - ordered[:, -2])


def test_margin_does_not_depend_on_which_classes_are_on_top():
    probabilities = torch.rand(20, 4).softmax(-1)
    shuffled = probabilities[:, torch.randperm(4)]
    assert torch.equal(confidence_margin(probabilities), confidence_margin(shuffled))


def test_margin_of_two_classes_is_twice_the_distance_from_a_half():
    p = torch.rand(20, dtype=torch.float64)
    margins = confidence_margin(torch.stack([p, 1 - p], dim=1))
    torch.testing.assert_close(margins, 2 * (p - 0.5).abs())


def test_entropy_is_zero_when_certain_and_log_classes_when_uniform():
    found = predictive_entropy([[0.0, 1.0, 0.0], [1 / 3, 1 / 3, 1 / 3]])
    torch.testing.assert_close(found, torch.tensor([0.0, log(3)]))


def test_entropy_equals_torchs():
    probabilities = torch.rand(20, 4, dtype=torch.float64).softmax(-1)
    expected = torch.distributions.Categorical(probabilities).entropy()
    torch.testing.assert_close(predictive_entropy(probabilities), expected)


def test_mutual_information_is_zero_at_the_map():
    predictive = at_map(torch.randn(20, 4))
    found = mutual_information(predictive.probabilities, predictive.expected_entropy)
    assert (found == 0).all()


def test_mutual_information_of_opposite_certainties_is_a_bit():
    found = mutual_information([[0.5, 0.5]], [0.0])
    torch.testing.assert_close(found, torch.tensor([log(2)]))


def test_mutual_information_is_never_below_zero():
    assert mutual_information([[0.5, 0.5]], [log(2) + 1e-6]).item() == 0


@pytest.mark.parametrize("hessian", ["full", "kron"])
def test_entropy_and_information_equal_the_reference(shared, hessian):
    path = shared / "reference" / "laplace_last_layer.json"
    if not path.exists():
        pytest.skip(f"no reference numbers {path.name}")
    cases = json.loads(path.read_text(encoding="utf-8"))["test"]

    def read(*keys):
        values = [case[keys[0]] if len(keys) == 1 else case[keys[0]][keys[1]] for case in cases]
        return torch.tensor(values, dtype=torch.float64)

    found = monte_carlo(
        read("logit_mean"),
        read(hessian, "logit_covariance"),
        n_samples=400_000,
        generator=torch.Generator().manual_seed(0),
    )
    for kind in ("entropy", "mutual_information"):
        torch.testing.assert_close(difficulty(kind, found), read(hessian, kind), rtol=0, atol=3e-3)


def test_logit_variance_ignores_what_all_logits_share():
    mean, root = torch.randn(5, 3).double(), torch.randn(5, 3, 3).double()
    covariance = root @ root.mT
    found = top_logit_variance(mean, covariance)
    torch.testing.assert_close(top_logit_variance(mean, covariance + 9.0), found)
    torch.testing.assert_close(top_logit_variance(mean, 4 * covariance), 4 * found)
    assert (top_logit_variance(mean, torch.ones(5, 3, 3).double()) == 0).all()


def test_set_size_counts_labels_and_an_empty_set_as_all():
    sets = torch.tensor([[True, False, False], [True, False, True], [False, False, False]])
    assert set_size(sets).tolist() == [1, 2, 3]
    assert set_size(sets.expand(4, 3, 3)).shape == (4, 3)
