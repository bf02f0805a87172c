import pytest
import torch

from dedier_laplace import UserError
from dedier_laplace.config import Config
from dedier_laplace.data.attributes import make_groups
from dedier_laplace.distillation.methods.base import find_method
from dedier_laplace.distillation.reweighting import Reweighting

N = 90


@pytest.fixture
def labels():
    return torch.arange(N) % 3


def make(labels, method="laplace", seed=0, **blocks):
    blocks.setdefault("aux", {"laplace": {"prior_precision": 1.0}})
    config = Config.model_validate(blocks)
    return Reweighting(
        find_method(method)(config),
        config.aux,
        config.weights,
        labels=labels,
        validation_labels=labels[:30],
        groups=make_groups(labels.numpy(), (torch.arange(N) // 45).numpy(), list("enc"), "x"),
        n_classes=3,
        seed=seed,
    )


def features(labels, moved=()):
    """Clearly separated classes; the samples in `moved` lie among the next class."""
    generator = torch.Generator().manual_seed(0)
    shown = labels.clone()
    shown[list(moved)] = (shown[list(moved)] + 1) % 3
    noise = 0.1 * torch.randn(N, 3, generator=generator)
    return {3: torch.nn.functional.one_hot(shown, 3) * 4.0 + noise}


def refit(reweighting, given, epoch):
    return reweighting.refit(given, {3: given[3][:30]}, epoch)


def test_sample_wrong_once_and_right_later_is_back_at_weight_one(labels):
    reweighting = make(labels)
    first, _ = refit(reweighting, features(labels, moved=[4, 5]), 1)
    assert set(torch.nonzero(first > 1).flatten().tolist()) == {4, 5}
    later, _ = refit(reweighting, features(labels, moved=[7]), 2)
    assert set(torch.nonzero(later > 1).flatten().tolist()) == {7}
    assert later[4] == later[5] == 1


@pytest.mark.parametrize("refit_mode", ["scratch", "warm"])
def test_weights_hang_on_the_present_features_alone(labels, refit_mode):
    aux = {"refit": refit_mode, "laplace": {"prior_precision": 1.0}}
    moved = features(labels, moved=[7])
    told = make(labels, aux=aux)
    refit(told, features(labels, moved=[4, 5]), 1)
    torch.testing.assert_close(
        refit(told, moved, 2)[0], refit(make(labels, aux=aux), moved, 2)[0], rtol=1e-3, atol=1e-3
    )


def test_beta_zero_weighs_every_sample_the_same(labels):
    weights, _ = refit(make(labels, weights={"beta": 0}), features(labels, moved=[1]), 1)
    assert weights.tolist() == [1.0] * N


def test_controls_are_made_of_laplaces_weights(labels):
    given = features(labels, moved=[4, 5, 30, 60])
    laplace, _ = refit(make(labels), given, 1)
    shuffled, _ = refit(make(labels, "shuffled"), given, 1)
    uniform, _ = refit(make(labels, "uniform"), given, 1)
    assert torch.equal(shuffled.sort().values, laplace.sort().values)
    assert not torch.equal(shuffled, laplace)
    torch.testing.assert_close(uniform, torch.full((N,), float(laplace.mean())))


@pytest.mark.parametrize("signal", ["entropy", "mutual_information", "logit_variance", "set_size"])
def test_every_signal_weighs_errors_alone(labels, signal):
    given = features(labels, moved=[4, 5])
    weights, record = refit(make(labels, weights={"signal": signal}), given, 1)
    right = torch.ones(N, dtype=torch.bool)
    right[[4, 5]] = False
    assert (weights[right] == 1).all()
    assert (weights[~right] >= 1).all()
    assert record["weights"]["share_reweighted"] == pytest.approx(2 / N)


def test_record_tells_readout_weights_and_what_laplace_adds(labels):
    _, record = refit(make(labels, aux={"layers": [3]}), features(labels, moved=[4]), 1)
    assert record["readout"]["layers"] == [3]
    assert record["readout"]["prior_precision"][0] > 0
    assert record["readout"]["validation"].keys() == {"map", "laplace"}
    assert record["laplace_against_map"]["mean_relative_change"] >= 0


def test_record_of_the_controls_tells_where_the_weights_went(labels):
    given = features(labels, moved=[4, 5, 30, 60])
    weights, record = refit(make(labels, "shuffled"), given, 1)
    groups = make_groups(labels.numpy(), (torch.arange(N) // 45).numpy(), list("enc"), "x")
    for number, name in enumerate(groups.names):
        share = float((weights[torch.as_tensor(groups.index) == number] > 1).float().mean())
        assert record["weights"]["groups"][name]["share_reweighted"] == pytest.approx(share)
    _, record = refit(make(labels, "uniform"), given, 1)
    assert record["weights"]["share_reweighted"] == 1


def test_signals_of_the_posterior_alone_are_not_compared_with_the_map(labels):
    given = features(labels, moved=[4])
    _, of_margin = refit(make(labels), given, 1)
    _, of_variance = refit(make(labels, weights={"signal": "logit_variance"}), given, 1)
    assert "laplace_against_map" in of_margin
    assert "laplace_against_map" not in of_variance


def test_one_seed_gives_one_set_of_weights(labels):
    given = features(labels, moved=[4, 5])
    one, again, other = (refit(make(labels, seed=s), given, 1)[0] for s in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


@pytest.mark.parametrize(
    ("start", "every", "due"), [(1, 1, [1, 2, 3, 4, 5]), (2, 1, [2, 3, 4, 5]), (1, 2, [1, 3, 5])]
)
def test_schedule_of_refits(labels, start, every, due):
    reweighting = make(labels, aux={"start_epoch": start, "every_n_epochs": every})
    assert [epoch for epoch in range(1, 6) if reweighting.due(epoch)] == due


def test_features_that_are_not_finite_end_training_with_a_sentence(labels):
    broken = features(labels)
    broken[3][7, 1] = float("nan")
    with pytest.raises(UserError, match="not finite after epoch 2"):
        refit(make(labels), broken, 2)
