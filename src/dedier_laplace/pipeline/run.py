"""`dedier run`: teacher, every student, every seed, evaluation, one table; nothing done twice."""

from __future__ import annotations

import logging
from typing import Any

from dedier_laplace.config import Config, with_overrides
from dedier_laplace.errors import UserError
from dedier_laplace.pipeline.evaluation import evaluate, tables, write_tables
from dedier_laplace.pipeline.stages import (
    check_name,
    checked_method,
    student_name,
    train_student,
    train_teacher,
)
from dedier_laplace.pipeline.workspace import Workspace
from dedier_laplace.run_folder import write_json

log = logging.getLogger(__name__)


def run(workspace: Workspace, *, overwrite: bool = False) -> list[dict[str, Any]]:
    """Train and evaluate everything the config names; what is already there is not done again.

    Args:
        workspace: config, run folder and corpus.
        overwrite: replace another run's results.

    Returns:
        the evaluations, seed by seed, teacher first; also written to report/table.md and .json.

    Raises:
        UserError: as the stages do; two students of one name.
    """
    config, folder = workspace.config, workspace.folder
    students = named_students(config)
    for overrides in students.values():
        checked_method(with_overrides(config, overrides))
    evaluations: list[dict[str, Any]] = []
    for seed in config.seeds:
        own = workspace.for_seed(seed)
        models = {"teacher": train_teacher(own, overwrite=overwrite)}
        for name, overrides in students.items():
            student = own.with_config(with_overrides(own.config, overrides))
            models[name] = train_student(student, name=name, overwrite=overwrite)
        evaluations += evaluate(own, models, overwrite=overwrite)
    report = folder.root / "report"
    write_tables(report / "table.md", tables(evaluations))
    write_json(report / "table.json", {"evaluations": evaluations})
    return evaluations


def named_students(config: Config) -> dict[str, dict[str, Any]]:
    """Overrides of every student of `students:`, by name.

    Raises:
        UserError: two have the same name, or one's method or name cannot be.
    """
    named: dict[str, dict[str, Any]] = {}
    for number, entry in enumerate(config.students):
        overrides = entry.model_dump(exclude={"name"})
        student = with_overrides(config, overrides)
        name = check_name(entry.name or student_name(student))
        if name in named:
            raise UserError(f"students[{number}]: the name {name!r} is taken; give it a name.")
        named[name] = overrides
    return named
