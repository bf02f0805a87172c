import re
from io import StringIO

import pytest
from rich.console import Console

from dedier_laplace.report.tables import accuracy_table


def evaluation(model, seed=0, accuracy=0.8, groups=(0.9, 0.7), adjusted=0.85):
    present = [value for value in groups if value is not None]
    return {
        "model": model,
        "seed": seed,
        "split": "test",
        "groups_by": "negation",
        "n": 100,
        "accuracy": accuracy,
        "adjusted_accuracy": adjusted,
        "worst_group_accuracy": min(present),
        "group_mean_accuracy": sum(present) / len(present),
        "groups": [{"name": f"g{i}", "accuracy": value} for i, value in enumerate(groups)],
    }


def cells(evaluations):
    """Cell by model and column."""
    table = accuracy_table(evaluations)
    return {row[0]: dict(zip(table.header[1:], row[1:], strict=True)) for row in table.rows}


def test_one_seed_is_a_plain_percentage():
    found = cells([evaluation("kd", accuracy=0.7125, groups=(0.9, 0.7))])["kd"]
    assert found["accuracy"] in ("71.2", "71.3")
    assert (found["worst group"], found["group mean"]) == ("70.0", "80.0")
    assert (found["g0"], found["g1"]) == ("90.0", "70.0")


def test_several_seeds_are_mean_and_standard_deviation():
    runs = [evaluation("kd", seed, accuracy) for seed, accuracy in enumerate((0.70, 0.72, 0.74))]
    assert cells(runs)["kd"]["accuracy"] == "72.0 ± 2.0"


def test_every_model_is_summarised_over_its_own_seeds():
    runs = [
        evaluation("teacher", 0, 0.9),
        evaluation("kd", 0, 0.6),
        evaluation("teacher", 1, 0.9),
        evaluation("kd", 1, 0.8),
    ]
    found = cells(runs)
    assert list(found) == ["teacher", "kd"]
    assert found["teacher"]["accuracy"] == "90.0 ± 0.0"
    assert found["kd"]["accuracy"] == "70.0 ± 14.1"


def test_group_without_samples_is_absent():
    found = cells([evaluation("kd", groups=(0.9, None))])["kd"]
    assert (found["g0"], found["g1"]) == ("90.0", "absent")


def test_group_absent_for_one_seed_is_told_from_the_others():
    runs = [evaluation("kd", 0, groups=(0.9, None)), evaluation("kd", 1, groups=(0.8, 0.5))]
    assert cells(runs)["kd"]["g1"] == "50.0"


def test_unknown_adjusted_accuracy_is_absent():
    assert cells([evaluation("kd", adjusted=None)])["kd"]["adjusted"] == "absent"


def test_markdown_has_a_row_a_model_and_equal_cells_everywhere():
    runs = [evaluation(model, seed) for seed in (0, 1) for model in ("teacher", "kd", "laplace")]
    lines = [line for line in accuracy_table(runs).markdown().splitlines() if line.startswith("|")]
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["teacher", "kd", "laplace"]
    assert len({line.count("|") for line in lines}) == 1


@pytest.mark.parametrize("seeds", [[0], [3, 5]])
def test_explanation_names_split_size_groups_and_seeds(seeds):
    text = accuracy_table([evaluation("kd", seed) for seed in seeds]).markdown()
    for word in ("test", "100", "negation", ", ".join(map(str, seeds))):
        assert re.search(rf"\b{word}\b", text.split("\n\n")[1])


def test_terminal_table_shows_what_the_markdown_shows():
    runs = [evaluation("kd", 0, 0.61), evaluation("kd", 1, 0.63)]
    console = Console(width=200, record=True, file=StringIO())
    console.print(accuracy_table(runs).rich())
    shown = console.export_text()
    assert all(cell in shown for cell in accuracy_table(runs).rows[0])


def test_a_model_without_a_known_seed_stands_beside_others():
    own, theirs = evaluation("own", seed=3), evaluation("theirs", seed=None)
    assert "seed 3." in accuracy_table([own, theirs]).caption
    assert "seed unknown." in accuracy_table([theirs]).caption
