import pytest
import torch

from dedier_laplace.readout.predictive import (
    Predictive,
    at_map,
    concatenate,
    mixture,
    monte_carlo,
    probit,
)
from dedier_laplace.readout.signals import mutual_information

N, C = 6, 3


@pytest.fixture
def gaussian():
    """Mean [N, C] and covariance [N, C, C] of logits."""
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(N, C, generator=generator, dtype=torch.float64)
    root = torch.randn(N, C, C, generator=generator, dtype=torch.float64)
    return mean, root @ root.mT


def draw(mean, covariance, n_samples=1000, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return monte_carlo(mean, covariance, n_samples=n_samples, generator=generator)


def entropy(probabilities):
    return torch.distributions.Categorical(probabilities).entropy()


def test_probit_ignores_variance_that_all_classes_share(gaussian):
    mean, covariance = gaussian
    expected = probit(mean, covariance).probabilities
    torch.testing.assert_close(probit(mean, covariance + 37.0).probabilities, expected)
    torch.testing.assert_close(probit(mean + 5.0, covariance).probabilities, expected)
    stretched = covariance + 37.0 * torch.eye(C, dtype=torch.float64)
    assert not torch.allclose(probit(mean, stretched).probabilities, expected)


def test_probit_has_no_expected_entropy(gaussian):
    assert probit(*gaussian).expected_entropy.isnan().all()


def test_draws_equal_torchs_multivariate_normal(gaussian):
    mean, covariance = gaussian
    torch.manual_seed(0)
    logits = torch.distributions.MultivariateNormal(mean, covariance).sample((50_000,))
    found = draw(mean, covariance, 50_000)
    softmax = logits.softmax(-1)
    torch.testing.assert_close(found.probabilities, softmax.mean(0), rtol=0, atol=0.01)
    torch.testing.assert_close(found.expected_entropy, entropy(softmax).mean(0), rtol=0, atol=0.01)


def test_draws_share_their_uncertainty_between_entropy_and_information(gaussian):
    found = draw(*gaussian)
    assert (found.expected_entropy < entropy(found.probabilities)).all()


def test_draws_without_covariance_are_the_map(gaussian):
    mean, covariance = gaussian
    found, expected = draw(mean, 0 * covariance), at_map(mean)
    torch.testing.assert_close(found.probabilities, expected.probabilities)
    torch.testing.assert_close(found.expected_entropy, expected.expected_entropy)
    assert (found.logit_variance == 0).all()


def test_mixture_of_one_is_itself(gaussian):
    alone = draw(*gaussian)
    for name, values in vars(mixture([alone])).items():
        if name != "set_size":
            torch.testing.assert_close(values, getattr(alone, name))


def test_mixture_averages(gaussian):
    mean, covariance = gaussian
    parts = [draw(mean, covariance), draw(-mean, 2 * covariance)]
    found = mixture(parts)
    for name in ("probabilities", "expected_entropy", "logit_variance"):
        expected = (getattr(parts[0], name) + getattr(parts[1], name)) / 2
        torch.testing.assert_close(getattr(found, name), expected)
    ones = torch.ones(N, dtype=torch.float64)
    torch.testing.assert_close(found.probabilities.sum(1), ones)
    assert found.set_size is None


def test_mixture_of_readouts_that_disagree_has_information_at_the_map(gaussian):
    mean, _ = gaussian
    agree, disagree = mixture([at_map(mean)] * 2), mixture([at_map(mean), at_map(-mean)])
    informed = mutual_information(disagree.probabilities, disagree.expected_entropy)
    none = mutual_information(agree.probabilities, agree.expected_entropy)
    assert (informed > 1e-3).all()
    assert (none == 0).all()


def test_mixture_of_none_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        mixture([])


def test_parts_put_together_are_the_whole(gaussian):
    mean, covariance = gaussian
    whole = probit(mean, covariance)
    parts = [probit(mean[i : i + 2], covariance[i : i + 2]) for i in range(0, N, 2)]
    found = concatenate(parts)
    assert isinstance(found, Predictive)
    torch.testing.assert_close(found.probabilities, whole.probabilities)
    torch.testing.assert_close(found.logit_variance, whole.logit_variance)
