import pytest
import torch
from torch import nn

from dedier_laplace.readout.hidden_layers import (
    fit_hidden_layers,
    load_hidden_layers,
    save_hidden_layers,
)
from dedier_laplace.readout.laplace import LaplaceReadout

SETTINGS = {
    "hidden_layers": 1,
    "hidden_size": 8,
    "n_classes": 2,
    "prior_precision": 0.1,
    "batch_size": None,
    "tolerance": 1e-5,
    "seed": 0,
}


def xor(dtype=torch.float32):
    """Four clouds, far from the origin; the label is the XOR of their signs."""
    generator = torch.Generator().manual_seed(0)
    signs = torch.randint(0, 2, (200, 2), generator=generator)
    noise = 0.2 * torch.randn(200, 2, generator=generator, dtype=dtype)
    return 30 * (2 * signs - 1 + noise) + 100, signs.sum(1) % 2


def fit(features, labels, **settings):
    return fit_hidden_layers(features, labels, **{**SETTINGS, **settings})


def accuracy(features, labels):
    readout = LaplaceReadout().fit(features, labels, prior_precision=0.1)
    return float((readout.logits(features).argmax(1) == labels).float().mean())


@pytest.mark.parametrize("batch_size", [None, 32])
@pytest.mark.parametrize("hidden_layers", [1, 2])
def test_hidden_layers_solve_xor_where_a_linear_readout_cannot(batch_size, hidden_layers):
    features, labels = xor()
    layers = fit(features, labels, batch_size=batch_size, hidden_layers=hidden_layers)
    assert accuracy(features, labels) < 0.8
    assert accuracy(layers(features), labels) > 0.98


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_activations_have_type_and_size_asked_for(dtype):
    features, labels = xor(dtype)
    found = fit(features, labels, hidden_layers=2, hidden_size=5)(features)
    assert found.shape == (200, 5)
    assert found.dtype == dtype
    assert not found.requires_grad


@pytest.mark.parametrize("batch_size", [None, 32])
def test_seed_decides_the_layers_and_the_global_generator_plays_no_part(batch_size):
    features, labels = xor()
    before = torch.get_rng_state()
    one = fit(features, labels, batch_size=batch_size)(features)
    assert torch.equal(before, torch.get_rng_state())
    torch.rand(3)
    assert torch.equal(one, fit(features, labels, batch_size=batch_size)(features))
    assert not torch.equal(one, fit(features, labels, batch_size=batch_size, seed=1)(features))


def test_features_scaled_and_shifted_give_the_same_layers():
    features, labels = xor(torch.float64)
    one, other = fit(features, labels), fit(7 * features - 3, labels)
    torch.testing.assert_close(other(7 * features - 3), one(features), rtol=1e-3, atol=1e-3)


def test_constant_feature_is_harmless():
    features, labels = xor()
    features = torch.cat([features, torch.full((200, 1), 5.0)], dim=1)
    assert fit(features, labels)(features).isfinite().all()


def test_warm_fit_goes_on_where_the_last_ended():
    features, labels = xor(torch.float64)
    settled = fit(features, labels, tolerance=1e-9)
    kept = [p.clone() for p in settled.parameters()]
    warm = fit(features, labels, tolerance=1e-6, start=settled, seed=5)
    torch.testing.assert_close(warm(features), settled(features), rtol=0.02, atol=0.02)
    for before, after in zip(kept, settled.parameters(), strict=True):
        assert torch.equal(before, after)  # the earlier layers are copied, not trained on


def test_stronger_prior_gives_smaller_weights():
    features, labels = xor()
    norms = [
        float(nn.utils.parameters_to_vector(layers.parameters()).norm())
        for layers in (fit(features, labels, prior_precision=p) for p in (0.1, 10.0))
    ]
    assert norms[0] > norms[1]


@pytest.mark.parametrize("hidden_layers", [1, 3])
def test_saved_layers_give_the_same_activations(hidden_layers, tmp_path):
    features, labels = xor()
    layers = fit(features, labels, hidden_layers=hidden_layers)
    save_hidden_layers(layers, tmp_path / "hidden.safetensors")
    loaded = load_hidden_layers(tmp_path / "hidden.safetensors")
    assert torch.equal(loaded(features), layers(features))
    assert not any(p.requires_grad for p in loaded.parameters())
