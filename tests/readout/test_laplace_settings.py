"""What `LaplaceReadout.fit` and `predictive` can be told, beside the mathematics they stand on."""

import math

import pytest
import torch
from torch.nn import functional as F

from dedier_laplace.readout.laplace import DRAWS_AT_ONCE, LaplaceReadout

N, D, C = 120, 4, 3
HESSIANS = ["kron", "full", "diag"]


def make_data(n=N, seed=0):
    """Float64 features; labels that depend on them, noisily."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(n, D, generator=generator, dtype=torch.float64) * 2 + 1.5
    logits = features[:, :C] - features[:, 1:]
    return features, torch.multinomial(logits.softmax(1), 1, generator=generator).squeeze(1)


@pytest.fixture
def data():
    return make_data()


def fit(features, labels, prior=0.7, hessian="kron", **settings):
    return LaplaceReadout().fit(
        features, labels, prior_precision=prior, hessian=hessian, n_classes=C, **settings
    )


@pytest.mark.parametrize("hessian", HESSIANS)
def test_temperature_moves_neither_map_nor_prior_nor_marginal_likelihood(data, hessian):
    cold, warm = (
        fit(*data, prior="marglik", hessian=hessian, posterior_temperature=t) for t in (0.1, 10.0)
    )
    assert torch.equal(cold.weight, warm.weight)
    assert cold.prior_precision == warm.prior_precision
    assert cold.log_marginal_likelihood() == warm.log_marginal_likelihood()


@pytest.mark.parametrize("hessian", HESSIANS)
def test_temperature_near_zero_gives_the_map_predictive(data, hessian):
    features, labels = data
    readout = fit(features, labels, hessian=hessian, posterior_temperature=1e-12)
    expected = readout.predict(features, link="map")
    for link in ("mc", "probit"):
        torch.testing.assert_close(
            readout.predict(features, link=link), expected, rtol=0, atol=1e-5
        )


@pytest.mark.parametrize("hessian", HESSIANS)
def test_higher_temperature_widens_the_posterior(data, hessian):
    found = [
        fit(*data, hessian=hessian, posterior_temperature=t).predictive(data[0]).logit_variance
        for t in (0.5, 1.0, 5.0)
    ]
    assert (found[0] < found[1]).all()
    assert (found[1] < found[2]).all()


@pytest.mark.parametrize("hessian", HESSIANS)
def test_validation_nll_picks_the_best_decade(data, hessian):
    held_out, targets = make_data(60, seed=5)

    def nll(readout):
        found = readout.predict(held_out, link="probit")
        return float(F.nll_loss(found.log(), targets))

    chosen = fit(
        *data,
        prior="validation_nll",
        hessian=hessian,
        validation=(held_out, targets),
        posterior_temperature=100.0,  # plays no part in the search
    )
    each = {10.0**k: nll(fit(*data, prior=10.0**k, hessian=hessian)) for k in range(-4, 7)}
    assert chosen.prior_precision == min(each, key=each.get)
    assert chosen.posterior_temperature == 100.0


def test_validation_nll_without_validation_is_refused(data):
    with pytest.raises(ValueError, match="validation_nll needs"):
        fit(*data, prior="validation_nll")


@pytest.mark.parametrize("prior", [0.7, "marglik"])
def test_warm_fit_equals_one_from_scratch(data, prior):
    features, labels = data
    earlier = fit(features + 0.1, labels, prior=3.0)
    scratch, warm = (fit(*data, prior=prior, start=start) for start in (None, earlier.weight))
    torch.testing.assert_close(warm.weight, scratch.weight, rtol=1e-5, atol=1e-6)
    assert warm.prior_precision == pytest.approx(scratch.prior_precision, rel=1e-4)


def test_minibatch_fit_equals_the_full_batch_one(data):
    full, cut = (fit(*data, batch_size=size, tolerance=1e-7) for size in (None, 16))
    torch.testing.assert_close(cut.weight, full.weight, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_temperature_that_is_not_above_zero_is_refused(data, temperature):
    with pytest.raises(ValueError, match="posterior_temperature"):
        fit(*data, posterior_temperature=temperature)


def test_start_of_another_shape_is_refused(data):
    with pytest.raises(ValueError, match="start"):
        fit(*data, start=torch.zeros(C, D))


@pytest.mark.parametrize("link", ["mc", "probit"])
def test_predictive_of_chunks_is_that_of_the_whole(data, link, monkeypatch):
    """Draws differ, what they estimate does not; probit has none."""
    features, labels = data
    readout = fit(features, labels)
    n_samples = 20_000 if link == "mc" else 1
    whole = readout.predictive(features[:9], link=link, n_samples=n_samples)
    monkeypatch.setattr("dedier_laplace.readout.laplace.DRAWS_AT_ONCE", 2 * C * n_samples)
    cut = readout.predictive(features[:9], link=link, n_samples=n_samples)
    torch.testing.assert_close(cut.probabilities, whole.probabilities, rtol=0, atol=0.02)
    torch.testing.assert_close(cut.logit_variance, whole.logit_variance)


def test_no_chunk_of_draws_is_larger_than_stated(data, monkeypatch):
    sizes = []

    def note(shape, **settings):
        sizes.append(math.prod(shape))
        return torch.zeros(shape, dtype=settings["dtype"])

    features, labels = data
    readout = fit(features, labels)
    monkeypatch.setattr("dedier_laplace.readout.predictive.torch.randn", note)
    monkeypatch.setattr("dedier_laplace.readout.laplace.DRAWS_AT_ONCE", 1000)
    readout.predictive(features, n_samples=40)
    assert sum(sizes) == N * 40 * C
    assert max(sizes) <= 1000 < DRAWS_AT_ONCE


def test_predictive_at_the_map_has_no_posterior_uncertainty(data):
    features, labels = data
    found = fit(features, labels).predictive(features, link="map")
    assert (found.logit_variance == 0).all()
    entropy = torch.distributions.Categorical(found.probabilities).entropy()
    torch.testing.assert_close(found.expected_entropy, entropy)


def test_logit_variance_is_that_of_the_two_largest_logits(data):
    features, labels = data
    readout = fit(features, labels)
    mean, covariance = readout.logit_distribution(features)
    contrast = torch.zeros_like(mean)
    order = mean.argsort(1, descending=True)
    contrast.scatter_(1, order[:, :1], 1.0).scatter_(1, order[:, 1:2], -1.0)
    expected = torch.einsum("nc,ncd,nd->n", contrast, covariance, contrast)
    for link in ("mc", "probit"):
        torch.testing.assert_close(readout.predictive(features, link=link).logit_variance, expected)


@pytest.mark.parametrize("prior", [1e-6, 1e-4, "validation_nll"])
def test_full_posterior_of_fewer_samples_than_weights_can_be_factored(prior):
    generator = torch.Generator().manual_seed(0)
    scales = torch.logspace(1, -3, 64)  # hidden states: a few directions carry nearly everything
    features = torch.randn(50, 64, generator=generator) * scales
    labels = torch.arange(50) % 3
    readout = LaplaceReadout().fit(
        features, labels, prior_precision=prior, hessian="full", validation=(features, labels)
    )
    _, covariance = readout.logit_distribution(features)
    assert covariance.dtype == torch.float32
    assert (covariance.diagonal(dim1=1, dim2=2) > 0).all()
