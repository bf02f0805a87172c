"""The stages as plain functions: train_teacher, train_student, evaluate, run.

The only room beside the command line that knows all others.
"""

from dedier_laplace.pipeline.evaluation import evaluate, named_models
from dedier_laplace.pipeline.run import run
from dedier_laplace.pipeline.stages import train_student, train_teacher
from dedier_laplace.pipeline.workspace import Workspace

__all__ = ["Workspace", "evaluate", "named_models", "run", "train_student", "train_teacher"]
