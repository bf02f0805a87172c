"""The model card (README.md) that every saved model carries."""

from __future__ import annotations

from typing import Any

import yaml

from dedier_laplace.config import Config


def model_card(name: str, config: Config, training: dict[str, Any]) -> str:
    """Markdown with the front matter the hub reads.

    Args:
        name: of the model.
        config: it was trained with.
        training: `best_epoch` and `epochs`, empty for a teacher used as it was.
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
    blocks = {"teacher"} if is_teacher else {"student", "aux", "weights"}
    settings = yaml.safe_dump(config.model_dump(mode="json", include=blocks), sort_keys=False)
    lines = [
        f"---\n{header}---\n",
        f"# {name}\n",
        f"Trained by dedier-laplace ({method}) on the corpus `{config.data.corpus}` to tell "
        f"{', '.join(config.data.labels)} apart; seed {config.seed}.\n",
        *_validation(training, config.eval.groups),
        "## Settings\n",
        *([] if is_teacher else ["`aux` and `weights` count for methods with a readout.\n"]),
        f"```yaml\n{settings}```\n",
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
