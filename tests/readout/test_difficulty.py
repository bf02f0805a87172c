from dataclasses import replace
from typing import get_args

import pytest
import torch

from dedier_laplace.config.readout import Signal as config_signal
from dedier_laplace.readout.difficulty import SIGNALS, confidence, difficulty
from dedier_laplace.readout.predictive import Predictive, at_map
from dedier_laplace.readout.signals import (
    confidence_margin,
)


def rising():
    """Three samples, each less certain than the one before by every signal."""
    return Predictive(
        probabilities=torch.tensor([[1.0, 0.0, 0.0], [0.7, 0.2, 0.1], [1 / 3, 1 / 3, 1 / 3]]),
        expected_entropy=torch.tensor([0.0, 0.5, 0.0]),
        logit_variance=torch.tensor([0.0, 2.0, 1e9]),
        set_size=torch.tensor([1, 2, 3]),
    )


@pytest.mark.parametrize("kind", SIGNALS)
def test_confidence_is_high_for_the_certain_and_within_its_bounds(kind):
    found = confidence(kind, rising())
    assert found[0] == 1
    assert found[0] > found[1] > found[2]
    assert found[2].item() == pytest.approx(0, abs=1e-4)
    assert (found >= 0).all()


@pytest.mark.parametrize("kind", SIGNALS)
def test_raw_signal_rises_with_difficulty_but_for_the_margin(kind):
    found = difficulty(kind, rising())
    assert found.dtype == torch.float32
    ordered = found if kind == "margin" else -found
    assert ordered[0] > ordered[1] > ordered[2]


def test_confidence_by_margin_is_the_margin():
    predictive = at_map(torch.randn(10, 4))
    expected = confidence_margin(predictive.probabilities)
    assert torch.equal(confidence("margin", predictive), expected)
    assert torch.equal(difficulty("margin", predictive), expected)


def test_signals_are_those_of_the_config():
    assert set(SIGNALS) == set(get_args(config_signal))


def test_unknown_signal_is_refused():
    for read in (difficulty, confidence):
        with pytest.raises(ValueError, match="margin, entropy"):
            read("surprise", rising())


def test_signals_that_a_predictive_does_not_carry_are_refused():
    bare = replace(rising(), set_size=None, expected_entropy=torch.full((3,), torch.nan))
    with pytest.raises(ValueError, match="prediction sets"):
        confidence("set_size", bare)
    with pytest.raises(ValueError, match="draws"):
        confidence("mutual_information", bare)
