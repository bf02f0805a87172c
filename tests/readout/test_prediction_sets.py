import json

import numpy as np
import pytest
import torch

from dedier_laplace.readout.prediction_sets import (
    calibrate_thresholds,
    consistency,
    coverage,
    mean_size,
    prediction_sets,
    running_intersection,
)

E, N, C = 4, 300, 5
ALPHA = 0.05


def make(n=N, seed=0, margin=8.0):
    """Logits of exits that get surer, their evidence for the label large, and the labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(C, (n,), generator=generator)
    noise = 2 * torch.randn(E, n, C, generator=generator, dtype=torch.float64)
    evidence = torch.arange(1, E + 1).view(E, 1, 1) / E * margin + margin
    return noise + evidence * torch.nn.functional.one_hot(labels, C), labels


def make_draws(logits, thresholds, seed=0):
    """numpy's own Dirichlet draws, sample by sample and exit by exit."""
    rng = np.random.default_rng(seed)
    draws = []
    for i in range(logits.shape[1]):
        for of_exit, threshold in zip(logits[:, i].numpy(), thresholds, strict=True):
            draws.append(list(rng.dirichlet(of_exit[(of_exit >= threshold) & (of_exit > 0)])))
    return draws


def as_lists(sets):
    """[E, N, C] as the classes of every sample and exit, [N][E]."""
    return [[of_exit.nonzero().flatten().tolist() for of_exit in row] for row in sets.unbind(1)]


# The published code


@pytest.fixture
def reference(shared):
    path = shared / "reference" / "avcs.json"
    if not path.exists():
        pytest.skip(f"no reference numbers {path.name}")
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("kind", [list, np.asarray, torch.tensor])
def test_sets_equal_the_published_code(reference, kind):
    sets = prediction_sets(
        kind(reference["logits"]),
        kind(reference["thresholds"]),
        reference["alpha"],
        draws=reference["dirichlet_draws_sample_major"],
    )
    assert as_lists(sets) == reference["sets"]
    assert as_lists(running_intersection(sets)) == reference["running_intersection"]
    assert consistency(sets).T.tolist() == reference["consistency"]
    assert coverage(sets, reference["targets"]).tolist() == reference["coverage_per_exit"]


# By hand: 1/alpha = 4; one sample; at exit 1 class 0 has ratio 0.5 / 0.1 = 5, at exit 2 0.5 / 0.9


def two_exits(third_class):
    logits = [[[1.0, 1.0, -2.0]], [[1.0, 1.0, third_class]]]
    return prediction_sets(logits, [0.0, 0.0], 0.25, draws=[[0.1, 0.9], [0.9, 0.1]])


def test_a_class_may_come_back_but_not_into_the_running_intersection():
    sets = two_exits(third_class=0.0)
    assert sets.tolist() == [[[False, True, False]], [[True, True, False]]]
    assert running_intersection(sets).tolist() == [[[False, True, False]]] * 2
    assert consistency(sets).tolist() == [[1.0], [0.5]]
    assert coverage(sets, [0]).tolist() == [0.0, 1.0]
    assert mean_size(sets).tolist() == [1.0, 2.0]


def test_a_class_once_outside_the_support_is_out_for_ever():
    logits = [[[1.0, 0.0]], [[1.0, 9.0]]]
    sets = prediction_sets(logits, [0.0, 0.0], 0.25, draws=[[1.0], [0.1, 0.9]])
    assert sets.tolist() == [[[True, False]], [[True, False]]]


def test_concentrations_are_logits_not_what_exceeds_the_threshold():
    # 3 / (3 + 2) / 0.14 = 4.3 > 4 is out; of the excesses 1 and 0, class 1 would have no support
    sets = prediction_sets([[[3.0, 2.0, 1.9]]], [2.0], 0.25, draws=[[0.14, 0.86]])
    assert sets.tolist() == [[[False, True, False]]]


def test_a_ratio_of_exactly_one_over_alpha_is_in():
    sets = prediction_sets([[[1.0, 1.0]]], [0.0], 0.25, draws=[[0.125, 0.875]])
    assert sets.tolist() == [[[True, True]]]


def test_a_negative_threshold_lets_no_negative_logit_in():
    assert not prediction_sets([[[-1.0, 0.0]]], [-5.0], ALPHA, seed=0).any()


def test_an_empty_support_gives_empty_consistent_sets_from_there_on():
    logits = [[[1.0, 1.0]], [[1.0, 1.0]], [[1.0, 1.0]]]
    draws = [[0.5, 0.5], [], [0.5, 0.5]]
    for arguments in ({"draws": draws}, {"seed": 0}):
        sets = prediction_sets(logits, [0.0, 2.0, 0.0], 1e-9, **arguments)
        assert sets.any(-1).flatten().tolist() == [True, False, False]
        assert consistency(sets).flatten().tolist() == [1.0, 1.0, 1.0]


def test_a_draw_of_zero_is_out():
    sets = prediction_sets([[[1.0, 1.0]]], [0.0], ALPHA, draws=[[0.0, 1.0]])
    assert sets.tolist() == [[[False, True]]]


# Invariants


def test_running_intersections_are_nested_within_the_sets():
    logits, _ = make(margin=1.0)
    sets = prediction_sets(logits, [0.0] * E, 0.3, seed=0)
    running = running_intersection(sets)
    assert (running[1:] <= running[:-1]).all()
    assert (running <= sets).all()
    assert not torch.equal(running, sets)
    assert consistency(sets).min() < consistency(sets).max() == 1
    assert (consistency(running) == 1).all()


def test_sets_grow_as_alpha_falls():
    logits, _ = make(margin=1.0)
    draws = make_draws(logits, [0.5] * E)
    wide, narrow = (prediction_sets(logits, [0.5] * E, a, draws=draws) for a in (0.01, 0.3))
    assert (narrow <= wide).all()
    assert (mean_size(narrow) < mean_size(wide)).all()


def test_sets_do_not_depend_on_the_type_of_the_logits():
    logits = make()[0].float()
    expected = prediction_sets(logits, [0.0] * E, ALPHA, seed=0)
    found = prediction_sets(logits.double().numpy(), np.zeros(E), ALPHA, seed=0)
    assert torch.equal(found, expected)


def test_classes_may_be_renamed():
    logits, _ = make(margin=1.0)
    order = torch.tensor([3, 0, 4, 1, 2])
    draws = make_draws(logits, [0.0] * E)
    support = [row > 0 for sample in logits.unbind(1) for row in sample]
    renamed = []
    for pi, inside in zip(draws, support, strict=True):
        dense = torch.zeros(C, dtype=torch.float64)
        dense[inside] = torch.tensor(pi, dtype=torch.float64)
        renamed.append(dense[order][inside[order]].tolist())
    expected = prediction_sets(logits, [0.0] * E, 0.3, draws=draws)[..., order]
    assert torch.equal(prediction_sets(logits[..., order], [0] * E, 0.3, draws=renamed), expected)


# Seeded draws


def test_a_seed_fixes_the_sets():
    logits, _ = make(margin=1.0)
    first, again, other = (prediction_sets(logits, [0.0] * E, 0.3, seed=s) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_without_a_seed_draws_are_fresh():
    logits, _ = make(margin=1.0)
    first, second = (prediction_sets(logits, [0.0] * E, 0.3) for _ in range(2))
    assert not torch.equal(first, second)


def test_a_threshold_leaves_the_sets_of_earlier_exits_alone():
    logits, _ = make(margin=1.0)
    low, high = (prediction_sets(logits, [0, 0, t, 0], 0.3, seed=0) for t in (0.0, 2.0))
    assert torch.equal(low[:2], high[:2])
    assert not torch.equal(low[2], high[2])


def test_exits_draw_independently():
    """With the same logits everywhere, equal draws would make the second ratio the first's."""
    logits = torch.ones(2, 2000, 2)
    first, both = prediction_sets(logits, [0.0, 0.0], 0.5, seed=0)
    # pi uniform: in at exit 1 iff pi >= 1/4; at exit 2 iff pi pi' >= 1/8, of chance 0.615
    assert first.double().mean() == pytest.approx(0.75, abs=0.03)
    assert both.double().mean() == pytest.approx(7 / 8 - np.log(8) / 8, abs=0.03)


def test_seeded_draws_are_dirichlet():
    n = 20_000
    logits = torch.tensor([0.3, 0.05, 2.0, -1.0], dtype=torch.float64).expand(2, n, 4)
    expected = prediction_sets(logits, [0.0] * 2, 0.5, draws=make_draws(logits, [0.0] * 2))
    found = prediction_sets(logits, [0.0] * 2, 0.5, seed=0)
    torch.testing.assert_close(
        found.double().mean(1), expected.double().mean(1), atol=0.015, rtol=0
    )


@pytest.mark.filterwarnings("error")
def test_small_concentrations_leave_no_draw_undefined():
    """The lone class has pi = 1 though its gamma underflows; beside a large one pi is 0."""
    logits = torch.tensor([[1e-5, -1.0], [1e-5, 5.0]]).repeat(50, 1).unsqueeze(0)
    sets = prediction_sets(logits, [0.0], ALPHA, seed=0)[0]
    assert (sets[0::2] == torch.tensor([True, False])).all()
    assert (sets[1::2] == torch.tensor([False, True])).all()


def test_labels_drawn_from_the_given_pi_are_missed_at_most_alpha_of_the_time():
    """E[R(y)] = 1 when y ~ pi, so by Markov P(R(y) > 1/alpha) <= alpha."""
    n = 20_000
    logits = 3 * torch.rand(1, n, 3, generator=torch.Generator().manual_seed(0)) + 0.01
    draws = make_draws(logits, [0.0])
    labels = torch.multinomial(torch.tensor(draws), 1, generator=torch.Generator().manual_seed(1))
    for alpha in (0.05, 0.3, 0.9):
        assert coverage(prediction_sets(logits, [0], alpha, draws=draws), labels[:, 0]) > 1 - alpha


# Calibration


def test_calibrated_sets_cover_and_are_smaller():
    logits, labels = make(n=2000)
    thresholds = calibrate_thresholds(logits, labels, ALPHA, seed=3)
    zero = prediction_sets(logits, [0.0] * E, ALPHA, seed=3)
    sets = prediction_sets(logits, thresholds, ALPHA, seed=3)
    assert (coverage(zero, labels) > 1 - ALPHA).all()
    assert (coverage(sets, labels) > 1 - ALPHA).all()
    assert (mean_size(sets) < mean_size(zero)).all()


def test_coverage_carries_over_to_samples_of_the_same_kind():
    thresholds = calibrate_thresholds(*make(n=4000), ALPHA)
    logits, labels = make(n=4000, seed=9)
    assert (coverage(prediction_sets(logits, thresholds, ALPHA, seed=9), labels) > 0.93).all()


def test_no_threshold_can_be_raised_further():
    logits, labels = make(n=500)
    thresholds = calibrate_thresholds(logits, labels, ALPHA, step=0.25)
    assert thresholds[0] > 0
    assert (thresholds % 0.25 == 0).all()
    thresholds[-1] += 0.25
    assert (coverage(prediction_sets(logits, thresholds, ALPHA, seed=0), labels) <= 0.95).any()


def test_thresholds_equal_a_search_that_computes_all_sets_anew():
    logits, labels = make(n=200)
    expected = torch.zeros(E, dtype=torch.float64)
    for e in range(E):
        while True:
            expected[e] += 0.5
            sets = prediction_sets(logits, expected, ALPHA, seed=4)
            if not (coverage(sets, labels) > 1 - ALPHA).all():
                expected[e] -= 0.5
                break
    assert calibrate_thresholds(logits, labels, ALPHA, seed=4).tolist() == expected.tolist()


def test_thresholds_stay_zero_where_zero_misses_the_coverage():
    logits, labels = make()
    assert calibrate_thresholds(logits, (labels + 1) % C, ALPHA).tolist() == [0.0] * E


def test_the_search_ends_below_the_largest_logit():
    logits = torch.tensor([4.0, -1.0]).expand(2, 10, 2)
    assert calibrate_thresholds(logits, [0] * 10, ALPHA).tolist() == [3.5, 3.5]


def test_a_step_beyond_all_logits_leaves_zero():
    logits, labels = make()
    assert calibrate_thresholds(logits, labels, ALPHA, step=1e6).tolist() == [0.0] * E


# Errors


@pytest.mark.parametrize("logits", [[[1.0, 2.0]], np.zeros((0, 3, 2)), np.zeros((2, 0, 2))])
def test_logits_of_another_shape_are_refused(logits):
    with pytest.raises(ValueError, match="logits has shape"):
        prediction_sets(logits, [0.0], ALPHA)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_no_numbers_are_refused(value):
    with pytest.raises(ValueError, match="not a finite number"):
        prediction_sets([[[1.0, value]]], [0.0], ALPHA)


@pytest.mark.parametrize("thresholds", [0.0, [0.0], [[0.0] * E], [0.0] * (E + 1)])
def test_thresholds_of_another_number_are_refused(thresholds):
    with pytest.raises(ValueError, match="4 exits"):
        prediction_sets(make()[0], thresholds, ALPHA)


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, 5, float("nan")])
def test_alpha_outside_0_and_1_is_refused(alpha):
    logits, labels = make()
    with pytest.raises(ValueError, match="between 0 and 1"):
        prediction_sets(logits, [0.0] * E, alpha)
    with pytest.raises(ValueError, match="between 0 and 1"):
        calibrate_thresholds(logits, labels, alpha)


@pytest.mark.parametrize(
    ("draws", "message"),
    [
        ([[0.5, 0.5]], "1 lists; 2 samples at 1 exits need 2"),
        ([[0.5, 0.5], [1.0]], r"draws\[1\] \(sample 1, exit 0\) has 1 values; 2 classes"),
        ([[0.2, 0.3, 0.5], [1.0]], r"draws\[0\] \(sample 0, exit 0\) has 3 values; 2 classes"),
    ],
)
def test_draws_of_another_number_or_length_are_refused(draws, message):
    with pytest.raises(ValueError, match=message):
        prediction_sets([[[1.0, 1.0, 0.0], [1.0, -1.0, 1.0]]], [0.0], ALPHA, draws=draws)


def test_draws_beside_a_seed_are_refused():
    with pytest.raises(ValueError, match="not both"):
        prediction_sets([[[1.0]]], [0.0], ALPHA, draws=[[1.0]], seed=0)


@pytest.mark.parametrize("labels", [[0], [0, 1, 0], [[0, 1]]])
def test_labels_of_another_number_are_refused(labels):
    with pytest.raises(ValueError, match="2 samples"):
        coverage(torch.ones(1, 2, 2, dtype=torch.bool), labels)
    with pytest.raises(ValueError, match="2 samples"):
        calibrate_thresholds(torch.ones(1, 2, 2), labels, ALPHA)


@pytest.mark.parametrize("step", [0.0, -1.0, float("nan")])
def test_a_step_that_does_not_raise_is_refused(step):
    with pytest.raises(ValueError, match="step is"):
        calibrate_thresholds(*make(), ALPHA, step=step)
