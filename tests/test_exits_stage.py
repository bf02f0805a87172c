"""`dedier eval --exits`: readouts on every layer of trained models, end to end."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from pyarrow import parquet
from tiny import LAYERS

from dedier_laplace import UserError, Workspace, evaluate
from dedier_laplace.config import with_overrides
from dedier_laplace.evaluation.exits import exit_metrics, set_metrics
from dedier_laplace.pipeline import evaluate_exits
from dedier_laplace.report.exits import exits_tables
from dedier_laplace.run_folder import RunFolder


@pytest.fixture(scope="session")
def evaluated(finished: tuple) -> tuple[Workspace, list[dict], list[dict]]:
    """The tiny run, its evaluations of teacher and one student, and their exits."""
    workspace, evaluations = finished
    chosen = [e for e in evaluations if e["model"] in ("teacher", "laplace-layer2")]
    return workspace, chosen, evaluate_exits(workspace, chosen)


def test_every_layer_of_teacher_and_student_is_an_exit(evaluated: tuple) -> None:
    _, _, (teacher, student) = evaluated
    assert teacher["layers"] == [1, 2]
    assert student["layers"] == list(range(1, LAYERS + 1))
    for record in (teacher, student):
        for kind in ("map", "laplace"):
            assert len(record[kind]) == len(record["layers"])
            for found in record[kind]:
                assert 0 <= found["worst_group_accuracy"] <= found["accuracy"] <= 1
                assert found["nll"] > 0
        assert len(record["prediction_sets"]["thresholds"]) == len(record["layers"])


def test_curve_runs_from_the_first_exit_to_the_last(evaluated: tuple) -> None:
    _, _, (_, student) = evaluated
    for kind in ("map", "laplace"):
        curve = student["early_exit"][kind]
        compute = [entry["compute"] for entry in curve]
        assert compute == sorted(compute)
        assert compute[0] == pytest.approx(1 / LAYERS)
        assert compute[-1] == pytest.approx(1)
        assert curve[0]["accuracy"] == student[kind][0]["accuracy"]
        assert curve[-1]["accuracy"] == student[kind][-1]["accuracy"]


def test_every_figure_follows_from_the_rows_beside_it(evaluated: tuple) -> None:
    workspace, _, (_, student) = evaluated
    folder = workspace.folder.evaluation("laplace-layer2", "test", "negation")
    rows = parquet.read_table(folder / "exits.parquet").to_pydict()
    groups = workspace.corpus.groups("test", "negation")
    assert rows["group"] == groups.index.tolist()
    labels = torch.tensor(rows["label"])
    for kind in ("map", "laplace"):
        columns = [rows[f"layer_{layer}_{kind}"] for layer in student["layers"]]
        probabilities = torch.tensor(np.array(columns))
        np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-5)
        for found, said in zip(
            exit_metrics(probabilities, labels, groups), student[kind], strict=True
        ):
            assert found["groups"] == said["groups"]
            assert found["nll"] == pytest.approx(said["nll"], abs=1e-6)
    sets = torch.tensor(np.array([rows[f"layer_{layer}_set"] for layer in student["layers"]]))
    assert set_metrics(sets, labels, groups) == student["prediction_sets"]["exits"]


def test_nothing_is_done_twice_and_other_settings_are(evaluated: tuple) -> None:
    workspace, evaluations, records = evaluated
    folder = workspace.folder.evaluation("laplace-layer2", "test", "negation")
    before = (folder / "exits.json").stat().st_mtime_ns
    assert evaluate_exits(workspace, evaluations) == records
    assert (folder / "exits.json").stat().st_mtime_ns == before


def test_tables_show_every_exit(evaluated: tuple) -> None:
    workspace, _, (_, student) = evaluated
    each, early, sets = exits_tables(student)
    assert [row[0] for row in each.rows] == [row[0] for row in sets.rows] == ["1", "2", "3"]
    assert "own head" in each.caption
    assert len(early.rows) == len(student["early_exit"]["map"])
    assert len({len(row) for row in each.rows} | {len(each.header)}) == 1
    shown = (
        workspace.folder.evaluation("laplace-layer2", "test", "negation") / "exits.md"
    ).read_text()
    assert all(table.caption in shown for table in (each, early, sets))


def test_the_split_that_calibrates_is_not_evaluated(evaluated: tuple) -> None:
    workspace, evaluations, _ = evaluated
    config = with_overrides(workspace.config, {"eval": {"split": "validation"}})
    with pytest.raises(UserError, match="calibrates"):
        evaluate_exits(workspace.with_config(config), evaluations)


def test_exits_of_another_aux_block_are_not_replaced_unasked(evaluated: tuple) -> None:
    workspace, evaluations, _ = evaluated
    config = with_overrides(workspace.config, {"aux": {"laplace": {"link": "probit"}}})
    with pytest.raises(UserError, match="--overwrite"):
        evaluate_exits(workspace.with_config(config), evaluations)


def test_a_run_folder_that_was_moved_is_evaluated_where_it_is(
    finished: tuple, tmp_path: Path
) -> None:
    workspace, _ = finished
    moved = dataclasses.replace(workspace, folder=RunFolder.at(tmp_path / "moved"))
    shutil.copytree(workspace.folder.root, moved.folder.root)
    (evaluation,) = evaluate(moved, {"kd": moved.folder.student("kd")})
    assert evaluation["model_folder"] == str(moved.folder.student("kd").resolve())
