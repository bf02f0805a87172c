"""evaluate_exits: what the layers of trained models know, with and without Laplace."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow
import torch
from torch import Tensor

from dedier_laplace.config import Config
from dedier_laplace.config.readout import Aux
from dedier_laplace.errors import UserError
from dedier_laplace.evaluation.exits import early_exit_curve, exit_metrics, set_metrics
from dedier_laplace.inference import readout_features
from dedier_laplace.models import chosen_layers, encoder_layers, load_tokenizer, load_trained
from dedier_laplace.pipeline.evaluation import write_tables
from dedier_laplace.pipeline.workspace import Workspace
from dedier_laplace.readout.exits import Exits
from dedier_laplace.readout.prediction_sets import coverage
from dedier_laplace.report.exits import exits_tables
from dedier_laplace.run_folder import (
    fingerprint_of,
    read_json,
    write_json,
    write_parquet,
)

log = logging.getLogger(__name__)

CONFIDENCES = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.01)


def check_split(config: Config) -> None:
    """Refuse to judge prediction sets on the samples that calibrate them.

    Raises:
        UserError: eval.split is validation.
    """
    if config.eval.split == "validation":
        raise UserError(
            "--exits calibrates prediction sets on the validation split, so it cannot be evaluated "
            "there; leave eval.split at test."
        )


def evaluate_exits(
    workspace: Workspace, evaluations: Sequence[dict[str, Any]], *, overwrite: bool = False
) -> list[dict[str, Any]]:
    """A readout on every layer of models that were evaluated, by the config's `aux` block.

    Readouts are fitted on train, prediction sets calibrated on validation, figures told of the
    split of `eval`.

    Args:
        workspace: config, run folder and corpus.
        evaluations: what `evaluate` returned.
        overwrite: replace what another `aux` block gave.

    Returns:
        the content of each model's exits.json, which lies beside its evaluation.json with
        exits.parquet, the rows it follows from, and exits.md.

    Raises:
        UserError: the split evaluated is the one that calibrates, or results of another `aux`
            block are in the way.
    """
    check_split(workspace.config)
    return [_evaluate_one(workspace, evaluation, overwrite) for evaluation in evaluations]


def _evaluate_one(
    workspace: Workspace, evaluation: dict[str, Any], overwrite: bool
) -> dict[str, Any]:
    config, splits = workspace.config, workspace.corpus.splits
    split, name = config.eval.split, evaluation["model"]
    folder = workspace.folder.evaluation(name, split, config.eval.groups)
    model_folder = Path(evaluation["model_folder"])
    aux = Aux.model_validate({**config.aux.model_dump(), "layers": "all"})
    fingerprint = fingerprint_of(
        evaluation=evaluation["fingerprint"],  # of the model too
        fitted_on=splits["train"]._fingerprint,
        calibrated_on=splits["validation"]._fingerprint,
        aux=aux.model_dump(mode="json"),
        seed=config.seed,
    )
    path, predictions = folder / "exits.json", folder / "exits.parquet"
    if path.exists() and predictions.exists():
        there = read_json(path)
        if there["fingerprint"] == fingerprint:
            return there
        if there["aux"] != aux.model_dump(mode="json") and not overwrite:
            raise UserError(
                f"{path} holds the exits of another aux block; pass --overwrite to replace them, "
                "or name another --output."
            )
    began = time.monotonic()
    exits, features, labels = _fit(workspace, model_folder, aux)
    groups = workspace.corpus.groups(split, config.eval.groups)
    probabilities = {
        kind: exits.probabilities(features, kind, seed=config.seed) for kind in ("map", "laplace")
    }
    sets = exits.raw_sets(features, seed=config.seed)
    depth = len(exits.layers)  # an exit behind every layer
    assert exits.thresholds is not None
    record = {
        **{key: evaluation[key] for key in ("model", "model_folder", "split", "groups_by", "seed")},
        "n": len(labels),
        "layers": list(exits.layers),
        "aux": aux.model_dump(mode="json"),
        "head": {key: evaluation[key] for key in ("accuracy", "worst_group_accuracy")},
        **{kind: exit_metrics(found, labels, groups) for kind, found in probabilities.items()},
        "early_exit": {
            kind: early_exit_curve(
                found, labels, groups, CONFIDENCES, layers=exits.layers, depth=depth
            )
            for kind, found in probabilities.items()
        },
        "prediction_sets": {
            "alpha": aux.prediction_sets.alpha,
            "thresholds": exits.thresholds.tolist(),
            "exits": set_metrics(sets, labels, groups),
        },
        "fingerprint": fingerprint,
    }
    rows = pyarrow.table(
        {
            "id": splits[split]["id"][:],
            "label": labels.tolist(),
            "group": groups.index.tolist(),
            **{
                f"layer_{layer}_{kind}": found[number].tolist()
                for kind, found in {**probabilities, "set": sets}.items()
                for number, layer in enumerate(exits.layers)
            },
        }
    )
    write_parquet(predictions, rows)
    write_json(path, record)
    write_tables(folder / "exits.md", exits_tables(record))
    log.info("%s: %d exits evaluated on %s", name, len(exits.layers), split)
    workspace.record_stage(f"evaluations/{name}/{folder.name}/exits", began)
    return record


def _fit(
    workspace: Workspace, model_folder: Path, aux: Aux
) -> tuple[Exits, dict[int, Tensor], Tensor]:
    """Exits fitted on train and calibrated on validation; features and labels to evaluate on."""
    config, splits = workspace.config, workspace.corpus.splits
    model = load_trained(model_folder, workspace.device())
    tokenizer = load_tokenizer(model_folder)
    layers = chosen_layers("all", len(encoder_layers(model)))

    def read(split: str) -> tuple[dict[int, Tensor], Tensor]:
        tokens = workspace.tokenized(split, model, tokenizer)
        features = readout_features(
            model, tokens, tokenizer, config.eval.batch_size, layers, aux.pooling
        )
        return features, torch.tensor(splits[split]["label"][:])

    train, validation = read("train"), read("validation")
    exits = Exits.fit(
        *train,
        aux,
        n_classes=len(workspace.corpus.label_names),
        seed=config.seed,
        validation=validation,
    )
    exits.calibrate(*validation, seed=config.seed)
    covered = coverage(exits.raw_sets(validation[0], seed=config.seed), validation[1]).min()
    if covered < 1 - aux.prediction_sets.alpha:
        log.warning(
            "prediction sets cover %.1f%% of validation at one exit, under the %.1f%% asked for",
            100 * covered,
            100 * (1 - aux.prediction_sets.alpha),
        )
    return exits, *read(config.eval.split)
