"""train_teacher, train_student, evaluate: the same order of steps, the same kind of record left."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow
import torch
from pyarrow import parquet
from safetensors.torch import save_file
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from dedier_laplace.config import Config
from dedier_laplace.config.explain import resolved
from dedier_laplace.config.schema import Student, Teacher
from dedier_laplace.data.tokens import INDEX
from dedier_laplace.distillation.methods.base import find_method
from dedier_laplace.distillation.trainer import DistillationTrainer
from dedier_laplace.errors import UserError
from dedier_laplace.evaluation.groups import group_metrics
from dedier_laplace.models import check_layer, classify, label_order, load_tokenizer, load_trained
from dedier_laplace.pipeline.workspace import Workspace, depth_of
from dedier_laplace.report.model_card import model_card
from dedier_laplace.run_folder import (
    RECORD,
    already_there,
    building,
    environment,
    fingerprint_of,
    read_json,
    weights_fingerprint,
    write_json,
    write_text,
)
from dedier_laplace.training import EpochTrainer, training_arguments

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
        teacher=config.teacher.model_dump(mode="json"),
        seed=config.seed,
        groups=_selecting_groups(config, config.teacher.select_by),
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
                _arguments(workspace, config.teacher, partial / "checkpoints"),
                workspace.tokenized("train", model, tokenizer).remove_columns(INDEX),
                tokenizer,
                validation=workspace.tokenized("validation", model, tokenizer),
                metrics=workspace.validation_metrics(),
                epochs_file=partial / EPOCHS,
            )
            trainer.train()
            record = {"best_epoch": trainer.best_epoch, "epochs": trainer.epochs}
        _save(workspace, partial, "teacher", model, tokenizer, fingerprint, began, record)
    _record(workspace, "teacher", began)
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
    method = find_method(config.student.method)(config)
    name = name or student_name(config)
    folder = workspace.folder.student(name)
    if method.predictive is not None:
        _check_depth(config)
    teacher = _find_teacher(workspace, teacher) if method.needs_teacher else None
    fingerprint = fingerprint_of(
        data=workspace.data_fingerprint(),
        student=config.student.model_dump(mode="json"),
        seed=config.seed,
        groups=_selecting_groups(config, config.student.select_by),
        teacher=weights_fingerprint(teacher) if teacher else None,
        readout=[config.aux.model_dump(mode="json"), config.weights.model_dump(mode="json")]
        if method.predictive
        else None,
    )
    if already_there(folder, fingerprint, overwrite, "give it another --name"):
        log.info("student %s: already trained (%s)", name, folder)
        return folder
    began = time.monotonic()
    log.info("student %s: training, seed %d", name, config.seed)
    teacher_logits = workspace.teacher_logits(teacher) if teacher else None
    model, tokenizer = workspace.start_model(config.student)
    if method.predictive is not None:
        check_layer(model, config.aux.layers[0])
    with building(folder) as partial:
        trainer = DistillationTrainer(
            model,
            _arguments(workspace, config.student, partial / "checkpoints"),
            workspace.tokenized("train", model, tokenizer),
            tokenizer,
            validation=workspace.tokenized("validation", model, tokenizer),
            metrics=workspace.validation_metrics(),
            epochs_file=partial / EPOCHS,
            method=method,
            teacher_logits=teacher_logits,
            aux=config.aux,
            weights=config.weights,
            groups=workspace.corpus.groups("train", config.eval.groups),
        )
        trainer.train()
        if method.predictive is not None:
            _save_readout(trainer, partial)
        record = {"best_epoch": trainer.best_epoch, "epochs": trainer.epochs}
        _save(workspace, partial, name, model, tokenizer, fingerprint, began, record)
    _record(workspace, f"students/{name}", began)
    return folder


def evaluate(workspace: Workspace, models: dict[str, Path] | None = None) -> list[dict[str, Any]]:
    """Evaluate models per group on the split and attribute of the config's `eval` block.

    Args:
        workspace: config, run folder and corpus.
        models: trained model folders by name; None takes every model of the run folder.

    Returns:
        the content of each evaluation.json, in the order of `models`.

    Raises:
        UserError: there is no model, or one cannot be loaded or knows other labels.
    """
    if models is None:
        models = workspace.folder.models()
        if not models:
            raise UserError(
                f"{workspace.folder.root} holds no trained model; train one first "
                "(dedier train-teacher) or name one with --model."
            )
    return [_evaluate_one(workspace, name, folder) for name, folder in models.items()]


def named_models(folders: Sequence[Path]) -> dict[str, Path]:
    """Model folders by name, for `evaluate`: the folder's own, with its parent's if two agree."""
    resolved_folders = [folder.resolve() for folder in folders]
    names = [folder.name for folder in resolved_folders]
    return {
        name if names.count(name) == 1 else f"{folder.parent.name}-{name}": folder
        for name, folder in zip(names, resolved_folders, strict=True)
    }


def student_name(config: Config) -> str:
    """Name of a student that was given none: its method, and the layer if it reads one."""
    method = config.student.method
    if find_method(method).predictive is None:
        return method
    return f"{method}-layer{'-'.join(map(str, config.aux.layers))}"


def _evaluate_one(workspace: Workspace, name: str, model_folder: Path) -> dict[str, Any]:
    config, corpus = workspace.config, workspace.corpus
    split, attribute = config.eval.split, config.eval.groups
    folder = workspace.folder.evaluation(name, split, attribute)
    model = load_trained(model_folder, workspace.device())
    order = label_order(model, corpus.label_names, model_folder)
    rows, groups = corpus.splits[split], corpus.groups(split, attribute)
    fingerprint = fingerprint_of(
        model=weights_fingerprint(model_folder),
        data=rows._fingerprint,
        groups=groups.index.tolist(),
        train_shares=corpus.groups("train", attribute).shares.tolist(),
        max_length=config.data.max_length,
    )
    path = folder / "evaluation.json"
    if path.exists() and read_json(path).get("fingerprint") == fingerprint:
        return read_json(path)
    began = time.monotonic()
    tokenizer = load_tokenizer(model_folder)
    tokens = workspace.tokenized(split, model, tokenizer)
    logits = classify(model, tokens, tokenizer, config.eval.batch_size)
    probabilities = logits[:, order].softmax(1)
    labels = torch.tensor(rows["label"])
    predictions = probabilities.argmax(1)
    shares = corpus.groups("train", attribute).shares
    metrics = group_metrics(predictions.numpy(), labels.numpy(), groups, shares)
    for group in metrics["groups"]:
        if group["n"] == 0:
            log.warning("%s: the group %r has no sample in %s", name, group["name"], split)
    evaluation = {
        "model": name,
        "split": split,
        "groups_by": attribute,
        "seed": config.seed,
        "labels": list(corpus.label_names),
        **metrics,
        "fingerprint": fingerprint,
        "seconds": round(time.monotonic() - began, 3),
    }
    names = corpus.label_names
    table = pyarrow.table(
        {
            "id": rows["id"][:],
            "label": [names[label] for label in labels],
            "prediction": [names[label] for label in predictions],
            "probabilities": probabilities.tolist(),
            "group": [groups.names[group] for group in groups.index],
        }
    )
    folder.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, folder / ".predictions.partial")
    (folder / ".predictions.partial").replace(folder / "predictions.parquet")
    write_json(path, evaluation)
    log.info("%s: evaluated on %s, %d pairs", name, split, len(rows))
    return evaluation


def _arguments(workspace: Workspace, spec: Teacher | Student, output_dir: Path) -> Any:
    return training_arguments(
        spec.training,
        output_dir=output_dir,
        seed=workspace.config.seed,
        device=workspace.config.device,
        select_by=spec.select_by,
        progress=workspace.progress,
        eval_batch_size=workspace.config.eval.batch_size,
    )


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


def _check_depth(config: Config) -> None:
    depth, layer = depth_of(config.student.model), config.aux.layers[0]
    if layer > depth:
        raise UserError(
            f"aux.layers names layer {layer}, but the student has {depth} layers: "
            f"choose one from 1 to {depth}."
        )


def _selecting_groups(config: Config, select_by: str) -> Any:
    """The attribute, where the choice of the epoch depends on it."""
    if select_by in ("last", "accuracy"):
        return None
    return config.data.attributes[config.eval.groups].model_dump(mode="json")


def _save_readout(trainer: DistillationTrainer, folder: Path) -> None:
    """Readout and weights of the model kept: fitted again if that is not the last epoch's."""
    last = trainer.epochs[-1]["epoch"]
    if trainer.readout is None or trainer.best_epoch != last:
        trainer.refit(trainer.best_epoch)
    assert trainer.readout is not None
    trainer.readout.save(folder / "readout")
    save_file({"weights": trainer.sample_weights.cpu()}, folder / "sample_weights.safetensors")


def _save(
    workspace: Workspace,
    folder: Path,
    name: str,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    fingerprint: str,
    began: float,
    training: dict[str, Any],
) -> None:
    """Model, tokenizer, card and record; the record last, for it marks the folder complete."""
    import shutil

    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_text(folder / "README.md", model_card(name, workspace.config, training))
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


def _record(workspace: Workspace, stage: str, began: float) -> None:
    config = workspace.config
    seconds = time.monotonic() - began
    workspace.folder.record_stage(stage, seconds, resolved(config), config.seed)
