import json

import pytest

from dedier_laplace.errors import UserError
from dedier_laplace.run_folder import (
    RECORD,
    RunFolder,
    already_there,
    building,
    fingerprint_of,
    model_fingerprint,
    read_json,
    write_json,
    write_text,
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_json_is_read_back_and_nothing_is_left_beside_it(tmp_path):
    data = {"a": [1, 2.5, None], "ä": "snow 雪"}
    write_json(tmp_path / "new" / "a.json", data)
    assert read_json(tmp_path / "new" / "a.json") == data
    assert names(tmp_path / "new") == ["a.json"]


def test_json_that_cannot_be_written_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})
    with pytest.raises(TypeError):
        write_json(path, {"new": object()})
    assert read_json(path) == {"old": 1}
    assert names(tmp_path) == ["a.json"]


def test_text_where_a_folder_is_expected_is_a_user_error(tmp_path):
    write_text(tmp_path / "file", "x")
    with pytest.raises(UserError, match="cannot be written"):
        write_text(tmp_path / "file" / "below", "x")


def test_damaged_json_is_a_user_error_that_names_it(tmp_path):
    write_text(tmp_path / "a.json", '{"half": ')
    with pytest.raises(UserError, match=r"a\.json"):
        read_json(tmp_path / "a.json")


def test_built_folder_takes_its_place_and_replaces_the_old(tmp_path):
    folder = tmp_path / "students" / "kd"
    for content in ("old", "new"):
        with building(folder) as partial:
            assert partial != folder
            (partial / content).write_text(content)
    assert names(folder) == ["new"]
    assert names(folder.parent) == ["kd"]


def test_exception_while_building_leaves_the_old_folder_and_no_partial_one(tmp_path):
    folder = tmp_path / "kd"
    with building(folder) as partial:
        (partial / "old").write_text("old")

    def fail():
        with building(folder) as partial:
            (partial / "half").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert names(folder) == ["old"]
    assert names(tmp_path) == ["kd"]


def test_remains_of_a_killed_run_do_not_get_into_the_next(tmp_path):
    folder = tmp_path / "kd"
    with building(folder) as partial:
        remains = partial
    remains.mkdir()
    (remains / "stale").write_text("x")
    with building(folder) as partial:
        (partial / "fresh").write_text("x")
    assert names(folder) == ["fresh"]


def test_folder_that_cannot_be_made_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot be written"), building(tmp_path / "file" / "kd"):
        pass


def test_same_result_is_already_there(tmp_path):
    write_json(tmp_path / "kd" / RECORD, {"fingerprint": "f"})
    assert already_there(tmp_path / "kd", "f", overwrite=False, otherwise="")


def test_missing_result_is_not_there(tmp_path):
    assert not already_there(tmp_path / "kd", "f", overwrite=False, otherwise="")


def test_overwriting_keeps_the_same_result(tmp_path):
    write_json(tmp_path / "kd" / RECORD, {"fingerprint": "f"})
    assert already_there(tmp_path / "kd", "f", overwrite=True, otherwise="")


def test_overwriting_replaces_another_result(tmp_path):
    write_json(tmp_path / "kd" / RECORD, {"fingerprint": "other"})
    assert not already_there(tmp_path / "kd", "f", overwrite=True, otherwise="")


@pytest.mark.parametrize("record", [{"fingerprint": "other"}, {}, None])
def test_another_runs_result_is_never_overwritten_unasked(tmp_path, record):
    (tmp_path / "kd").mkdir()
    if record is not None:
        write_json(tmp_path / "kd" / RECORD, record)
    with pytest.raises(UserError, match="choose another name, or pass --overwrite"):
        already_there(tmp_path / "kd", "f", overwrite=False, otherwise="choose another name")


def test_own_seed_stays_in_the_folder_and_others_go_below_with_one_cache(tmp_path):
    folder = RunFolder.at(tmp_path)
    assert folder.for_seed(3, base_seed=3) == folder
    other = folder.for_seed(4, base_seed=3)
    assert other.root == tmp_path / "seed-4"
    assert other.cache == folder.cache
    stages = [
        (f.teacher, f.student("kd"), f.evaluation("kd", "test", "x")) for f in (folder, other)
    ]
    assert not set(stages[0]) & set(stages[1])


def test_only_complete_models_are_listed_the_teacher_first(tmp_path):
    folder = RunFolder.at(tmp_path)
    for complete in (folder.student("b"), folder.student("a"), folder.teacher):
        write_json(complete / RECORD, {})
    folder.student("half").mkdir()
    assert folder.models() == {
        "teacher": folder.teacher,
        "a": folder.student("a"),
        "b": folder.student("b"),
    }


def test_models_of_an_empty_folder_are_none(tmp_path):
    assert RunFolder.at(tmp_path).models() == {}


def test_stages_add_up_in_one_record(tmp_path):
    folder = RunFolder.at(tmp_path)
    folder.record_stage("teacher", 1.25, "seed: 0\n", seed=0)
    folder.record_stage("students/kd", 2.0, "seed: 0\n", seed=0)
    run = json.loads((tmp_path / "run.json").read_text())
    assert {name: stage["seconds"] for name, stage in run["stages"].items()} == {
        "teacher": 1.25,
        "students/kd": 2.0,
    }
    assert {"python", "torch", "transformers"} <= set(run["versions"])
    assert (tmp_path / "config.yaml").read_text() == "seed: 0\n"


def test_fingerprint_does_not_depend_on_the_order_of_keys():
    one = fingerprint_of(a=1, b={"c": 2, "d": [1, 2]})
    assert fingerprint_of(b={"d": [1, 2], "c": 2}, a=1) == one


@pytest.mark.parametrize("other", [{"a": 2}, {"a": "1"}, {"b": 1}, {"a": 1, "b": None}, {}])
def test_fingerprint_depends_on_every_part(other):
    assert fingerprint_of(**other) != fingerprint_of(a=1)


def test_model_fingerprint_changes_with_weights_and_config_and_nothing_else(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "config.json").write_text("{}")
    first = model_fingerprint(tmp_path)
    (tmp_path / "README.md").write_text("words")
    assert model_fingerprint(tmp_path) == first
    (tmp_path / "config.json").write_text("{ }")
    second = model_fingerprint(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"Weights")
    assert len({first, second, model_fingerprint(tmp_path)}) == 3
