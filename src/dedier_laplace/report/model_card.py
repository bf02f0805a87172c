"""The model card (README.md) that every saved model carries."""

from __future__ import annotations

from typing import Any

import yaml

from dedier_laplace.config import Config


def model_card(
    name: str, config: Config, training: dict[str, Any], settings: dict[str, Any]
) -> str:
    """Markdown with the front matter the hub reads.

    Args:
        name: of the model.
        config: of its run.
        training: `best_epoch` and `epochs`, empty for a teacher used as it was.
        settings: what of the config it was trained with.
    """
    is_teacher = name == "teacher"
    header = yaml.safe_dump(
        {
            "library_name": "transformers",
            "pipeline_tag": "text-classification",
            "tags": ["dedier-laplace", "teacher" if is_teacher else "knowledge-distillation"],
        },
        sort_keys=False,
    )
    method = "fine-tuning" if is_teacher else config.student.method
    lines = [
        f"---\n{header}---\n",
        f"# {name}\n",
        f"Trained by dedier-laplace ({method}) on the corpus `{config.data.corpus}` to tell "
        f"{', '.join(config.data.labels)} apart; seed {config.seed}.\n",
        *_validation(training, config.eval.groups),
        *_weights(training),
        "## Settings\n",
        f"```yaml\n{yaml.safe_dump(settings, sort_keys=False)}```\n",
        "The whole config, versions and hardware are in `training.json`. Accuracy per group on the "
        "test split is told by `dedier eval`.\n",
    ]
    return "\n".join(lines)


def _validation(training: dict[str, Any], attribute: str) -> list[str]:
    if not training:
        return ["Used as it was, without training.\n"]
    best = next(e for e in training["epochs"] if e["epoch"] == training["best_epoch"])
    found = best["validation"]
    rows = [
        f"| {group} | {'absent' if accuracy is None else f'{100 * accuracy:.1f}'} |"
        for group, accuracy in found["groups"].items()
    ]
    return [
        f"Validation after epoch {training['best_epoch']} (the one kept), groups by {attribute}, "
        "in percent:\n",
        "| | accuracy |\n|---|---|",
        f"| all | {100 * found['accuracy']:.1f} |",
        f"| worst group | {100 * found['worst_group_accuracy']:.1f} |",
        *rows,
        "",
    ]


def _weights(training: dict[str, Any]) -> list[str]:
    """How much of the weights is Laplace's doing, where a readout made any."""
    epochs = training.get("epochs", [])
    shifts = [e["laplace_against_map"] for e in epochs if "laplace_against_map" in e]
    if not shifts:
        return []
    changes = ", ".join(f"{100 * shift['mean_relative_change']:.1f}%" for shift in shifts)
    return [
        f"Sample weights under Laplace differ from those of the plain readout by {changes} on "
        "average (after each epoch with a new readout).\n"
    ]
