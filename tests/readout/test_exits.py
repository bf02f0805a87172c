import pytest
import torch

from dedier_laplace.config.readout import Aux
from dedier_laplace.readout.exits import Exits
from dedier_laplace.readout.laplace import LaplaceReadout
from dedier_laplace.readout.prediction_sets import coverage
from dedier_laplace.readout.signals import mutual_information

N, D, C = 150, 5, 3


def samples(n=N, seed=0):
    """Features of two layers, the deeper one telling more of the label; labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(C, (n,), generator=generator)
    centres = torch.eye(D)[labels]
    noise = {layer: torch.randn(n, D, generator=generator) for layer in (2, 5)}
    return {2: centres + noise[2], 5: 2 * centres + noise[5]}, labels


def aux(**settings):
    laplace = {"n_samples": 20, "prior_precision": 1.0, **settings.pop("laplace", {})}
    return Aux.model_validate({"laplace": laplace, "hidden_size": 4, **settings})


def fit(seed=0, warm_from=None, validation=None, **settings):
    features, labels = samples()
    return Exits.fit(
        features,
        labels,
        aux(**settings),
        n_classes=C,
        seed=seed,
        warm_from=warm_from,
        validation=validation,
    )


@pytest.fixture(scope="module")
def exits():
    """Calibrated ones."""
    found = fit()
    found.calibrate(*samples(seed=1), seed=0)
    return found


def test_readout_of_a_layer_is_the_one_fitted_on_it_alone(exits):
    features, labels = samples()
    for number, layer in enumerate(exits.layers):
        alone = LaplaceReadout().fit(features[layer], labels, prior_precision=1.0)
        assert torch.equal(alone.weight, exits.readouts[layer].weight)
        assert torch.equal(exits.logits(features)[number], alone.logits(features[layer]))


def test_order_in_which_layers_are_given_does_not_matter(exits):
    features, labels = samples()
    turned = {layer: features[layer] for layer in (5, 2)}
    other = Exits.fit(turned, labels, aux(), n_classes=C, seed=0)
    assert other.layers == exits.layers == (2, 5)
    assert torch.equal(other.logits(turned), exits.logits(features))


@pytest.mark.parametrize("kind", ["map", "laplace"])
def test_predictive_is_the_mixture_over_layers(exits, kind):
    features, _ = samples()
    each = exits.probabilities(features, kind, seed=3)
    assert each.shape == (2, N, C)
    found = exits.predictive(features, kind, seed=3)
    torch.testing.assert_close(found.probabilities, each.mean(0))
    assert found.set_size is None


def test_map_predictive_is_the_softmax_of_the_logits(exits):
    features, _ = samples()
    expected = exits.logits(features).softmax(-1)
    torch.testing.assert_close(exits.probabilities(features, "map", seed=0), expected)


def test_one_layer_at_the_map_has_no_mutual_information(exits):
    features, labels = samples()
    alone = Exits.fit({2: features[2]}, labels, aux(), n_classes=C, seed=0)
    found = alone.predictive({2: features[2]}, "map", seed=0)
    assert (mutual_information(found.probabilities, found.expected_entropy) == 0).all()


def test_layers_do_not_share_their_draws():
    features, labels = samples()
    twins = {2: features[2], 5: features[2]}
    found = Exits.fit(twins, labels, aux(), n_classes=C, seed=0)
    first, second = found.probabilities(twins, "laplace", seed=0)
    assert not torch.equal(first, second)


def test_seed_decides_every_draw(exits):
    features, _ = samples()
    one, same, other = (
        exits.predictive(features, "laplace", seed=seed).probabilities for seed in (1, 1, 2)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize(
    "settings",
    [{}, {"hidden_layers": 1}, {"batch_size": 32, "fit_on": 100}],
    ids=["linear", "hidden", "minibatches"],
)
def test_global_generator_is_left_alone(settings):
    features, _ = samples()
    before = torch.get_rng_state()
    found = fit(**settings)
    found.calibrate(*samples(seed=1), seed=0)
    found.predictive(features, "laplace", seed=0, with_sets=True)
    assert torch.equal(before, torch.get_rng_state())


def test_every_layer_is_fitted_on_the_same_subset():
    features, labels = samples()
    twins = {2: features[2], 5: features[2]}
    one, other = (
        Exits.fit(twins, labels, aux(fit_on=60), n_classes=C, seed=seed) for seed in (0, 1)
    )
    assert torch.equal(one.readouts[2].weight, one.readouts[5].weight)
    assert not torch.equal(one.readouts[2].weight, other.readouts[2].weight)


def test_subset_is_as_large_as_asked_and_all_where_there_are_no_more(exits, monkeypatch):
    sizes = []
    fit_readout = LaplaceReadout.fit

    def noting(self, features, labels, **settings):
        sizes.append((len(features), len(labels)))
        return fit_readout(self, features, labels, **settings)

    monkeypatch.setattr(LaplaceReadout, "fit", noting)
    fit(fit_on=60)
    whole = fit(fit_on=N)
    assert sizes == [(60, 60)] * 2 + [(N, N)] * 2
    for layer in exits.layers:
        assert torch.equal(whole.readouts[layer].weight, exits.readouts[layer].weight)


def test_warm_refit_of_a_linear_readout_finds_what_scratch_finds(exits):
    earlier = fit(fit_on=60)
    warm = fit(refit="warm", warm_from=earlier)
    for layer in exits.layers:
        torch.testing.assert_close(
            warm.readouts[layer].weight, exits.readouts[layer].weight, rtol=1e-2, atol=1e-3
        )


def test_scratch_refit_does_not_look_at_the_earlier_one():
    earlier = fit(fit_on=60, hidden_layers=1)
    features, _ = samples()
    scratch, again = fit(hidden_layers=1, warm_from=earlier), fit(hidden_layers=1)
    assert torch.equal(scratch.logits(features), again.logits(features))


def test_warm_refit_of_hidden_layers_begins_at_the_earlier_ones():
    features, _ = samples()
    earlier = fit(hidden_layers=1)
    warm = fit(hidden_layers=1, refit="warm", warm_from=earlier, seed=7)
    scratch = fit(hidden_layers=1, seed=7)
    distance = [
        (found.hidden[2](features[2]) - earlier.hidden[2](features[2])).norm()
        for found in (warm, scratch)
    ]
    assert distance[0] < 0.5 * distance[1]


def test_validation_nll_reads_the_validation_of_its_layer():
    features, labels = samples(seed=1)
    settings = {"prior_precision": "validation_nll"}
    for hidden_layers in (0, 1):
        found = fit(laplace=settings, hidden_layers=hidden_layers, validation=(features, labels))
        assert all(1e-4 <= r.prior_precision <= 1e6 for r in found.readouts.values())
    with pytest.raises(ValueError, match="needs validation"):
        fit(laplace=settings)


def test_sets_are_nested_and_their_last_size_is_in_the_predictive(exits):
    features, _ = samples(seed=2)
    sets = exits.prediction_sets(features, seed=4)
    assert sets.shape == (2, N, C)
    assert sets.dtype == torch.bool
    assert (sets[1] <= sets[0]).all()
    assert (sets <= exits.raw_sets(features, seed=4)).all()
    size = exits.predictive(features, "map", seed=4, with_sets=True).set_size
    counted = sets[-1].sum(-1)
    assert torch.equal(size, counted.masked_fill(counted == 0, C))


def test_sets_before_calibration_are_refused():
    features, _ = samples()
    with pytest.raises(ValueError, match="calibrate"):
        fit().predictive(features, "map", seed=0, with_sets=True)


def test_calibrated_sets_cover_what_was_asked_for_on_their_split():
    features, labels = samples(seed=1)
    exits = fit(prediction_sets={"alpha": 0.2})
    exits.calibrate(features, labels, seed=0)
    logits = exits.logits(features)
    assert (logits.gather(-1, labels.expand(2, -1).unsqueeze(-1)) < 0).any()  # of right labels too
    covered = coverage(exits.prediction_sets(features, seed=3), labels)
    assert (covered > 0.7).all()


def test_level_of_the_logits_does_not_matter_to_the_sets():
    features, labels = samples(seed=1)
    exits, shifted = fit(), fit()
    for readout in shifted.readouts.values():
        readout.weight[:, -1] += 5.0  # the same to every class: the softmax does not see it
    for each in (exits, shifted):
        each.calibrate(features, labels, seed=0)
    assert torch.equal(
        exits.prediction_sets(features, seed=1), shifted.prediction_sets(features, seed=1)
    )


def test_no_layer_is_refused():
    with pytest.raises(ValueError, match="at least one layer"):
        Exits.fit({}, torch.zeros(3).long(), aux(), n_classes=C, seed=0)


@pytest.mark.parametrize("hessian", ["kron", "full", "diag"])
@pytest.mark.parametrize("hidden_layers", [0, 2])
def test_saved_exits_predict_the_same(hessian, hidden_layers, tmp_path):
    features, _ = samples(seed=2)
    exits = fit(
        laplace={"hessian": hessian, "posterior_temperature": 2.0}, hidden_layers=hidden_layers
    )
    exits.calibrate(*samples(seed=1), seed=0)
    exits.save(tmp_path / "readout")
    loaded = Exits.load(tmp_path / "readout")
    assert (loaded.layers, loaded.aux) == (exits.layers, exits.aux)
    assert torch.equal(loaded.thresholds, exits.thresholds)
    for kind in ("map", "laplace"):
        one, other = (e.predictive(features, kind, seed=1, with_sets=True) for e in (exits, loaded))
        for name, values in vars(one).items():
            assert torch.equal(values, getattr(other, name)), name


def test_saved_exits_are_safetensors_and_json_a_folder_a_layer(tmp_path):
    fit(hidden_layers=1).save(tmp_path)
    found = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*"))
    assert found == sorted(
        ["exits.json"]
        + [
            f"layer-{layer}/{name}"
            for layer in (2, 5)
            for name in ("hidden_layers.safetensors", "readout.json", "readout.safetensors")
        ]
    )
    assert Exits.load(tmp_path).thresholds is None
