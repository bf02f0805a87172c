"""The mathematics against published implementations and float64 brute force."""

import json

import pytest
import torch

from dedier_laplace import (
    GroupDRO,
    LaplaceReadout,
    confidence_margin,
    distillation_loss,
    negation_attribute,
    sample_weights,
)


@pytest.fixture
def reference(shared):
    def read(name):
        path = shared / "reference" / f"{name}.json"
        if not path.exists():
            pytest.skip(f"no reference numbers {path.name}")
        return json.loads(path.read_text(encoding="utf-8"))

    return read


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def close(found, expected, rtol=0.0, atol=0.0):
    expected = torch.as_tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=rtol, atol=atol)


def test_negation_attribute_equals_the_published_rule(reference):
    cases = reference("negation_attribute")["cases"]
    found = negation_attribute(case["hypothesis"] for case in cases)
    wrong = [
        case for case, value in zip(cases, found, strict=True) if value != int(case["attribute"])
    ]
    assert wrong == []
    assert 0 < found.sum() < len(cases)


def test_margins_equal_the_reference(reference):
    given = reference("sample_weights")
    close(
        confidence_margin(tensor(given["probabilities"])),
        given["confidence_margin"],
        rtol=1e-8,
        atol=1e-8,
    )


@pytest.mark.parametrize(
    ("reweight_on", "key"), [("wrong", "weights_wrong_only"), ("all", "weights_all")]
)
def test_sample_weights_equal_the_reference(reference, reweight_on, key):
    given = reference("sample_weights")
    for setting in given["settings"]:
        found = sample_weights(
            tensor(given["probabilities"]),
            given["labels"],
            alpha=setting["alpha"],
            beta=setting["beta"],
            reweight_on=reweight_on,
        )
        close(found, setting[key], rtol=1e-8, atol=1e-8)


def reference_loss(given, **settings):
    return distillation_loss(
        tensor(given["student_logits"]),
        tensor(given["teacher_logits"]),
        torch.tensor(given["labels"]),
        **settings,
    )


def test_loss_equals_the_published_code_at_temperature_3(reference):
    given = reference("distillation_loss")
    for case in given["temperature_3_published"]:
        loss = reference_loss(
            given,
            temperature=3.0,
            kd_weight=case["lambda"],
            sample_weights=tensor(given["weights"]) if case["weighted"] else None,
        )
        close(loss, case["loss"], rtol=1e-8)


def test_loss_equals_the_formula_at_temperature_2(reference):
    given = reference("distillation_loss")
    for case in given["temperature_2_formula"]:
        loss = reference_loss(
            given,
            temperature=2.0,
            kd_weight=case["lambda"],
            sample_weights=tensor(given["weights"]),
            reweight_terms=case["reweight_terms"],
        )
        close(loss, case["loss"], rtol=1e-8)


def test_group_dro_equals_the_published_code(reference):
    given = reference("group_dro")
    dro = GroupDRO(given["n_groups"], given["eta"], given["generalization_adjustment"])
    for step in given["steps"]:
        loss = dro.loss(*(torch.tensor(step[key]) for key in ("logits", "labels", "groups")))
        assert float(loss) == pytest.approx(step["loss"], abs=1e-5)
        close(dro.q.double(), step["q"], atol=1e-5)


def fit(given, hessian):
    """A readout fitted on the reference's features, without the ones it appends itself."""
    features = tensor(given["features"])
    assert (features[:, -1] == 1).all()
    return LaplaceReadout().fit(
        features[:, :-1],
        given["labels"],
        prior_precision=given["prior_precision"],
        hessian=hessian,
    )


@pytest.fixture(params=["full", "kron"])
def fitted(reference, request):
    given = reference("laplace_last_layer")
    features = tensor([case["features"] for case in given["test"]])[:, :-1]
    return request.param, given, fit(given, request.param), features


def test_map_weights_equal_the_reference(fitted):
    _, given, readout, _ = fitted
    close(readout.weight.T, given["W_map"], atol=1e-6)


def test_logit_distribution_equals_the_reference(fitted):
    hessian, given, readout, features = fitted
    mean, covariance = readout.logit_distribution(features)
    close(mean, [case["logit_mean"] for case in given["test"]], rtol=1e-6, atol=1e-6)
    expected = tensor([case[hessian]["logit_covariance"] for case in given["test"]])
    error = (covariance - expected).flatten(1).norm(dim=1) / expected.flatten(1).norm(dim=1)
    assert error.max() < 1e-6


def test_predictives_equal_the_reference(fitted):
    hessian, given, readout, features = fitted
    expected = [case["map_probabilities"] for case in given["test"]]
    close(readout.predict(features, link="map"), expected, atol=1e-6)
    expected = [case[hessian]["predictive_mc"] for case in given["test"]]
    close(readout.predict(features, link="mc", n_samples=200_000), expected, atol=3e-3)


def test_marginal_likelihood_of_the_full_posterior_equals_the_reference(reference):
    given = reference("laplace_last_layer")
    assert fit(given, "full").log_marginal_likelihood() == pytest.approx(
        given["log_marginal_likelihood_full"], rel=1e-5
    )
