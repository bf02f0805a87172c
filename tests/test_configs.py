"""Every shipped config is valid, opens with what it is for, and says what the sources say."""

from pathlib import Path

import pytest

from dedier_laplace.config import load_config
from dedier_laplace.config.load import shipped_folder
from dedier_laplace.pipeline.run import named_students

CONFIGS = sorted(shipped_folder().rglob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_config_is_valid_and_opens_with_its_command(path: Path) -> None:
    config = load_config(path)
    assert named_students(config)
    head = path.read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    comment = "\n".join(line for line in head if line.startswith("#"))
    assert "dedier run" in comment
    assert "Time" in comment


def test_without_a_file_the_quickstart_is_loaded() -> None:
    assert load_config() == load_config(shipped_folder() / "quickstart.yaml")


def test_mnli_is_the_published_setting() -> None:
    config = load_config("mnli")
    teacher, student = config.teacher, config.student
    assert (teacher.model, teacher.training["num_train_epochs"]) == ("bert-base-uncased", 3)
    assert (student.model, student.training["num_train_epochs"]) == ("distilbert-base-uncased", 5)
    assert student.tokenizer == "bert-base-uncased"
    for training in (teacher.training, student.training):
        assert training["learning_rate"] == 2e-5
        assert training["per_device_train_batch_size"] == 16
        assert training["lr_scheduler_type"] == "linear"
        assert training["optim"].startswith("adamw")
        assert training["warmup_steps"] > 0
    assert student.temperature == 2.0
    assert config.aux.layers == [3]
    assert config.aux.every_n_epochs == 1
    assert (config.weights.alpha, config.weights.beta) == (0.2, 3.0)


def test_mnli_local_differs_only_in_where_things_come_from() -> None:
    hub, local = load_config("mnli").model_dump(), load_config("mnli_local").model_dump()
    for config in (hub, local):
        del config["data"]["files"], config["data"]["hub_name"]
        for block in ("teacher", "student"):
            del config[block]["model"], config[block]["tokenizer"]
    assert hub == local
