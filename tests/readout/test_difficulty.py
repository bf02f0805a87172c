import pytest
import torch

from dedier_laplace.readout.difficulty import confidence_margin


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
