import pytest
import torch

from dedier_laplace.readout import posterior
from dedier_laplace.readout.posterior import fit_curvature, posterior_of

N, D, C, PRIOR = 90, 5, 3, 0.7


@pytest.fixture
def around():
    """Inputs [N, D], labels [N] and a weight [C, D], in float64."""
    generator = torch.Generator().manual_seed(0)
    inputs = 2 * torch.randn(N, D, generator=generator, dtype=torch.float64) + 1
    labels = torch.randint(C, (N,), generator=generator)
    return inputs, labels, torch.randn(C, D, generator=generator, dtype=torch.float64)


def covariance(inputs, labels, weight, hessian, prior=PRIOR, temperature=1.0):
    """Of the logits, [N, C, C]."""
    curvature = fit_curvature(inputs, labels, weight, prior, hessian)
    return posterior_of(curvature, hessian, inputs, temperature).logit_covariance(inputs)


def ggn(inputs, weight, hessian):
    """Of the summed cross-entropy over W flattened, [C D, C D]."""
    p = (inputs @ weight.T).softmax(1)
    blocks = torch.diag_embed(p) - p.unsqueeze(2) * p.unsqueeze(1)
    if hessian == "kron":
        return torch.kron(blocks.mean(0), inputs.T @ inputs)
    full = torch.einsum("nab,ni,nj->aibj", blocks, inputs, inputs).reshape(C * D, C * D)
    return full if hessian == "full" else full.diagonal().diag()


@pytest.mark.parametrize("hessian", ["kron", "full", "diag"])
@pytest.mark.parametrize("temperature", [0.1, 1.0, 3.0])
def test_temperature_divides_the_curvature_alone(around, hessian, temperature):
    inputs, _, weight = around
    precision = ggn(inputs, weight, hessian) / temperature + PRIOR * torch.eye(C * D).to(inputs)
    jacobians = torch.stack([torch.kron(torch.eye(C).to(x), x.unsqueeze(0)) for x in inputs])
    expected = jacobians @ torch.linalg.inv(precision) @ jacobians.mT
    found = covariance(*around, hessian, temperature=temperature)
    assert (found - expected).norm() < 1e-8 * expected.norm()


@pytest.mark.parametrize("hessian", ["kron", "full", "diag"])
def test_covariance_equals_laplace_torchs(around, hessian):
    inputs = around[0]
    curvature = fit_curvature(*around, PRIOR, hessian)
    curvature.temperature = 2.0
    _, expected = curvature._glm_predictive_distribution(inputs)
    found = covariance(*around, hessian, temperature=2.0)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)


def test_kron_equals_full_where_every_sample_has_the_same_probabilities(around):
    inputs, labels, weight = around
    kron, full = (covariance(inputs, labels, 0 * weight, h) for h in ("kron", "full"))
    torch.testing.assert_close(kron, full)
    kron, full = (covariance(inputs, labels, weight, h) for h in ("kron", "full"))
    assert not torch.allclose(kron, full, rtol=1e-2)


def test_diagonal_is_that_of_the_full_curvature(around):
    full, diagonal = (fit_curvature(*around, PRIOR, h).H for h in ("full", "diag"))
    torch.testing.assert_close(diagonal, full.diagonal())
    torch.testing.assert_close(diagonal, ggn(around[0], around[2], "diag").diagonal())


def test_diagonal_covariance_in_closed_form(around):
    inputs, _, weight = around
    p = (inputs @ weight.T).softmax(1)
    precision = (p * (1 - p)).T @ inputs.square() + PRIOR
    expected = torch.diag_embed(inputs.square() @ precision.reciprocal().T)
    torch.testing.assert_close(covariance(*around, "diag"), expected)


@pytest.mark.parametrize("hessian", ["full", "diag"])
def test_curvature_summed_over_batches_is_that_of_one(around, hessian, monkeypatch):
    whole = fit_curvature(*around, PRIOR, hessian)
    monkeypatch.setattr(posterior, "ROWS_AT_ONCE", 40)
    cut = fit_curvature(*around, PRIOR, hessian)
    torch.testing.assert_close(cut.H, whole.H)
    torch.testing.assert_close(cut.log_marginal_likelihood(), whole.log_marginal_likelihood())


@pytest.mark.parametrize("hessian", ["kron", "full", "diag"])
def test_global_generator_is_left_alone(around, hessian):
    before = torch.get_rng_state()
    fit_curvature(*around, PRIOR, hessian)
    assert torch.equal(before, torch.get_rng_state())
