"""A corpus summary for the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table


def print_summary(summary: dict[str, Any], console: Console) -> None:
    """Print what `inspect_corpus` found.

    Args:
        summary: rows, groups, association and lengths per split.
        console: where to.
    """
    splits = summary["splits"]
    groups = Table(title=f"{summary['corpus']}: pairs by label and {summary['groups_by']}")
    groups.add_column("group")
    for split in splits:
        groups.add_column(split, justify="right")
    for rows in zip(*(split["groups"] for split in splits.values()), strict=True):
        cells = [f"{row['n']:,} ({100 * row['share']:.1f}%)" for row in rows]
        groups.add_row(rows[0]["name"], *cells)
    groups.add_section()
    groups.add_row("all", *(f"{split['n']:,}" for split in splits.values()))
    dropped = [sum(split["dropped"].values()) for split in splits.values()]
    groups.add_row("dropped", *(f"{count:,}" for count in dropped))
    console.print(groups)

    facts = Table(title=f"What {summary['groups_by']} tells of the label; lengths")
    facts.add_column("")
    for split in splits:
        facts.add_column(split, justify="right")
    for name, key, unit in (
        ("Cramer's V", "cramers_v", ""),
        ("mutual information", "mutual_information", " bit"),
        ("accuracy of guessing by attribute", "attribute_rule_accuracy", ""),
        ("accuracy of guessing the commonest label", "majority_accuracy", ""),
        (f"pairs longer than {summary['max_length']}", "truncated_share", ""),
    ):
        values = [split[key] for split in splits.values()]
        facts.add_row(name, *("-" if v is None else f"{v:.3f}{unit}" for v in values))
    for percentile in next(iter(splits.values()))["length"]:
        name = f"length in {summary['length_unit']}, {percentile}"
        facts.add_row(name, *(f"{split['length'][percentile]:.0f}" for split in splits.values()))
    console.print(facts)
    for note in summary["notes"]:
        console.print(f"Note: {note}", highlight=False)
    small = [
        f"{row['name']} ({split_name}: {row['n']})"
        for split_name, split in splits.items()
        for row in split["groups"]
        if row["n"] == 0
    ]
    if small:
        console.print(f"Warning: empty groups, whose accuracy will be absent: {', '.join(small)}.")
