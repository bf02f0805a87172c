"""The stages as plain functions: train_teacher, train_student, evaluate, run.

The only room beside the command line that knows all others.
"""

from dedier_laplace.pipeline.evaluation import evaluate, named_models, tables
from dedier_laplace.pipeline.exits import check_split, evaluate_exits
from dedier_laplace.pipeline.run import run
from dedier_laplace.pipeline.stages import train_student, train_teacher
from dedier_laplace.pipeline.workspace import Workspace
from dedier_laplace.report.exits import exits_tables

__all__ = [
    "Workspace",
    "check_split",
    "evaluate",
    "evaluate_exits",
    "exits_tables",
    "named_models",
    "run",
    "tables",
    "train_student",
    "train_teacher",
]
