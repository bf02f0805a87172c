import json
import math

import numpy as np
import pytest
import torch

from dedier_laplace.data.attributes import make_groups
from dedier_laplace.evaluation.exits import early_exit_curve, exit_metrics, set_metrics

# Four samples of two classes at two exits; the group "no, negation" is empty.
LABELS = [0, 0, 1, 1]
GROUPS = make_groups(LABELS, np.array([0, 0, 0, 1]), ["no", "yes"], "negation")
PROBABILITIES = [
    [[0.9, 0.1], [0.4, 0.6], [0.3, 0.7], [0.8, 0.2]],  # right: first and third
    [[0.6, 0.4], [0.7, 0.3], [0.1, 0.9], [0.95, 0.05]],  # right: all but the last
]
PLACE = {"layers": [2, 6], "depth": 6}


def curve(*thresholds, **place):
    return early_exit_curve(PROBABILITIES, LABELS, GROUPS, thresholds, **(place or PLACE))


# Every exit alone


def test_exit_metrics_by_hand():
    first, last = exit_metrics(PROBABILITIES, LABELS, GROUPS)
    assert first["accuracy"] == 0.5
    assert first["groups"] == {
        "no, no negation": 0.5,
        "no, negation": None,
        "yes, no negation": 1.0,
        "yes, negation": 0.0,
    }
    assert first["worst_group_accuracy"] == 0.0
    assert first["group_mean_accuracy"] == pytest.approx(0.5)
    assert first["nll"] == pytest.approx(-math.log(0.9 * 0.4 * 0.7 * 0.2) / 4)
    # four bins of one sample each: |confidence - right| = 0.1, 0.6, 0.3, 0.8
    assert first["ece"] == pytest.approx(0.45)
    assert last["accuracy"] == 0.75
    assert last["group_mean_accuracy"] == pytest.approx(2 / 3)
    assert last["nll"] == pytest.approx(-math.log(0.6 * 0.7 * 0.9 * 0.05) / 4)


# Leaving at the first confident exit


def test_curve_by_hand():
    """At 0.75 the first and the last sample leave at layer 2 of 6, the others at layer 6."""
    (entry,) = curve(0.75)
    assert entry == {
        "threshold": 0.75,
        "accuracy": 0.75,
        "worst_group_accuracy": 0.0,
        "compute": pytest.approx((2 + 6 + 6 + 2) / 4 / 6),
        "exit_shares": [0.5, 0.5],
    }


def test_a_confidence_equal_to_the_threshold_leaves():
    assert curve(0.9)[0]["exit_shares"] == [0.25, 0.75]


def test_threshold_0_sends_all_to_the_first_exit():
    (entry,) = curve(0.0)
    assert entry["exit_shares"] == [1.0, 0.0]
    assert entry["compute"] == pytest.approx(2 / 6)
    assert entry["accuracy"] == exit_metrics(PROBABILITIES, LABELS, GROUPS)[0]["accuracy"]


def test_a_threshold_above_1_sends_all_to_the_last_exit():
    (entry,) = curve(1.01)
    assert entry["exit_shares"] == [0.0, 1.0]
    assert entry["compute"] == 1.0
    assert entry["accuracy"] == exit_metrics(PROBABILITIES, LABELS, GROUPS)[1]["accuracy"]


def test_compute_counts_layers_up_to_a_last_exit_below_the_top():
    assert curve(1.01, layers=[1, 3], depth=12)[0]["compute"] == pytest.approx(0.25)


def test_samples_leave_at_the_first_of_several_confident_exits():
    probabilities = [[[0.5, 0.5]], [[0.1, 0.9]], [[0.95, 0.05]]]
    groups = make_groups([1], np.array([0]), ["no", "yes"], "negation")
    (entry,) = early_exit_curve(probabilities, [1], groups, [0.8], layers=[1, 2, 3], depth=3)
    assert entry["exit_shares"] == [0.0, 1.0, 0.0]
    assert entry["accuracy"] == 1.0


def test_compute_rises_with_the_threshold_and_shares_sum_to_one():
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.randn(5, 200, 3, generator=generator).mul(2).softmax(-1)
    labels = torch.randint(3, (200,), generator=generator)
    groups = make_groups(labels.numpy(), np.arange(200) % 2, ["e", "n", "c"], "negation")
    thresholds = np.linspace(0, 1.05, 22).tolist()
    found = early_exit_curve(
        probabilities, labels, groups, thresholds, layers=[1, 2, 4, 7, 8], depth=8
    )
    compute = [entry["compute"] for entry in found]
    assert compute == sorted(compute)
    assert compute[0] == 1 / 8
    assert compute[-1] == 1
    assert [entry["threshold"] for entry in found] == thresholds
    assert all(sum(entry["exit_shares"]) == pytest.approx(1) for entry in found)


@pytest.mark.parametrize("layers", [[6], [2, 4, 6], [6, 2], [2, 2], [0, 6], [2, 7]])
def test_layers_that_are_not_the_exits_are_refused(layers):
    with pytest.raises(ValueError, match="2 layers, rising, from 1 to 6"):
        curve(0.5, layers=layers, depth=6)


# Prediction sets

# The class that sample 0 lacks at exit 1 comes back at exit 2; sample 2 is left with nothing.
SETS = [
    [[False, True], [True, True], [True, False], [True, True]],
    [[True, True], [True, False], [False, False], [False, True]],
]


def test_set_metrics_by_hand():
    first, last = set_metrics(SETS, LABELS, GROUPS)
    assert first == {
        "coverage": 0.5,
        "groups": {
            "no, no negation": 0.5,
            "no, negation": None,
            "yes, no negation": 0.0,
            "yes, negation": 1.0,
        },
        "mean_size": 1.5,
        "share_empty": 0.0,
        "raw_coverage": 0.5,
        "raw_mean_size": 1.5,
        "raw_share_empty": 0.0,
        "consistency": 1.0,
    }
    assert last["coverage"] == 0.5
    assert last["raw_coverage"] == 0.75
    assert last["mean_size"] == 0.75
    assert last["raw_mean_size"] == 1.0
    assert last["share_empty"] == last["raw_share_empty"] == 0.25
    assert last["consistency"] == (0.5 + 1 + 1 + 1) / 4


def test_a_running_intersection_may_be_empty_where_the_raw_set_is_not():
    groups = make_groups([0], np.array([0]), ["no", "yes"], "negation")
    last = set_metrics([[[False, True]], [[True, False]]], [0], groups)[-1]
    assert (last["share_empty"], last["raw_share_empty"]) == (1.0, 0.0)
    assert (last["coverage"], last["raw_coverage"]) == (0.0, 1.0)
    assert last["consistency"] == 0.0


# All three


@pytest.mark.parametrize("kind", [np.asarray, torch.tensor])
def test_arrays_and_tensors_give_the_lists_plain_json(kind):
    def figures(kind):
        probabilities, labels, sets = (kind(values) for values in (PROBABILITIES, LABELS, SETS))
        return [
            exit_metrics(probabilities, labels, GROUPS),
            early_exit_curve(probabilities, labels, GROUPS, [0.0, 0.75, 2.0], **PLACE),
            set_metrics(sets, labels, GROUPS),
        ]

    found, expected = figures(kind), figures(list)
    assert json.loads(json.dumps(found)) == found
    for entries, others in zip(found[1:], expected[1:], strict=True):
        assert entries == others
    for entry, other in zip(found[0], expected[0], strict=True):  # float64 against float32
        assert entry.pop("groups") == other.pop("groups")
        assert entry == pytest.approx(other)
