"""The `data` block: where rows come from, which columns are text and label, which groups exist."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from dedier_laplace.config.section import Count, SafeName, Section, Share


def _unquoted_no(words: object) -> object:
    """YAML 1.1 reads an unquoted `no` as false; in a list of words it can only mean the word."""
    return ["no" if word is False else word for word in words] if isinstance(words, list) else words


class Attribute(Section):
    """A yes/no property of a text column; groups are label x attribute."""

    column: Literal["premise", "hypothesis"] = Field(
        "hypothesis", description="text column that is searched"
    )
    words: Annotated[list[str], BeforeValidator(_unquoted_no)] = Field(
        min_length=1,
        description="1 where any of these is a token (punctuation stripped, lower case)",
    )


class Files(Section):
    """Local files, one a split: .jsonl, .csv, .tsv/.txt or .parquet, told by their ending."""

    train: Path = Field(description="training pairs")
    validation: Path | None = Field(None, description="validation pairs; null: carved from train")
    test: Path | None = Field(None, description="test pairs; null: carved from train")


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


ColumnNames = Annotated[list[str], BeforeValidator(_as_list), Field(min_length=1)]


class Columns(Section):
    """Column names in the files; the first of a list that a file has is taken."""

    premise: ColumnNames = Field(["premise", "sentence1"], description="first text")
    hypothesis: ColumnNames = Field(["hypothesis", "sentence2"], description="second text")
    label: ColumnNames = Field(["gold_label", "label"], description="label name or number")


class Sample(Section):
    """Upper bounds on rows a split, for quick trials: a seeded random sample, null for all."""

    train: Count | None = Field(None, description="training rows at most")
    validation: Count | None = Field(None, description="validation rows at most")
    test: Count | None = Field(None, description="test rows at most")


class Generated(Section):
    """The generated corpus: a controlled testbed whose labels follow from slot relations."""

    train: Count = Field(4000, description="training pairs, in natural proportions")
    validation_per_group: Count = Field(200, description="validation pairs of each group")
    test_per_group: Count = Field(500, description="test pairs of each group")
    unlabelled: Count = Field(8000, description="pairs for masked-language-model pre-training")
    negation_rate: Share = Field(0.5, description="P(negation words | contradiction)")
    minority_rate: Share = Field(0.02, description="P(negation words | entailment or neutral)")


class Data(Section):
    """The corpus: where rows come from, which columns are text and label, which groups it has."""

    corpus: Literal["multinli", "generated", "files"] = Field(
        "multinli", description="MultiNLI (hub, or files if given), generated pairs, own files"
    )
    hub_name: str = Field(
        "nyu-mll/multi_nli", description="multinli without files: data set name or folder"
    )
    files: Files | None = Field(None, description="local files, one a split")
    columns: Columns = Field(Columns(), description="column names in the files")
    labels: list[str] = Field(
        ["entailment", "neutral", "contradiction"],
        min_length=2,
        description="label names; their order is the models' numbering and that of numeric labels",
    )
    split: Literal["official", "random"] = Field(
        "official",
        description="official: as the files say; random: Sagawa et al.'s split of all three files",
    )
    metadata: Path = Field(
        Path("metadata_random.csv"),
        description="split: random; a path, or a name beside files.train",
    )
    carve: float = Field(
        0.1, gt=0, lt=0.5, description="share of train that a missing split is carved from"
    )
    sample: Sample = Field(default=Sample(), description="upper bounds on rows")
    seed: int = Field(0, ge=0, description="generating, carving, sampling; the same for all seeds")
    max_length: int = Field(128, ge=8, description="tokens of a pair, the rest is truncated")
    attributes: dict[SafeName, Attribute] = Field(
        {"negation": Attribute(column="hypothesis", words=["nobody", "no", "never", "nothing"])},
        description="attributes that make groups, by name",
    )
    generated: Generated = Field(
        default=Generated(), description="corpus: generated; its sizes and rates"
    )
