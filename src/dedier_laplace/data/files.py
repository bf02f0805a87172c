"""Rows of local files and of hub data sets: texts as they are, labels by name."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from dedier_laplace.errors import UserError, nearest

UNLABELLED = ("-", "-1", "")
NO_GOLD_LABEL, EMPTY_TEXT = "no gold label", "empty text"

Row = dict[str, Any]


def read_pairs(
    path: Path, columns: Mapping[str, Sequence[str]], label_names: Sequence[str]
) -> Iterator[Row]:
    """Pairs of a .jsonl, .csv, .tsv/.txt or .parquet file.

    CSV is quoted as RFC 4180 says; TSV is not quoted at all, as MultiNLI's and GLUE's files are.

    Args:
        path: the file.
        columns: for premise, hypothesis and label the acceptable column names, best first.
        label_names: labels by number, for files that number them.

    Yields:
        premise, hypothesis (str), label (int, -1 where there is none), problem ("" or why the row
        cannot be used).

    Raises:
        UserError: the file cannot be read, lacks a column, or has an unknown label.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"{path}: the ending {path.suffix!r} is unknown; use {', '.join(READERS)}.")
    try:
        yield from to_pairs(reader(path), columns, label_names, str(path))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"The data file {path} cannot be read: {error}.") from error


def to_pairs(
    rows: Iterable[Mapping[str, Any]],
    columns: Mapping[str, Sequence[str]],
    label_names: Sequence[str],
    source: str,
) -> Iterator[Row]:
    """Rows with the wanted columns, under our names, labels as numbers."""
    numbers = _label_numbers(label_names)
    for number, row in enumerate(rows, start=1):
        if number == 1:
            names = {ours: _find_column(ours, columns[ours], row, source) for ours in columns}
        texts = [str(row.get(names[key]) or "") for key in ("premise", "hypothesis")]
        label_text = "" if row.get(names["label"]) is None else str(row[names["label"]])
        label = _label(label_text, numbers, label_names, f"{source}, row {number}")
        empty = not all(text.strip() for text in texts)
        problem = NO_GOLD_LABEL if label < 0 else EMPTY_TEXT if empty else ""
        yield {"premise": texts[0], "hypothesis": texts[1], "label": label, "problem": problem}


def _find_column(ours: str, names: Sequence[str], row: Mapping[str, Any], source: str) -> str:
    found = next((name for name in names if name in row), None)
    if found is None:
        raise UserError(
            f"{source} has no column {' or '.join(names)}; set data.columns.{ours} to one of: "
            f"{', '.join(map(str, row))}."
        )
    return found


def _label_numbers(label_names: Sequence[str]) -> dict[str, int]:
    by_name = {name.lower(): number for number, name in enumerate(label_names)}
    by_number = {str(number): number for number in range(len(label_names))}
    return dict.fromkeys(UNLABELLED, -1) | by_number | by_name


def _label(text: str, numbers: Mapping[str, int], label_names: Sequence[str], where: str) -> int:
    label = numbers.get(text.strip().lower())
    if label is None:
        raise UserError(
            f"{where}: the label {text!r} is none of data.labels; {nearest(text, label_names)}"
        )
    return label


def _json_lines(path: Path) -> Iterator[Mapping[str, Any]]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise UserError(f"{path}, line {number} is not JSON: {error}.") from error
            if not isinstance(row, dict):
                raise UserError(f"{path}, line {number} is not a JSON object.")
            yield row


def _delimited(
    make_reader: Callable[[TextIO], csv.DictReader[str]],
) -> Callable[[Path], Iterator[Mapping[str, Any]]]:
    def read(path: Path) -> Iterator[Mapping[str, Any]]:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for row in make_reader(file):
                row.pop(None, None)  # cells beyond the header
                yield row

    return read


def _parquet(path: Path) -> Iterator[Mapping[str, Any]]:
    import pyarrow
    from pyarrow import parquet

    try:
        for batch in parquet.ParquetFile(path).iter_batches():
            yield from batch.to_pylist()
    except pyarrow.ArrowException as error:
        raise UserError(f"{path} is not a Parquet file: {error}.") from error


_unquoted = _delimited(lambda file: csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
READERS: dict[str, Callable[[Path], Iterator[Mapping[str, Any]]]] = {
    ".jsonl": _json_lines,
    ".json": _json_lines,
    ".csv": _delimited(csv.DictReader),
    ".tsv": _unquoted,
    ".txt": _unquoted,
    ".parquet": _parquet,
}
