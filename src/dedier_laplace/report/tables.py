"""One table of many evaluations: mean and standard deviation over seeds, a row a model."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from rich.table import Table

AVERAGES = {
    "accuracy": "accuracy",
    "adjusted": "adjusted_accuracy",
    "worst group": "worst_group_accuracy",
    "group mean": "group_mean_accuracy",
}
ABSENT = "absent"


def table_rows(evaluations: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Header and rows, in percent: `71.2` for one seed, `71.2 ± 1.3` for several.

    Args:
        evaluations: of any models and seeds, on one split and attribute. Rows keep the order in
            which models first appear.
    """
    names = list(dict.fromkeys(evaluation["model"] for evaluation in evaluations))
    groups = [group["name"] for group in evaluations[0]["groups"]]
    header = ["model", *AVERAGES, *groups]
    rows = []
    for name in names:
        runs = [evaluation for evaluation in evaluations if evaluation["model"] == name]
        columns = [[run[key] for run in runs] for key in AVERAGES.values()]
        columns += [
            [
                group["accuracy"]
                for run in runs
                for group in run["groups"]
                if group["name"] == wanted
            ]
            for wanted in groups
        ]
        rows.append([name, *(_cell(values) for values in columns)])
    return header, rows


def explanation(evaluations: Sequence[dict[str, Any]]) -> str:
    """What the table shows, in words."""
    first = evaluations[0]
    # a model trained elsewhere has no seed that we know
    seeds = sorted({e["seed"] for e in evaluations if e["seed"] is not None})
    spread = "mean ± standard deviation over" if len(seeds) > 1 else "one seed:"
    seeds = seeds or ["unknown"]
    return (
        f"Accuracy in percent on {first['split']} ({first['n']} pairs), groups by "
        f"{first['groups_by']}; {spread} {'seeds' if len(seeds) > 1 else 'seed'} "
        f"{', '.join(map(str, seeds))}. adjusted: groups weighted by their training shares."
    )


def rich_table(evaluations: Sequence[dict[str, Any]]) -> Table:
    """The table for a terminal."""
    header, rows = table_rows(evaluations)
    table = Table(caption=explanation(evaluations), caption_justify="left")
    for number, name in enumerate(header):
        first = number == 0
        table.add_column(name, justify="left" if first else "right", no_wrap=first)
    for row in rows:
        table.add_row(*row)
    return table


def markdown_table(evaluations: Sequence[dict[str, Any]]) -> str:
    """The table for a paper's repository."""
    header, rows = table_rows(evaluations)
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{body}\n\n{explanation(evaluations)}\n"


def _cell(values: Sequence[float | None]) -> str:
    present = [100 * value for value in values if value is not None]
    if not present:
        return ABSENT
    if len(present) == 1:
        return f"{present[0]:.1f}"
    return f"{statistics.mean(present):.1f} ± {statistics.stdev(present):.1f}"
