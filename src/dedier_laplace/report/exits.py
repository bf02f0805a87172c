"""Tables of a model's early exits."""

from __future__ import annotations

from typing import Any

from dedier_laplace.report.tables import Table, percent


def exits_tables(record: dict[str, Any]) -> list[Table]:
    """Each exit alone, leaving early, and prediction sets; of one model's `exits.json`."""
    return [_each_exit(record), _leaving_early(record), _sets(record)]


def _each_exit(record: dict[str, Any]) -> Table:
    rows = [
        [
            str(layer),
            *(percent([found[kind]["accuracy"]]) for kind in ("map", "laplace")),
            *(percent([found[kind]["worst_group_accuracy"]]) for kind in ("map", "laplace")),
            *(f"{found[kind]['nll']:.3f}" for kind in ("map", "laplace")),
            *(percent([found[kind]["ece"]]) for kind in ("map", "laplace")),
        ]
        for layer, found in _by_layer(record, "map", "laplace")
    ]
    header = ["layer"]
    for figure in ("accuracy", "worst group", "NLL", "ECE"):
        header += [f"{figure}, MAP", f"{figure}, Laplace"]
    own = record["head"]
    caption = (
        f"{record['model']}: a readout on every layer, on {record['split']}; accuracy and ECE in "
        f"percent, NLL in nats. The model's own head: {percent([own['accuracy']])}, worst group "
        f"{percent([own['worst_group_accuracy']])}."
    )
    return Table(header, rows, caption)


def _leaving_early(record: dict[str, Any]) -> Table:
    pairs = zip(record["early_exit"]["map"], record["early_exit"]["laplace"], strict=True)
    rows = [
        [
            f"{one['threshold']:.2f}",
            *(percent([entry["compute"]]) for entry in (one, other)),
            *(percent([entry["accuracy"]]) for entry in (one, other)),
            *(percent([entry["worst_group_accuracy"]]) for entry in (one, other)),
        ]
        for one, other in pairs
    ]
    header = ["threshold"]
    for figure in ("compute", "accuracy", "worst group"):
        header += [f"{figure}, MAP", f"{figure}, Laplace"]
    return Table(
        header,
        rows,
        f"{record['model']}: samples leave at the first exit at least this confident, or at the "
        "last; compute is the mean share of encoder layers run, the readouts not counted.",
    )


def _sets(record: dict[str, Any]) -> Table:
    sets = record["prediction_sets"]
    rows = [
        [
            str(layer),
            f"{threshold:.1f}",
            percent([found["coverage"]]),
            percent([min(c for c in found["groups"].values() if c is not None)]),
            f"{found['mean_size']:.2f}",
            percent([found["share_empty"]]),
            percent([found["consistency"]]),
        ]
        for layer, threshold, found in zip(
            record["layers"], sets["thresholds"], sets["exits"], strict=True
        )
    ]
    return Table(
        ["layer", "threshold", "coverage", "worst group", "mean size", "empty", "consistency"],
        rows,
        f"{record['model']}: nested prediction sets (running intersection); thresholds raised on "
        f"validation while every exit covers {percent([1 - sets['alpha']])}% there. Coverage on "
        f"{record['split']}, of all and of the group covered worst; sizes in labels, the rest in "
        "percent.",
    )


def _by_layer(record: dict[str, Any], *kinds: str) -> list[tuple[int, dict[str, Any]]]:
    columns = zip(*(record[kind] for kind in kinds), strict=True)
    return [
        (layer, dict(zip(kinds, found, strict=True)))
        for layer, found in zip(record["layers"], columns, strict=True)
    ]
