"""A corpus: splits of labelled pairs, what was dropped from them, and their groups."""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, Features, Value, concatenate_datasets, load_dataset
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError

from dedier_laplace.config.data import Attribute, Data
from dedier_laplace.data.attributes import Groups, make_groups, negation_attribute
from dedier_laplace.data.files import Row, read_pairs, to_pairs
from dedier_laplace.data.generated import LABELS, Pair, PairGenerator
from dedier_laplace.errors import UserError

SPLITS = ("train", "validation", "test")
PAIR_FEATURES = Features(
    {
        "id": Value("int64"),
        "premise": Value("string"),
        "hypothesis": Value("string"),
        "label": Value("int64"),
        "problem": Value("string"),
    }
)
# Sagawa et al.'s preset: validation is dev_matched, test dev_mismatched.
HUB_SPLITS = {
    "train": ("train",),
    "validation": ("validation_matched", "validation"),
    "test": ("validation_mismatched", "test"),
}


@dataclass(frozen=True)
class Corpus:
    """Labelled pairs.

    Attributes:
        splits: train, validation, test; columns id (row in its source), premise, hypothesis, label.
        label_names: name of every label number.
        attributes: group attributes by name.
        dropped: rows dropped, by split and reason.
        notes: what was decided on the user's behalf, one sentence each.
    """

    splits: Mapping[str, Dataset]
    label_names: tuple[str, ...]
    attributes: Mapping[str, Attribute]
    dropped: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def groups(self, split: str, attribute: str) -> Groups:
        """Groups = label x attribute of a split."""
        return _groups(self.splits[split], self.attributes[attribute], self.label_names, attribute)


def load_corpus(data: Data, groups: str) -> Corpus:
    """Read the corpus a config describes.

    Args:
        data: the `data` block.
        groups: the attribute that carved splits are stratified by, beside the label.

    Raises:
        UserError: a file, column, label or split is missing or not as it should be.
    """
    if data.corpus == "generated":
        return _generated_corpus(data)
    raw = _read_files(data) if data.files else _read_hub(data)
    if data.split == "random":
        raw = _random_split(raw, data)
    splits, dropped, notes = {}, {}, []
    for name, rows in raw.items():
        splits[name], dropped[name] = _usable(rows)
        for reason, count in dropped[name].items():
            notes.append(f"{name}: {count} of {len(rows)} rows dropped: {reason}.")
    attribute = data.attributes[groups]
    for name in ("test", "validation"):
        if name not in splits:
            stratify = _groups(splits["train"], attribute, data.labels, groups).index
            splits["train"], splits[name] = _carve(splits["train"], stratify, data.carve, data.seed)
            notes.append(
                f"{name}: none given; {len(splits[name])} pairs carved from train "
                f"(seed {data.seed}, stratified by label and {groups})."
            )
    splits = {name: _sampled(splits[name], name, data) for name in SPLITS}
    for name, rows in splits.items():
        if not len(rows):
            raise UserError(f"The {name} split has no usable row; check data.files and its labels.")
    return Corpus(splits, tuple(data.labels), data.attributes, dropped, tuple(notes))


def unlabelled_pairs(data: Data) -> Dataset:
    """Generated pairs for pre-training, in which negation words say nothing of the label.

    Raises:
        UserError: the corpus is not generated.
    """
    if data.corpus != "generated":
        raise UserError(
            "model.pretraining needs data.corpus: generated; name a pre-trained model instead."
        )
    sizes = data.generated
    rate = (sizes.negation_rate + 2 * sizes.minority_rate) / 3
    return _unlabelled(data.seed + 1, sizes.unlabelled, rate)


@cache  # every model of a run that is pre-trained here reads the same pairs
def _unlabelled(seed: int, n: int, negation_rate: float) -> Dataset:
    pairs = PairGenerator(seed).natural(n, negation_rate, negation_rate)
    return _from_pairs(list(pairs), LABELS)


def _generated_corpus(data: Data) -> Corpus:
    if sorted(data.labels) != sorted(LABELS):
        raise UserError(f"data.labels of the generated corpus must be {', '.join(LABELS)}.")
    sizes = data.generated
    generator = PairGenerator(data.seed)
    pairs = {
        "test": generator.balanced(sizes.test_per_group),
        "validation": generator.balanced(sizes.validation_per_group),
        "train": list(generator.natural(sizes.train, sizes.negation_rate, sizes.minority_rate)),
    }
    splits = {name: _from_pairs(pairs[name], data.labels) for name in SPLITS}
    splits = {name: _sampled(splits[name], name, data) for name in SPLITS}
    return Corpus(splits, tuple(data.labels), data.attributes)


def _from_pairs(pairs: list[Pair], label_names: list[str] | tuple[str, ...]) -> Dataset:
    return Dataset.from_dict(
        {
            "id": list(range(len(pairs))),
            "premise": [pair.premise for pair in pairs],
            "hypothesis": [pair.hypothesis for pair in pairs],
            "label": [label_names.index(pair.label) for pair in pairs],
        }
    )


def _read_files(data: Data) -> dict[str, Dataset]:
    assert data.files is not None
    columns, labels = data.columns.model_dump(), data.labels
    splits = {}
    for name in SPLITS:
        path = getattr(data.files, name)
        if path is None:
            continue
        if not path.is_file():
            raise UserError(f"The data file {path} (data.files.{name}) does not exist.")
        key = f"{_sha256(path)} {path.suffix} {columns} {labels}"
        splits[name] = _cached(partial(read_pairs, path, columns, labels), key, str(path))
    return splits


def _read_hub(data: Data) -> dict[str, Dataset]:
    try:
        hub = load_dataset(data.hub_name)
    except (DatasetNotFoundError, DatasetGenerationError, OSError, ValueError) as error:
        raise UserError(
            f"The data set {data.hub_name!r} cannot be loaded ({_first_line(error)}); without a "
            "network, set data.files to local files or data.hub_name to a local folder."
        ) from error
    columns = data.columns.model_dump()
    splits = {}
    for name, candidates in HUB_SPLITS.items():
        found = next((candidate for candidate in candidates if candidate in hub), None)
        if found is None:
            continue
        rows = hub[found]
        key = f"{rows._fingerprint} {columns} {data.labels}"
        source = f"{data.hub_name} ({found})"
        named = _labels_by_name(rows, columns["label"])
        splits[name] = _cached(partial(to_pairs, named, columns, data.labels, source), key, source)
    if "train" not in splits:
        raise UserError(f"The data set {data.hub_name!r} has no split named train.")
    return splits


def _labels_by_name(rows: Dataset, names: list[str]) -> Iterator[dict[str, Any]]:
    """Rows whose ClassLabel numbers are replaced by their names."""
    column = next((name for name in names if name in rows.column_names), None)
    to_name = getattr(rows.features.get(column), "int2str", None)
    for row in rows:
        if to_name and row[column] is not None and row[column] >= 0:
            row = {**row, column: to_name(row[column])}
        yield row


def _cached(rows: Callable[[], Iterator[Row]], key: str, source: str) -> Dataset:
    """Rows as an Arrow file in the datasets cache, under a key of all that decides them."""
    fingerprint = hashlib.sha256(f"dedier-laplace pairs 1 {key}".encode()).hexdigest()[:32]

    def numbered() -> Iterator[Row]:
        number = -1
        for number, row in enumerate(rows()):
            yield {"id": number, **row}
        if number < 0:
            raise UserError(f"{source} has no rows.")

    try:
        return Dataset.from_generator(numbered, features=PAIR_FEATURES, fingerprint=fingerprint)
    except DatasetGenerationError as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from None
        raise


def _usable(rows: Dataset) -> tuple[Dataset, dict[str, int]]:
    problems = rows["problem"]
    keep = [number for number, problem in enumerate(problems) if not problem]
    dropped = Counter(problem for problem in problems if problem)
    return rows.select(keep).remove_columns("problem"), dict(dropped)


def _random_split(raw: Mapping[str, Dataset], data: Data) -> dict[str, Dataset]:
    """Sagawa et al.'s 50/20/30 split: metadata rows follow the labelled rows of the three files.

    Their script concatenates train, dev_matched, dev_mismatched and drops rows without a gold label
    (github.com/kohpangwei/group_DRO, dataset_scripts/generate_multinli.py); label 0 is
    contradiction, 1 entailment, 2 neutral; split 0 is train, 1 validation, 2 test.
    """
    if set(raw) != set(SPLITS) or data.files is None:
        raise UserError(
            "data.split: random needs all three of data.files: train, validation, test."
        )
    path = data.metadata if data.metadata.is_file() else data.files.train.parent / data.metadata
    try:
        with path.open(encoding="utf-8", newline="") as file:
            metadata = [(row["gold_label"], int(row["split"])) for row in csv.DictReader(file)]
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"data.metadata {path} cannot be read: {error}.") from error
    everything = concatenate_datasets([raw[name] for name in SPLITS])
    everything = everything.remove_columns("id").add_column("id", list(range(len(everything))))
    labels = np.array(everything["label"])
    labelled = np.flatnonzero(labels >= 0)
    theirs = {"contradiction": "0", "entailment": "1", "neutral": "2"}
    expected = [theirs.get(data.labels[label], "?") for label in labels[labelled]]
    if expected != [label for label, _ in metadata]:
        raise UserError(
            f"{path} does not fit data.files: its {len(metadata)} gold labels are not those of the "
            f"{len(labelled)} labelled rows of train, validation and test in that order."
        )
    split = np.array([number for _, number in metadata])
    return {name: everything.select(labelled[split == i]) for i, name in enumerate(SPLITS)}


def _groups(rows: Dataset, attribute: Attribute, labels: Any, name: str) -> Groups:
    values = negation_attribute(rows[attribute.column], attribute.words)
    return make_groups(rows["label"], values, labels, name)


def _carve(rows: Dataset, stratify: np.ndarray, share: float, seed: int) -> tuple[Dataset, Dataset]:
    """The rest, and a seeded share of every stratum."""
    rng = np.random.default_rng(seed)
    taken: list[int] = []
    for stratum in np.unique(stratify):
        members = np.flatnonzero(stratify == stratum)
        taken.extend(rng.permutation(members)[: round(share * len(members))])
    rest = np.setdiff1d(np.arange(len(rows)), taken)
    return rows.select(rest), rows.select(sorted(taken))


def _sampled(rows: Dataset, split: str, data: Data) -> Dataset:
    limit = getattr(data.sample, split)
    if limit is None or limit >= len(rows):
        return rows
    rng = np.random.default_rng([data.seed, SPLITS.index(split)])
    return rows.select(np.sort(rng.permutation(len(rows))[:limit]))


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"The data file {path} cannot be read: {error}.") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
