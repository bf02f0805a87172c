"""train_teacher and train_student: the same order of steps, the same kind of record left."""

from __future__ import annotations

import logging
import re
import shutil
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from dedier_laplace.config import Config
from dedier_laplace.config.schema import Student
from dedier_laplace.config.section import NAME_PATTERN
from dedier_laplace.data.attributes import Groups
from dedier_laplace.data.tokens import INDEX
from dedier_laplace.distillation.methods.base import Method, find_method
from dedier_laplace.distillation.reweighting import Reweighting
from dedier_laplace.distillation.trainer import DistillationTrainer
from dedier_laplace.errors import UserError
from dedier_laplace.models import chosen_layers, label_order, load_tokenizer, load_trained
from dedier_laplace.pipeline.sources import TrainingSources
from dedier_laplace.pipeline.workspace import Workspace, depth_of
from dedier_laplace.report.model_card import model_card
from dedier_laplace.run_folder import (
    RECORD,
    already_there,
    building,
    environment,
    fingerprint_of,
    model_fingerprint,
    write_json,
    write_text,
)
from dedier_laplace.training import EpochTrainer

log = logging.getLogger(__name__)

EPOCHS = "epochs.jsonl"


def train_teacher(workspace: Workspace, *, overwrite: bool = False) -> Path:
    """Fine-tune the teacher and keep the epoch that validation selects.

    Args:
        workspace: config, run folder and corpus.
        overwrite: replace another run's teacher.

    Returns:
        the model folder.

    Raises:
        UserError: the folder holds another run's teacher, or the model cannot be loaded.
    """
    config, folder = workspace.config, workspace.folder.teacher
    fingerprint = fingerprint_of(
        data=workspace.data_fingerprint(),
        start=workspace.start_fingerprint(config.teacher),
        teacher=config.teacher.model_dump(mode="json", exclude={"model", "tokenizer"}),
        seed=config.seed,
        groups=_groups_that_count(config, config.teacher.select_by),
    )
    if already_there(folder, fingerprint, overwrite, "name another --output"):
        log.info("teacher: already trained (%s)", folder)
        return folder
    began = time.monotonic()
    log.info("teacher: training, seed %d", config.seed)
    if not config.teacher.fine_tune:
        model, tokenizer = _finished_teacher(workspace)
    else:
        model, tokenizer = workspace.start_model(config.teacher)
    with building(folder) as partial:
        record: dict[str, Any] = {}
        if config.teacher.fine_tune:
            trainer = EpochTrainer(
                model,
                workspace.training_arguments(config.teacher, partial / "checkpoints"),
                workspace.tokenized("train", model, tokenizer).remove_columns(INDEX),
                tokenizer,
                validation=workspace.tokenized("validation", model, tokenizer),
                metrics=workspace.validation_metrics(),
                epochs_file=partial / EPOCHS,
            )
            trainer.train()
            record = {"best_epoch": trainer.best_epoch, "epochs": trainer.epochs}
        settings = config.teacher.model_dump(mode="json")
        _save(workspace, partial, "teacher", model, tokenizer, fingerprint, began, record, settings)
    workspace.record_stage("teacher", began)
    return folder


def train_student(
    workspace: Workspace,
    *,
    teacher: Path | None = None,
    name: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Train one student by the config's method.

    Args:
        workspace: config, run folder and corpus.
        teacher: a trained model folder; None takes the run folder's own.
        name: of the student's folder; None makes it of method and layer.
        overwrite: replace another run's student of that name.

    Returns:
        the model folder; beside the model lie readout/, sample_weights.safetensors, epochs.jsonl.

    Raises:
        UserError: method, layer or teacher is not there, or the folder holds another student.
    """
    config = workspace.config
    method = checked_method(config)
    name = check_name(name or student_name(config))
    folder = workspace.folder.student(name)
    teacher = _find_teacher(workspace, teacher) if method.needs_teacher else None
    fingerprint = fingerprint_of(
        data=workspace.data_fingerprint(),
        start=workspace.start_fingerprint(config.student),
        student=_common(config.student),
        seed=config.seed,
        groups=_groups_that_count(config, config.student.select_by, config.student.sampling),
        teacher=model_fingerprint(teacher) if teacher else None,
        method=method.settings(),
    )
    if already_there(folder, fingerprint, overwrite, "give it another --name"):
        log.info("student %s: already trained (%s)", name, folder)
        return folder
    began = time.monotonic()
    log.info("student %s: training, seed %d", name, config.seed)
    model, tokenizer = workspace.start_model(config.student)
    sources = TrainingSources(workspace, model, teacher)
    prepared = method.prepare(sources)
    with building(folder) as partial:
        trainer = DistillationTrainer(
            model,
            workspace.training_arguments(config.student, partial / "checkpoints"),
            workspace.tokenized("train", model, tokenizer),
            tokenizer,
            validation=workspace.tokenized("validation", model, tokenizer),
            metrics=workspace.validation_metrics(),
            epochs_file=partial / EPOCHS,
            method=method,
            prepared=prepared,
            groups=sources.groups,
            sampling=config.student.sampling,
            reweighting=_reweighting(workspace, method, sources.groups),
        )
        trainer.train()
        _save_weights(workspace, trainer, partial)
        model = method.finish(model)
        record = {"best_epoch": trainer.best_epoch, "epochs": trainer.epochs}
        settings = {"student": _common(config.student), **method.settings()}
        _save(workspace, partial, name, model, tokenizer, fingerprint, began, record, settings)
    workspace.record_stage(f"students/{name}", began)
    return folder


def check_name(name: str) -> str:
    """The name itself, if a student's folder may have it.

    Raises:
        UserError: it may not.
    """
    if not re.fullmatch(NAME_PATTERN, name) or name == "teacher":
        raise UserError(
            f"The name {name!r} cannot be a student's: use letters, digits, '.', '_' and '-', "
            "beginning with a letter or digit; 'teacher' is taken."
        )
    return name


def checked_method(config: Config) -> Method:
    """The method of a student, its settings checked as far as the config alone tells.

    Raises:
        UserError: there is no such method, it refuses its settings, or it reads a layer that the
            student does not have.
    """
    method = find_method(config.student.method)(config)
    if method.predictive is not None:
        chosen_layers(config.aux.layers, depth_of(config.student.model))
    return method


def student_name(config: Config) -> str:
    """Name of a student that was given none: its method, and the layer if it reads one."""
    method = config.student.method
    if find_method(method).predictive is None:
        return method
    layers = config.aux.layers
    return f"{method}-layer{'s-all' if layers == 'all' else '-'.join(map(str, layers))}"


def _finished_teacher(workspace: Workspace) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A teacher that was fine-tuned elsewhere and is used as it is."""
    spec = workspace.config.teacher
    if not isinstance(spec.model, str):
        raise UserError("teacher.fine_tune: false needs teacher.model to be a trained model.")
    model = load_trained(spec.model)
    label_order(model, workspace.corpus.label_names, spec.model)
    return model, load_tokenizer(spec.model if spec.tokenizer == "same" else spec.tokenizer)


def _find_teacher(workspace: Workspace, teacher: Path | None) -> Path:
    if teacher is not None:
        return teacher
    own = workspace.folder.teacher
    if not (own / RECORD).exists():
        raise UserError(
            f"There is no teacher in {own}; run `dedier train-teacher` first, name a trained "
            "model with --teacher, or use --method erm, which needs none."
        )
    return own


def _common(student: Student) -> dict[str, Any]:
    """What of the block counts for every method; `Method.settings` tells the rest."""
    return student.model_dump(mode="json", exclude={"jtt", "group_dro"})


def _groups_that_count(config: Config, select_by: str, sampling: str = "random") -> Any:
    """The attribute, where the choice of the epoch or of the samples depends on it."""
    if select_by in ("last", "accuracy") and sampling == "random":
        return None
    return config.data.attributes[config.eval.groups].model_dump(mode="json")


def _reweighting(workspace: Workspace, method: Method, groups: Groups) -> Reweighting | None:
    config, splits = workspace.config, workspace.corpus.splits
    if method.predictive is None:
        return None
    return Reweighting(
        method,
        config.aux,
        config.weights,
        labels=torch.tensor(splits["train"]["label"][:]),
        validation_labels=torch.tensor(splits["validation"]["label"][:]),
        groups=groups,
        n_classes=len(workspace.corpus.label_names),
        seed=config.seed,
    )


def _save_weights(workspace: Workspace, trainer: DistillationTrainer, folder: Path) -> None:
    """Sample weights, and the readout of the model kept: fitted again if it is not the last's."""
    reweighting = trainer.reweighting
    if reweighting is not None:
        if reweighting.exits is None or reweighting.epoch != trainer.best_epoch:
            reweighting.exits = None  # a warm start from a later epoch would be no start
            trainer.refit(trainer.best_epoch)
        assert reweighting.exits is not None
        reweighting.exits.save(folder / "readout")
    ids = torch.tensor(workspace.corpus.splits["train"]["id"][:])
    weights = {"id": ids, "weights": trainer.sample_weights.cpu()}
    save_file(weights, folder / "sample_weights.safetensors")


def _save(
    workspace: Workspace,
    folder: Path,
    name: str,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    fingerprint: str,
    began: float,
    training: dict[str, Any],
    settings: dict[str, Any],
) -> None:
    """Model, tokenizer, card and record; the record last, for it marks the folder complete."""
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_text(folder / "README.md", model_card(name, workspace.config, training, settings))
    record = {
        "name": name,
        "seed": workspace.config.seed,
        **training,
        "seconds": round(time.monotonic() - began, 3),
        "fingerprint": fingerprint,
        "config": workspace.config.model_dump(mode="json"),
        **environment(),
    }
    write_json(folder / RECORD, record)
