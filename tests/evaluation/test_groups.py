import numpy as np
import pytest
from scipy.stats import binomtest

from dedier_laplace.data.attributes import make_groups
from dedier_laplace.evaluation.groups import group_metrics, wilson_interval

LABELS = ["entailment", "neutral", "contradiction"]


def make(n=400, seed=0, empty=()):
    """Predictions, labels and groups; groups named by number in `empty` have no sample."""
    rng = np.random.default_rng(seed)
    labels, attribute = rng.integers(3, size=n), (rng.random(n) < 0.3).astype(int)
    keep = ~np.isin(2 * labels + attribute, list(empty))
    labels, attribute = labels[keep], attribute[keep]
    predictions = np.where(rng.random(len(labels)) < 0.7, labels, rng.integers(3, size=len(labels)))
    return predictions, labels, make_groups(labels, attribute, LABELS, "negation")


@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (0, 30), (30, 30), (7, 30), (5000, 9999)])
def test_interval_equals_scipys(k, n):
    expected = binomtest(k, n).proportion_ci(confidence_level=0.95, method="wilson")
    assert wilson_interval(k / n, n) == pytest.approx([expected.low, expected.high], abs=1e-12)


def test_interval_holds_the_proportion_and_stays_within_bounds():
    for p in np.linspace(0, 1, 11):
        low, high = wilson_interval(p, 3.7)
        assert 0 <= low <= p <= high <= 1


def test_interval_shrinks_with_the_number_of_samples():
    widths = [high - low for low, high in (wilson_interval(0.8, n) for n in (5, 50, 500))]
    assert widths == sorted(widths, reverse=True)


@pytest.mark.parametrize("empty", [(), (3,), (0, 5)])
def test_metrics_equal_a_plain_loop(empty):
    predictions, labels, groups = make(empty=empty)
    found = group_metrics(predictions, labels, groups)
    accuracies = {}
    for g, name in enumerate(groups.names):
        right = [
            p == y for p, y, i in zip(predictions, labels, groups.index, strict=True) if i == g
        ]
        accuracies[name] = sum(right) / len(right) if right else None
    present = {name: value for name, value in accuracies.items() if value is not None}
    assert {g["name"]: g["accuracy"] for g in found["groups"]} == pytest.approx(accuracies)
    assert found["n"] == len(labels)
    assert found["accuracy"] == pytest.approx(np.mean(predictions == labels))
    assert found["worst_group"] == min(present, key=present.get)
    assert found["worst_group_accuracy"] == pytest.approx(min(present.values()))
    assert found["group_mean_accuracy"] == pytest.approx(sum(present.values()) / len(present))


def test_group_entries_name_label_and_attribute():
    predictions, labels, groups = make()
    found = group_metrics(predictions, labels, groups)["groups"]
    assert [(g["label"], g["attribute"]) for g in found] == [(y, a) for y in LABELS for a in (0, 1)]
    assert sum(g["n"] for g in found) == len(labels)


def test_empty_group_is_none_and_in_no_mean():
    predictions, labels, groups = make(empty=(4,))
    found = group_metrics(predictions, labels, groups, np.full(6, 1 / 6))
    assert found["groups"][4]["n"] == 0
    assert found["groups"][4]["accuracy"] is None
    assert found["groups"][4]["ci95"] is None
    others = [g["accuracy"] for g in found["groups"] if g["n"]]
    assert found["group_mean_accuracy"] == pytest.approx(np.mean(others))
    assert found["adjusted_accuracy"] == pytest.approx(np.mean(others))


def test_worst_group_has_its_own_interval():
    predictions, labels, groups = make()
    found = group_metrics(predictions, labels, groups)
    worst = next(g for g in found["groups"] if g["name"] == found["worst_group"])
    assert found["worst_group_accuracy_ci95"] == worst["ci95"]
    expected = binomtest(round(worst["accuracy"] * worst["n"]), worst["n"]).proportion_ci(
        method="wilson"
    )
    assert worst["ci95"] == pytest.approx([expected.low, expected.high])


def test_adjusting_to_a_splits_own_shares_gives_plain_accuracy():
    predictions, labels, groups = make()
    found = group_metrics(predictions, labels, groups, groups.shares)
    assert found["adjusted_accuracy"] == pytest.approx(found["accuracy"])
    assert found["adjusted_accuracy_ci95"] == pytest.approx(found["accuracy_ci95"])


def test_adjusting_to_equal_shares_gives_the_group_mean():
    predictions, labels, groups = make()
    found = group_metrics(predictions, labels, groups, np.full(6, 1 / 6))
    assert found["adjusted_accuracy"] == pytest.approx(found["group_mean_accuracy"])
    assert found["adjusted_accuracy_ci95"] == pytest.approx(found["group_mean_accuracy_ci95"])


def test_adjusted_accuracy_is_a_weighted_mean_by_training_shares():
    predictions, labels, groups = make()
    shares = np.array([0.3, 0.1, 0.25, 0.05, 0.1, 0.2])
    found = group_metrics(predictions, labels, groups, shares)
    accuracies = [g["accuracy"] for g in found["groups"]]
    assert found["adjusted_accuracy"] == pytest.approx(shares @ accuracies)
    assert [g["train_share"] for g in found["groups"]] == pytest.approx(shares)


def test_without_training_shares_there_is_no_adjusted_accuracy():
    found = group_metrics(*make())
    assert found["adjusted_accuracy"] is None
    assert found["adjusted_accuracy_ci95"] is None


def test_training_shares_of_absent_groups_alone_give_no_adjusted_accuracy():
    predictions, labels, groups = make(empty=(4,))
    found = group_metrics(predictions, labels, groups, np.eye(6)[4])
    assert found["adjusted_accuracy"] is None


def test_perfect_predictions_are_perfect_everywhere():
    _, labels, groups = make()
    found = group_metrics(labels, labels, groups, groups.shares)
    for key in ("accuracy", "adjusted_accuracy", "worst_group_accuracy", "group_mean_accuracy"):
        assert found[key] == pytest.approx(1)
        low, high = found[f"{key}_ci95"]
        assert low < 1
        assert high == pytest.approx(1)


def test_metrics_are_plain_json():
    import json

    predictions, labels, groups = make(empty=(1,))
    found = group_metrics(predictions, labels, groups, groups.shares)
    assert json.loads(json.dumps(found)) == found
