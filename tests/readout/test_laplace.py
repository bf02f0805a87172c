import math

import pytest
import torch
from torch.nn import functional as F

from dedier_laplace.readout.laplace import LaplaceReadout

N, D, C = 120, 4, 3
HESSIANS = ["kron", "full", "diag"]


def make_data(n=N, seed=0):
    """Float64 features of non-zero mean and unequal scales, labels that depend on them."""
    generator = torch.Generator().manual_seed(seed)
    scale = torch.tensor([0.3, 1.0, 2.0, 4.0], dtype=torch.float64)
    features = torch.randn(n, D, generator=generator, dtype=torch.float64) * scale + 1.5
    slopes = torch.tensor([[1.0, -1, 0], [0, 1, -1], [-1, 0, 1], [1, -1, 0]], dtype=torch.float64)
    logits = features @ slopes
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator).squeeze(1)
    return features, labels


@pytest.fixture
def data():
    return make_data()


def fit(features, labels, prior=0.7, hessian="kron"):
    return LaplaceReadout().fit(
        features, labels, prior_precision=prior, hessian=hessian, n_classes=C
    )


def with_ones(features):
    return torch.cat([features, torch.ones(len(features), 1, dtype=features.dtype)], dim=1)


def likelihood_hessian(inputs, weight, hessian):
    """GGN of the summed cross-entropy over W [C, D] flattened; for softmax it is the Hessian."""
    p = (inputs @ weight.T).softmax(1)
    blocks = torch.diag_embed(p) - p.unsqueeze(2) * p.unsqueeze(1)
    if hessian == "kron":
        return torch.kron(blocks.mean(0), inputs.T @ inputs)
    size = weight.numel()
    full = torch.einsum("nab,ni,nj->aibj", blocks, inputs, inputs).reshape(size, size)
    return full if hessian == "full" else full.diagonal().diag()


def brute_map(inputs, labels, prior):
    """Newton's method, step by step to the end."""
    weight = inputs.new_zeros(C, inputs.shape[1])
    targets = F.one_hot(labels, C).to(inputs)
    identity = torch.eye(weight.numel(), dtype=inputs.dtype)
    for _ in range(50):
        gradient = ((inputs @ weight.T).softmax(1) - targets).T @ inputs + prior * weight
        curvature = likelihood_hessian(inputs, weight, "full") + prior * identity
        weight = weight - torch.linalg.solve(curvature, gradient.flatten()).reshape(weight.shape)
    return weight


def brute_force(inputs, labels, weight, prior, hessian, new):
    """Logit covariance and log marginal likelihood around `weight`, nothing factorised."""
    size = weight.numel()
    precision = likelihood_hessian(inputs, weight, hessian) + prior * torch.eye(size).to(weight)
    jacobians = torch.stack([torch.kron(torch.eye(C).to(x), x.unsqueeze(0)) for x in new])
    covariance = jacobians @ torch.linalg.inv(precision) @ jacobians.mT
    marginal = (
        -F.cross_entropy(inputs @ weight.T, labels, reduction="sum")
        - prior / 2 * weight.square().sum()
        + size / 2 * math.log(prior)
        - torch.logdet(precision) / 2
    )
    return covariance, float(marginal)


@pytest.mark.parametrize("prior", [0.05, 0.7, 20.0])
def test_map_equals_newtons_method(data, prior):
    features, labels = data
    expected = brute_map(with_ones(features), labels, prior)
    assert (fit(features, labels, prior).weight - expected).norm() < 1e-6 * expected.norm()


@pytest.mark.parametrize("hessian", HESSIANS)
@pytest.mark.parametrize("prior", [0.05, 0.7, 20.0])
def test_posterior_equals_brute_force(data, hessian, prior):
    features, labels = data
    new, _ = make_data(9, seed=1)
    readout = fit(features, labels, prior, hessian)
    covariance, marginal = brute_force(
        with_ones(features), labels, readout.weight, prior, hessian, with_ones(new)
    )
    found_mean, found_covariance = readout.logit_distribution(new)
    torch.testing.assert_close(found_mean, with_ones(new) @ readout.weight.T)
    assert (found_covariance - covariance).norm() < 1e-8 * covariance.norm()
    assert readout.log_marginal_likelihood() == pytest.approx(marginal, rel=1e-8)


def test_kron_and_full_differ_in_the_covariance_alone(data):
    features, _ = data
    kron, full = fit(*data), fit(*data, hessian="full")
    torch.testing.assert_close(kron.weight, full.weight)
    one, other = kron.logit_distribution(features)[1], full.logit_distribution(features)[1]
    assert not torch.allclose(one, other, rtol=1e-3)


@pytest.mark.parametrize("hessian", HESSIANS)
@pytest.mark.parametrize("link", ["mc", "probit", "map"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_type_of_the_features_is_kept(data, hessian, link, dtype):
    features, labels = data
    default = torch.get_default_dtype()
    readout = fit(features.to(dtype), labels, hessian=hessian)
    tensors = [readout.weight, *vars(readout.posterior).values()]
    assert {tensor.dtype for tensor in tensors} == {dtype}
    assert readout.predict(features.to(dtype), link=link).dtype == dtype
    assert torch.get_default_dtype() == default


@pytest.mark.parametrize("hessian", HESSIANS)
def test_float32_agrees_with_float64(data, hessian):
    features, labels = data
    mean, covariance = fit(features, labels, hessian=hessian).logit_distribution(features)
    single = fit(features.float(), labels, hessian=hessian).logit_distribution(features.float())
    torch.testing.assert_close(single[0].double(), mean, rtol=5e-3, atol=5e-3)
    torch.testing.assert_close(single[1].double(), covariance, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("link", ["mc", "probit", "map"])
def test_probabilities_of_a_sample_sum_to_one(data, link):
    features, labels = data
    found = fit(features, labels).predict(features, link=link, n_samples=7)
    assert found.shape == (N, C)
    assert (found >= 0).all()
    torch.testing.assert_close(found.sum(1), torch.ones(N, dtype=found.dtype))


def test_seed_decides_the_draws(data):
    features, labels = data
    readout = fit(features, labels)
    first = readout.predict(features, n_samples=5, seed=1)
    torch.rand(3)  # the global generator plays no part
    assert torch.equal(first, readout.predict(features, n_samples=5, seed=1))
    assert not torch.equal(first, readout.predict(features, n_samples=5, seed=2))


def test_predicting_leaves_the_global_generator_alone(data):
    features, labels = data
    readout = fit(features, labels)
    before = torch.get_rng_state()
    readout.predict(features, n_samples=5)
    assert torch.equal(before, torch.get_rng_state())


def test_draws_are_independent_across_samples(data):
    features, labels = data
    twins = features[:1].repeat(40, 1)
    found = fit(features, labels).predict(twins, n_samples=2)
    assert len(found.unique(dim=0)) == 40


def test_map_link_is_the_softmax_at_the_map(data):
    features, labels = data
    readout = fit(features, labels)
    expected = (with_ones(features) @ readout.weight.T).softmax(1)
    torch.testing.assert_close(readout.predict(features, link="map"), expected)


def test_vanishing_covariance_makes_every_link_the_map(data):
    features, labels = data
    readout = fit(features, labels, prior=1e9)
    expected = readout.predict(features, link="map")
    for link in ("mc", "probit"):
        torch.testing.assert_close(
            readout.predict(features, link=link, n_samples=50), expected, rtol=0, atol=1e-3
        )


def test_probit_is_close_to_monte_carlo(data):
    features, labels = data
    readout = fit(features, labels)
    monte_carlo = readout.predict(features, n_samples=20_000)
    probit, plain = (readout.predict(features, link=link) for link in ("probit", "map"))
    assert (probit - monte_carlo).abs().max() < 0.08
    assert (probit - monte_carlo).abs().mean() < (plain - monte_carlo).abs().mean()


def test_monte_carlo_converges_to_the_mean_over_weights(data):
    features, labels = data
    readout = fit(features, labels, hessian="full")
    size = readout.weight.numel()
    covariance = readout.posterior.covariance.reshape(size, size)
    posterior = torch.distributions.MultivariateNormal(readout.weight.flatten(), covariance)
    torch.manual_seed(0)
    weights = posterior.sample((20_000,)).reshape(-1, *readout.weight.shape)
    logits = torch.einsum("nd,scd->snc", with_ones(features[:5]), weights)
    torch.testing.assert_close(
        readout.predict(features[:5], n_samples=20_000),
        logits.softmax(-1).mean(0),
        rtol=0,
        atol=0.01,
    )


def test_uncertainty_makes_predictions_less_confident(data):
    features, labels = data
    readout = fit(features, labels)
    far = 20 * features
    laplace, plain = (readout.predict(far, link=link).amax(1) for link in ("probit", "map"))
    assert (laplace <= plain + 1e-12).all()
    assert laplace.mean() < plain.mean() - 0.05


@pytest.mark.parametrize("hessian", HESSIANS)
def test_saved_readout_predicts_the_same(data, hessian, tmp_path):
    features, labels = data
    readout = fit(features, labels, hessian=hessian)
    readout.save(tmp_path / "readout")
    loaded = LaplaceReadout.load(tmp_path / "readout")
    for link in ("mc", "probit", "map"):
        assert torch.equal(
            loaded.predict(features, link=link, seed=4),
            readout.predict(features, link=link, seed=4),
        )
    assert loaded.hessian == hessian
    assert loaded.prior_precision == readout.prior_precision
    assert loaded.log_marginal_likelihood() == readout.log_marginal_likelihood()


@pytest.mark.parametrize("hessian", HESSIANS)
def test_marglik_prior_is_no_worse_than_ten_times_less_or_more(data, hessian):
    chosen = fit(*data, prior="marglik", hessian=hessian)
    for factor in (0.1, 10):
        other = fit(*data, prior=factor * chosen.prior_precision, hessian=hessian)
        assert chosen.log_marginal_likelihood() >= other.log_marginal_likelihood()


def test_marglik_tells_the_prior_precision_that_its_weights_were_fitted_with(data):
    chosen = fit(*data, prior="marglik")
    again = fit(*data, prior=chosen.prior_precision)
    torch.testing.assert_close(chosen.weight, again.weight, rtol=0.02, atol=0.02)
    assert chosen.log_marginal_likelihood() == pytest.approx(
        again.log_marginal_likelihood(), rel=1e-3
    )


def test_marglik_prefers_a_strong_prior_when_features_say_nothing(data):
    features, labels = data
    shuffled = labels[torch.randperm(N, generator=torch.Generator().manual_seed(0))]
    noise, signal = (
        fit(features, target, prior="marglik").prior_precision for target in (shuffled, labels)
    )
    assert noise > signal


@pytest.mark.parametrize("hessian", HESSIANS)
def test_order_of_the_samples_does_not_matter(data, hessian):
    features, labels = data
    order = torch.randperm(N, generator=torch.Generator().manual_seed(0))
    one = fit(features, labels, hessian=hessian).logit_distribution(features)
    other = fit(features[order], labels[order], hessian=hessian).logit_distribution(features)
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("hessian", HESSIANS)
def test_more_data_makes_the_covariance_smaller(hessian):
    new, _ = make_data(10, seed=9)
    traces = [
        fit(*make_data(n), hessian=hessian)
        .logit_distribution(new)[1]
        .diagonal(dim1=1, dim2=2)
        .sum(1)
        for n in (60, 600)
    ]
    assert (traces[1] < traces[0]).all()


def test_classes_without_a_sample_get_a_row(data):
    features, labels = data
    present = labels < 2
    readout = fit(features[present], labels[present])
    assert readout.predict(features).shape == (N, C)


def test_number_of_classes_is_read_from_the_labels_when_not_given(data):
    readout = LaplaceReadout().fit(*data, prior_precision=1.0)
    assert len(readout.weight) == C


def test_numpy_arrays_and_lists_are_accepted(data):
    features, labels = data
    readout = LaplaceReadout().fit(features.numpy(), labels.tolist(), prior_precision=0.7)
    expected = fit(features, labels).predict(features, link="map")
    torch.testing.assert_close(readout.predict(features.numpy(), link="map"), expected)


@pytest.mark.parametrize("prior", [0, -1.0, float("nan")])
def test_prior_precision_that_is_not_above_zero_is_refused(data, prior):
    with pytest.raises(ValueError, match="prior_precision"):
        fit(*data, prior=prior)


def test_unknown_hessian_is_refused(data):
    with pytest.raises(ValueError, match="kron, full, diag"):
        fit(*data, hessian="lowrank")


@pytest.mark.parametrize(
    ("features", "labels"),
    [
        (torch.ones(5, 2), torch.zeros(4, dtype=torch.long)),
        (torch.ones(5, 2), torch.zeros(5, 1, dtype=torch.long)),
        (torch.ones(0, 2), torch.zeros(0, dtype=torch.long)),
        (torch.ones(5), torch.zeros(5, dtype=torch.long)),
    ],
    ids=["fewer labels", "labels in a column", "no samples", "features in one dimension"],
)
def test_wrong_shapes_are_refused(features, labels):
    with pytest.raises(ValueError, match="shape"):
        fit(features, labels)


def test_unknown_link_is_refused(data):
    with pytest.raises(ValueError, match="link"):
        fit(*data).predict(data[0], link="probits")
