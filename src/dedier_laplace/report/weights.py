"""How far Laplace weights are from plain ones, epoch by epoch: does the posterior do anything?"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from dedier_laplace.report.tables import ABSENT, Table


def weights_table(trainings: Mapping[str, Sequence[dict[str, Any]]]) -> Table | None:
    """A row a student with a readout, a column an epoch; None if there is no such student.

    Args:
        trainings: records of training (`training.json`) by model, one a seed.
    """
    rows = {name: _refits(records) for name, records in trainings.items()}
    rows = {name: refits for name, refits in rows.items() if refits}
    if not rows:
        return None
    epochs = sorted({epoch for refits in rows.values() for epoch in refits})
    header = ["weights", *(f"epoch {epoch}" for epoch in epochs)]
    return Table(
        header,
        [
            [name, *(_cell(refits.get(epoch, [])) for epoch in epochs)]
            for name, refits in rows.items()
        ],
        "Laplace weights against the weights of the same readout's MAP softmax, on the training "
        "set: mean relative change, and rank correlation in brackets (means over seeds). Near 0% "
        "and 1 the posterior changes nothing.",
    )


def _refits(records: Sequence[dict[str, Any]]) -> dict[int, list[dict[str, Any]]]:
    """What was noted of the readout after each epoch that had a new one, a record a seed."""
    found: dict[int, list[dict[str, Any]]] = {}
    for record in records:
        for epoch in record.get("epochs", []):
            if "laplace_against_map" in epoch:
                found.setdefault(epoch["epoch"], []).append(epoch["laplace_against_map"])
    return found


def _cell(shifts: Sequence[dict[str, Any]]) -> str:
    if not shifts:
        return ABSENT
    change = 100 * statistics.mean(shift["mean_relative_change"] for shift in shifts)
    ranks = [s["rank_correlation"] for s in shifts if s["rank_correlation"] is not None]
    return f"{change:.1f}%" + (f" ({statistics.mean(ranks):.3f})" if ranks else "")
