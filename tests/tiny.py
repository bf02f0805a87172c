"""The generated corpus and models that train in seconds, for tests of whole stages."""

import dataclasses
from pathlib import Path

import torch
from safetensors.torch import load_file

from dedier_laplace import Workspace, load_config, train_student
from dedier_laplace.config import Config, with_overrides
from dedier_laplace.run_folder import RunFolder

LAYERS = 3
TINY = [
    "seed=0",
    "data.generated={train: 240, validation_per_group: 8, test_per_group: 10, unlabelled: 64}",
    "teacher.model.config={model_type: bert, num_hidden_layers: 2, hidden_size: 16,"
    " intermediate_size: 32, num_attention_heads: 2, max_position_embeddings: 64}",
    "teacher.model.pretraining={num_train_epochs: 1, per_device_train_batch_size: 32}",
    "teacher.training={num_train_epochs: 1, per_device_train_batch_size: 32}",
    f"student.model.config={{model_type: distilbert, n_layers: {LAYERS}, dim: 16,"
    " hidden_dim: 32, n_heads: 2, max_position_embeddings: 64}",
    "student.model.pretraining=null",
    "student.training={num_train_epochs: 3, per_device_train_batch_size: 32}",
    "aux={layers: [2], pooling: mean, laplace: {prior_precision: 1.0}}",
    "students=[{student: {method: erm}}, {student: {method: kd}}, {student: {method: dedier}},"
    " {student: {method: laplace}}]",
]


def tiny(*overrides: str):
    return load_config(None, [*TINY, *overrides])


def in_folder(workspace: Workspace, config: Config, output: Path) -> Workspace:
    """Another config in a run folder of its own, on the same corpus."""
    folder = RunFolder.at(output)
    return dataclasses.replace(workspace, config=config, run_config=config, folder=folder)


def student(workspace: Workspace, output: Path, overrides: dict) -> Path:
    """A student trained in a folder of its own by the teacher of `workspace`."""
    config = with_overrides(workspace.config, overrides)
    other = in_folder(workspace, config, output)
    return train_student(other, teacher=workspace.folder.teacher)


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def assert_same_model(one: Path, other: Path) -> None:
    first, second = weights_of(one), weights_of(other)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name
