import pytest
import torch

from dedier_laplace.readout.prior_search import PRIOR_BOUNDS, by_validation


def test_validation_search_tries_every_decade_and_starts_where_the_last_ended():
    tried, starts = [], []

    def approximate(prior, start):
        tried.append(prior)
        starts.append(float(start))
        return start + 1, None

    found, weight = by_validation(
        approximate, torch.zeros(()), lambda weight, _: abs(float(weight) - 4)
    )
    assert starts == list(range(11))
    assert (max(tried), min(tried)) == pytest.approx(PRIOR_BOUNDS[::-1])
    assert tried == sorted(tried, reverse=True)
    assert found == tried[3]
    assert float(weight) == 4
