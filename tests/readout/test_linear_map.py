import numpy as np
import pytest
import torch
from torch.nn import functional as F

from dedier_laplace.readout.linear_map import fit_map

N, D, C = 150, 6, 3


@pytest.fixture
def data():
    """Features far from white, a column of ones behind them; noisy labels."""
    generator = torch.Generator().manual_seed(3)
    scale = torch.logspace(-1, 1, D, dtype=torch.float64)
    features = torch.randn(N, D, generator=generator, dtype=torch.float64) * scale + 2 * scale
    inputs = torch.cat([features, torch.ones(N, 1, dtype=torch.float64)], dim=1)
    return inputs, torch.randint(C, (N,), generator=generator)


def zeros(inputs):
    return inputs.new_zeros(C, inputs.shape[1])


def objective(weight, inputs, labels, prior):
    ce = F.cross_entropy(inputs @ weight.T, labels, reduction="sum")
    return ce + prior / 2 * weight.square().sum()


@pytest.mark.parametrize("prior", [1e-2, 1.0, 100.0])
def test_gradient_vanishes_at_the_result(data, prior):
    inputs, labels = data
    weight = fit_map(inputs, labels, prior, zeros(inputs)).requires_grad_()
    (gradient,) = torch.autograd.grad(objective(weight, inputs, labels, prior), weight)
    assert gradient.abs().max() < 1e-9 * inputs.abs().sum()


@pytest.mark.parametrize("prior", [0.3, 30.0])
def test_result_equals_scikit_learns(data, prior):
    from sklearn.linear_model import LogisticRegression

    inputs, labels = data
    model = LogisticRegression(
        fit_intercept=False, C=1 / prior, solver="newton-cg", tol=1e-10, max_iter=10_000
    ).fit(inputs.numpy(), labels.numpy())
    found = fit_map(inputs, labels, prior, zeros(inputs)).numpy()
    np.testing.assert_allclose(found, model.coef_, rtol=1e-4, atol=1e-6)


def test_result_does_not_depend_on_the_start(data):
    inputs, labels = data
    far = torch.randn(C, D + 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(
        fit_map(inputs, labels, 1.0, far),
        fit_map(inputs, labels, 1.0, zeros(inputs)),
        rtol=1e-5,
        atol=1e-5,
    )


def test_float32_finds_what_float64_finds(data):
    inputs, labels = data
    found = fit_map(inputs.float(), labels, 1.0, zeros(inputs))
    assert found.dtype == torch.float32
    expected = fit_map(inputs, labels, 1.0, zeros(inputs))
    torch.testing.assert_close(found.double(), expected, rtol=1e-2, atol=1e-3)


def test_stronger_prior_gives_smaller_weights(data):
    inputs, labels = data
    norms = [float(fit_map(inputs, labels, p, zeros(inputs)).norm()) for p in (0.1, 1, 10, 100)]
    assert norms == sorted(norms, reverse=True)


def test_separable_data_with_more_features_than_samples_is_fitted():
    inputs = torch.randn(8, 20, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    labels = torch.arange(8) % C
    weight = fit_map(inputs, labels, 1e-3, inputs.new_zeros(C, 20))
    assert torch.isfinite(weight).all()
    assert torch.equal((inputs @ weight.T).argmax(1), labels)


@pytest.mark.parametrize("prior", [0.1, 1.0, 100.0])
@pytest.mark.parametrize("batch_size", [7, 64, 1000])
def test_minibatches_find_what_lbfgs_finds(data, prior, batch_size):
    inputs, labels = data
    expected = fit_map(inputs, labels, prior, zeros(inputs))
    found = fit_map(
        inputs, labels, prior, zeros(inputs), tolerance=1e-7, batch_size=batch_size, seed=1
    )
    assert (found - expected).norm() < 1e-4 * expected.norm()


def test_minibatches_find_the_same_in_float32(data):
    inputs, labels = data
    expected = fit_map(inputs, labels, 1.0, zeros(inputs))
    found = fit_map(inputs.float(), labels, 1.0, zeros(inputs), batch_size=32)
    assert found.dtype == torch.float32
    assert (found - expected).norm() < 2e-3 * expected.norm()


def test_seed_decides_the_minibatches(data):
    inputs, labels = data
    before = torch.get_rng_state()
    one, same, other = (
        fit_map(inputs, labels, 1.0, zeros(inputs), tolerance=1e-3, batch_size=16, seed=seed)
        for seed in (0, 0, 1)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("batch_size", [None, 32])
def test_smaller_tolerance_comes_nearer_to_the_optimum(data, batch_size):
    inputs, labels = (data[0].float(), data[1])
    expected = fit_map(*data, 1.0, zeros(data[0]))
    errors = [
        (
            fit_map(inputs, labels, 1.0, zeros(inputs), tolerance=size, batch_size=batch_size)
            - expected
        ).norm()
        for size in (1e-1, 1e-3, 1e-5)
    ]
    assert errors[0] > errors[1] > errors[2]


def test_start_at_the_optimum_stays_there(data):
    inputs, labels = data
    optimum = fit_map(inputs, labels, 1.0, zeros(inputs))
    for batch_size in (None, 16):
        found = fit_map(inputs, labels, 1.0, optimum, batch_size=batch_size)
        torch.testing.assert_close(found, optimum, rtol=1e-6, atol=1e-8)
