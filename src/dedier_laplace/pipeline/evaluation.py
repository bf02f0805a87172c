"""evaluate: models on one split, per group; figures, the rows they follow from, one table."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow
import torch

from dedier_laplace.errors import UserError
from dedier_laplace.evaluation.groups import group_metrics
from dedier_laplace.inference import classify
from dedier_laplace.models import label_order, load_tokenizer, load_trained
from dedier_laplace.pipeline.workspace import Workspace
from dedier_laplace.report.tables import Table, accuracy_table
from dedier_laplace.report.weights import weights_table
from dedier_laplace.run_folder import (
    RECORD,
    fingerprint_of,
    model_fingerprint,
    read_json,
    write_json,
    write_parquet,
    write_text,
)

log = logging.getLogger(__name__)


def evaluate(
    workspace: Workspace,
    models: dict[str, Path] | None = None,
    *,
    overwrite: bool = False,
) -> list[dict[str, Any]]:
    """Evaluate models per group on the split and attribute of the config's `eval` block.

    Args:
        workspace: config, run folder and corpus.
        models: trained model folders by name; None takes every model of the run folder.
        overwrite: replace the evaluation of another model of the same name.

    Returns:
        the content of each evaluation.json, in the order of `models`; one table of them is written
        to report/<split>-<groups>.md.

    Raises:
        UserError: there is no model, one cannot be loaded or knows other labels, or another model's
            evaluation is in the way.
    """
    if models is None:
        models = workspace.folder.models()
        if not models:
            raise UserError(
                f"{workspace.folder.root} holds no trained model; train one first "
                "(dedier train-teacher) or name one with --model."
            )
    evaluations = [
        _evaluate_one(workspace, name, folder, overwrite) for name, folder in models.items()
    ]
    evaluated = workspace.config.eval
    name = f"{evaluated.split}-{evaluated.groups}.md"
    write_tables(workspace.folder.root / "report" / name, tables(evaluations))
    return evaluations


def tables(evaluations: Sequence[dict[str, Any]]) -> list[Table]:
    """What a report shows of these models: accuracies, and what their weights owe to Laplace."""
    trainings: dict[str, list[dict[str, Any]]] = {}
    for evaluation in evaluations:
        record = Path(evaluation["model_folder"]) / RECORD
        if record.exists():
            trainings.setdefault(evaluation["model"], []).append(read_json(record))
    of_weights = weights_table(trainings)
    return [accuracy_table(evaluations), *([of_weights] if of_weights else [])]


def write_tables(path: Path, shown: Sequence[Table]) -> None:
    """Tables below one another in a Markdown file."""
    write_text(path, "\n".join(table.markdown() for table in shown))


def named_models(folders: Sequence[Path]) -> dict[str, Path]:
    """Model folders by name, for `evaluate`: the folder's own, with its parents' if two agree."""
    absolute = list(dict.fromkeys(folder.resolve() for folder in folders))
    parts = 1
    while len({folder.parts[-parts:] for folder in absolute}) < len(absolute):
        parts += 1
    return {"-".join(folder.parts[-parts:]).lstrip("/"): folder for folder in absolute}


def _evaluate_one(
    workspace: Workspace, name: str, model_folder: Path, overwrite: bool
) -> dict[str, Any]:
    config, corpus = workspace.config, workspace.corpus
    split, attribute = config.eval.split, config.eval.groups
    folder = workspace.folder.evaluation(name, split, attribute)
    rows, groups = corpus.splits[split], corpus.groups(split, attribute)
    shares = corpus.groups("train", attribute).shares
    for group, size in zip(groups.names, groups.sizes, strict=True):
        if size == 0:
            log.warning("%s: the group %r has no sample in %s", name, group, split)
    fingerprint = fingerprint_of(
        model=model_fingerprint(model_folder),
        data=rows._fingerprint,
        groups=groups.index.tolist(),
        train_shares=shares.tolist(),
        max_length=config.data.max_length,
    )
    path, predictions_path = folder / "evaluation.json", folder / "predictions.parquet"
    if path.exists():
        there = read_json(path)
        if there["fingerprint"] == fingerprint and predictions_path.exists():
            return {**there, "model_folder": str(model_folder.resolve())}  # it may have moved
        if there["model_folder"] != str(model_folder.resolve()) and not overwrite:
            raise UserError(
                f"{folder} holds the evaluation of another model ({there['model_folder']}); pass "
                "--overwrite to replace it, or name another --output."
            )
    began = time.monotonic()
    model = load_trained(model_folder, workspace.device())
    order = label_order(model, corpus.label_names, model_folder)
    tokenizer = load_tokenizer(model_folder)
    tokens = workspace.tokenized(split, model, tokenizer)
    logits = classify(model, tokens, tokenizer, config.eval.batch_size)
    probabilities = logits[:, order].softmax(1)
    labels, predictions = torch.tensor(rows["label"]), probabilities.argmax(1)
    record = model_folder / RECORD
    evaluation = {
        "model": name,
        "model_folder": str(model_folder.resolve()),
        "split": split,
        "groups_by": attribute,
        "seed": read_json(record)["seed"] if record.exists() else None,
        "labels": list(corpus.label_names),
        **group_metrics(predictions.numpy(), labels.numpy(), groups, shares),
        "fingerprint": fingerprint,
    }
    names = corpus.label_names
    table = pyarrow.table(
        {
            "id": rows["id"][:],
            "label": [names[label] for label in labels],
            "prediction": [names[label] for label in predictions],
            "probabilities": probabilities.tolist(),
            "attribute": [groups.attributes[group] for group in groups.index],
            "group": [groups.names[group] for group in groups.index],
        }
    )
    write_parquet(predictions_path, table)
    write_json(path, evaluation)
    log.info("%s: evaluated on %s, %d pairs", name, split, len(rows))
    workspace.record_stage(f"evaluations/{name}/{folder.name}", began)
    return evaluation
