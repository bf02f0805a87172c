from dataclasses import dataclass

import pytest
import torch
from torch.nn import functional as F

from dedier_laplace.config import Config
from dedier_laplace.config.schema import Student
from dedier_laplace.data.attributes import make_groups
from dedier_laplace.distillation.loss import distillation_loss
from dedier_laplace.distillation.methods import METHODS, Batch, Method, register
from dedier_laplace.distillation.methods.base import find_method
from dedier_laplace.errors import UserError


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    return Batch(
        student_logits=torch.randn(10, 3, generator=generator),
        teacher_logits=torch.randn(10, 3, generator=generator),
        labels=torch.randint(3, (10,), generator=generator),
        weights=1 + torch.rand(10, generator=generator),
        groups=torch.randint(6, (10,), generator=generator),
    )


@dataclass
class Given:
    """What a method may ask for, made up."""

    student: object
    groups: object
    errors: object = None
    features: object = None
    head: object = None

    def teacher_logits(self):
        return torch.full((len(self.groups.index), 3), 7.0)

    def teacher_features(self):
        return self.features

    def teacher_head(self):
        return self.head

    def error_set(self, epochs):
        assert epochs == 2
        return self.errors


@pytest.fixture
def sources(make):
    labels = torch.arange(12) % 3
    groups = make_groups(labels.numpy(), (torch.arange(12) // 6).numpy(), ["e", "n", "c"], "x")
    return Given(
        student=make("distilbert"),
        groups=groups,
        errors=labels == 0,
        features=torch.randn(12, 20),
        head=torch.nn.Linear(20, 3),
    )


@pytest.fixture
def registry(monkeypatch):
    """A copy of the registry that a test may add to."""
    copy = dict(METHODS)
    monkeypatch.setattr("dedier_laplace.distillation.methods.base.METHODS", copy)
    return copy


def loss(name, batch, **blocks):
    return find_method(name)(Config.model_validate(blocks)).loss(batch)


def replaced(batch, **fields):
    return Batch(**{**vars(batch), **fields})


EVERY_METHOD = [
    ("erm", False, None),
    ("kd", True, None),
    ("dedier", True, "map"),
    ("laplace", True, "laplace"),
    ("shuffled", True, "laplace"),
    ("uniform", True, "laplace"),
    ("jtt", False, None),
    ("group_dro", False, None),
    ("simkd", True, None),
    ("dett", True, None),
]


@pytest.mark.parametrize(("name", "needs_teacher", "predictive"), EVERY_METHOD)
def test_method_says_what_it_needs(name, needs_teacher, predictive):
    method = find_method(name)(Config())
    assert (method.needs_teacher, method.predictive) == (needs_teacher, predictive)


def test_registry_holds_these_and_the_configs_help_names_each():
    assert set(METHODS) == {name for name, *_ in EVERY_METHOD}
    help_text = Student.model_fields["method"].description
    assert all(name in help_text for name in METHODS)


@pytest.mark.parametrize("name", ["jtt", "group_dro"])
def test_distil_adds_the_teacher(name, sources):
    plain = find_method(name)(Config()).prepare(sources)
    distilled = find_method(name)(Config.model_validate({"student": {name: {"distil": True}}}))
    assert distilled.needs_teacher
    assert "teacher_logits" not in plain
    assert torch.equal(distilled.prepare(sources)["teacher_logits"], sources.teacher_logits())


def test_unknown_method_names_the_nearest():
    with pytest.raises(UserError, match=r"'lapalce'.*'laplace'"):
        find_method("lapalce")


def test_registered_method_is_found(registry, batch):
    @register("toy")
    class Toy(Method):
        needs_teacher = False

        def loss(self, batch):
            return batch.weights.sum()

    assert find_method("toy") is Toy
    assert loss("toy", batch) == batch.weights.sum()
    assert "toy" not in METHODS


def test_erm_is_the_cross_entropy_without_teacher_or_weights(batch):
    expected = F.cross_entropy(batch.student_logits, batch.labels)
    torch.testing.assert_close(loss("erm", batch), expected)
    assert loss("erm", replaced(batch, teacher_logits=None)) == loss("erm", batch)


def test_kd_without_kd_weight_is_erm_exactly(batch):
    assert loss("kd", batch, student={"kd_weight": 0}) == loss("erm", batch)


@pytest.mark.parametrize("name", ["dedier", "laplace", "shuffled", "uniform"])
def test_reweighting_without_kd_weight_is_weighted_erm_exactly(batch, name):
    ce = F.cross_entropy(batch.student_logits, batch.labels, reduction="none")
    assert loss(name, batch, student={"kd_weight": 0}) == (batch.weights * ce).mean()


@pytest.mark.parametrize("name", ["dedier", "laplace", "shuffled", "uniform"])
def test_kd_equals_reweighting_with_weights_of_one(batch, name):
    settings = {"student": {"temperature": 3.0, "kd_weight": 0.3}}
    with_ones = replaced(batch, weights=torch.ones(10))
    assert loss(name, with_ones, **settings) == loss("kd", batch, **settings)


def test_kd_ignores_weights_and_reweighting_does_not(batch):
    doubled = replaced(batch, weights=2 * batch.weights)
    assert loss("kd", doubled) == loss("kd", batch)
    torch.testing.assert_close(loss("dedier", doubled), 2 * loss("dedier", batch))


def test_laplace_and_dedier_share_one_loss(batch):
    assert loss("laplace", batch) == loss("dedier", batch)


@pytest.mark.parametrize("terms", [["ce"], ["kd"]])
def test_reweight_terms_of_the_config_reach_the_loss(batch, terms):
    kd_weight = float(terms == ["ce"])  # only the other term is left
    settings = {"student": {"kd_weight": kd_weight}, "weights": {"reweight_terms": terms}}
    torch.testing.assert_close(loss("dedier", batch, **settings), loss("kd", batch, **settings))


def test_shuffled_keeps_the_multiset_of_weights_and_uniform_their_mean():
    weights = torch.tensor([1.0, 1.0, 1.0, 5.0, 9.0, 2.0])
    config = Config()
    shuffled = find_method("shuffled")(config).reweight(weights, seed=3)
    assert torch.equal(shuffled.sort().values, weights.sort().values)
    assert not torch.equal(shuffled, weights)
    assert torch.equal(find_method("shuffled")(config).reweight(weights, seed=3), shuffled)
    assert not torch.equal(find_method("shuffled")(config).reweight(weights, seed=4), shuffled)
    uniform = find_method("uniform")(config).reweight(weights, seed=3)
    assert uniform.unique().tolist() == [pytest.approx(float(weights.mean()))]
    assert torch.equal(find_method("laplace")(config).reweight(weights, seed=3), weights)


def test_jtt_weighs_the_error_set(sources, batch):
    config = Config.model_validate({"student": {"jtt": {"upweight": 4}}})
    prepared = find_method("jtt")(config).prepare(sources)
    assert torch.equal(prepared["weights"], torch.where(sources.errors, 4.0, 1.0))
    ce = F.cross_entropy(batch.student_logits, batch.labels, reduction="none")
    without_teacher = replaced(batch, teacher_logits=None)
    assert loss("jtt", without_teacher) == (batch.weights * ce).mean()


def test_jtt_with_upweight_one_is_erm_exactly(sources, batch):
    settings = {"student": {"jtt": {"upweight": 1}}}
    weights = find_method("jtt")(Config.model_validate(settings)).prepare(sources)["weights"]
    with_them = replaced(batch, weights=weights[:10], teacher_logits=None)
    assert loss("jtt", with_them, **settings) == loss("erm", batch)


def test_jtt_with_the_teacher_is_the_weighted_distillation_loss(batch):
    settings = {"student": {"jtt": {"distil": True}, "kd_weight": 0.3}}
    assert loss("jtt", batch, **settings) == loss("dedier", batch, **settings)


def test_jtt_weights_can_be_normalised(sources):
    config = Config.model_validate({"weights": {"normalize": "mean"}})
    weights = find_method("jtt")(config).prepare(sources)["weights"]
    assert float(weights.mean()) == pytest.approx(1)
    assert float(weights.max() / weights.min()) == pytest.approx(5)


def test_group_dro_without_steps_is_the_mean_of_the_group_losses(sources, batch):
    config = Config.model_validate({"student": {"group_dro": {"eta": 0}}})
    method = find_method("group_dro")(config)
    method.prepare(sources)
    ce = F.cross_entropy(batch.student_logits, batch.labels, reduction="none")
    means = [ce[batch.groups == g].mean() for g in batch.groups.unique()]
    without_teacher = replaced(batch, teacher_logits=None)
    torch.testing.assert_close(method.loss(without_teacher), torch.stack(means).sum() / 6)


def test_group_dro_with_the_teacher_weighs_distillation_losses(sources, batch):
    blocks = {"student": {"group_dro": {"eta": 0, "distil": True}, "kd_weight": 0.3}}
    method = find_method("group_dro")(Config.model_validate(blocks))
    method.prepare(sources)
    losses = distillation_loss(
        batch.student_logits,
        batch.teacher_logits,
        batch.labels,
        temperature=2.0,
        kd_weight=0.3,
        reduction="none",
    )
    means = [losses[batch.groups == g].mean() for g in batch.groups.unique()]
    torch.testing.assert_close(method.loss(batch), torch.stack(means).sum() / 6)


def test_group_dro_refuses_to_adjust_a_group_that_has_no_sample(sources):
    config = Config.model_validate({"student": {"group_dro": {"adjustment": 1}}})
    labels = torch.zeros(12, dtype=torch.long).numpy()
    sources.groups = make_groups(labels, labels, ["e", "n", "c"], "x")
    with pytest.raises(UserError, match=r"group_dro\.adjustment"):
        find_method("group_dro")(config).prepare(sources)


def test_simkd_compares_features_and_ends_as_a_plain_model(sources, batch, inputs):
    method = find_method("simkd")(Config())
    before = {name for name, _ in sources.student.named_parameters()}
    prepared = method.prepare(sources)
    assert torch.equal(prepared["teacher_features"], sources.features)
    features = torch.randn(10, 20)
    same = replaced(batch, student_features=features, teacher_features=features)
    assert method.loss(same) == 0
    off = replaced(batch, student_features=features + 2, teacher_features=features)
    assert float(method.loss(off)) == pytest.approx(4)
    expected = sources.student(**inputs).logits
    model = method.finish(sources.student)
    torch.testing.assert_close(model(**inputs).logits, expected)
    assert {name for name, _ in model.named_parameters()} == before


def test_dett_is_simkd_with_jtts_weights(sources, batch):
    config = Config.model_validate({"student": {"jtt": {"upweight": 4}}})
    prepared = find_method("dett")(config).prepare(sources)
    assert torch.equal(prepared["weights"], torch.where(sources.errors, 4.0, 1.0))
    compared = replaced(
        batch, student_features=torch.randn(10, 20), teacher_features=torch.randn(10, 20)
    )
    ones = replaced(compared, weights=torch.ones(10))
    assert loss("dett", ones) == loss("simkd", compared)
    torch.testing.assert_close(
        loss("dett", replaced(compared, weights=2 * ones.weights)), 2 * loss("simkd", compared)
    )


@pytest.mark.parametrize(
    ("method", "signal", "link"),
    [
        ("dedier", "mutual_information", "mc"),
        ("dedier", "logit_variance", "mc"),
        ("laplace", "mutual_information", "probit"),
        ("laplace", "mutual_information", "map"),
        ("shuffled", "logit_variance", "map"),
    ],
)
def test_signal_the_predictive_does_not_carry_is_refused(method, signal, link):
    blocks = {"weights": {"signal": signal}, "aux": {"laplace": {"link": link}}}
    with pytest.raises(UserError, match=f"weights.signal is {signal}"):
        find_method(method)(Config.model_validate(blocks))


@pytest.mark.parametrize(
    ("method", "block", "change"),
    [
        ("laplace", "weights", {"beta": 1}),
        ("dedier", "aux", {"pooling": "mean"}),
        ("jtt", "student", {"jtt": {"upweight": 2}}),
        ("dett", "student", {"jtt": {"identification_epochs": 1}}),
        ("group_dro", "student", {"group_dro": {"eta": 0.5}}),
    ],
)
def test_settings_tell_what_a_method_reads(method, block, change):
    changed = Config.model_validate({block: change})
    assert find_method(method)(changed).settings() != find_method(method)(Config()).settings()
    assert find_method("kd")(changed).settings() == find_method("kd")(Config()).settings()
