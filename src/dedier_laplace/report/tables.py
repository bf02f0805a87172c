"""Tables: one shape for the terminal and for Markdown; a row a model, mean and SD over seeds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import rich.table

AVERAGES = {
    "accuracy": "accuracy",
    "adjusted": "adjusted_accuracy",
    "worst group": "worst_group_accuracy",
    "group mean": "group_mean_accuracy",
}
ABSENT = "absent"


@dataclass(frozen=True)
class Table:
    """Cells that are text already, and a caption that says what they show."""

    header: list[str]
    rows: list[list[str]]
    caption: str

    def rich(self) -> rich.table.Table:
        """For a terminal."""
        table = rich.table.Table(caption=self.caption, caption_justify="left")
        for number, name in enumerate(self.header):
            first = number == 0
            table.add_column(name, justify="left" if first else "right", no_wrap=first)
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        """For a paper's repository."""
        lines = [self.header, ["---", *["---:"] * (len(self.header) - 1)], *self.rows]
        body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return f"{body}\n\n{self.caption}\n"


def accuracy_table(evaluations: Sequence[dict[str, Any]]) -> Table:
    """Accuracies in percent: `71.2` for one seed, `71.2 ± 1.3` for several.

    Args:
        evaluations: of any models and seeds, on one split and attribute. Rows keep the order in
            which models first appear.
    """
    names = list(dict.fromkeys(evaluation["model"] for evaluation in evaluations))
    groups = [group["name"] for group in evaluations[0]["groups"]]
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
        rows.append([name, *(percent(values) for values in columns)])
    return Table(["model", *AVERAGES, *groups], rows, _explanation(evaluations))


def _explanation(evaluations: Sequence[dict[str, Any]]) -> str:
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


def percent(values: Sequence[float | None]) -> str:
    """One cell: mean of what is there, in percent, and its standard deviation if it has one."""
    present = [100 * value for value in values if value is not None]
    if not present:
        return ABSENT
    if len(present) == 1:
        return f"{present[0]:.1f}"
    return f"{statistics.mean(present):.1f} ± {statistics.stdev(present):.1f}"
