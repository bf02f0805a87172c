"""The vocabulary of a config: names, defaults, bounds, one line of help for every field.

Defaults are the published setting (arXiv 2505.01070, and DeDiER, 2310.18590, where the former is
silent); docs/paper_index.md tells for each which source it comes from, or that it is ours.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    model_validator,
)

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
SafeName = Annotated[str, Field(pattern=NAME_PATTERN)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
TrainingFields = Annotated[
    dict[str, Any],
    Field(description="any field of transformers.TrainingArguments, checked by name and type"),
]
SelectBy = Literal["accuracy", "worst_group_accuracy", "group_mean_accuracy", "last"]


class Section(BaseModel):
    """A block of the config: unknown keys are refused, values are fixed once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


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


class ScratchModel(Section):
    """A model trained from scratch: a transformers config, and how it is pre-trained."""

    config: dict[str, Any] = Field(
        description="model_type and any field of its transformers config"
    )
    pretraining: TrainingFields | None = Field(
        None,
        description="TrainingArguments of a masked-language-model pre-training on unlabelled "
        "pairs (generated corpus only); null: none",
    )
    mlm_probability: float = Field(
        0.15, gt=0, lt=1, description="pretraining: share of tokens masked"
    )
    pretraining_seed: int = Field(0, ge=0, description="one backbone serves all seeds, as on a hub")


HUB_OR_FOLDER, CONFIG_BLOCK = "<hub or folder>", "<config block>"


def _kind_of_model(value: object) -> str:
    return CONFIG_BLOCK if isinstance(value, dict | ScratchModel) else HUB_OR_FOLDER


ModelSource = Annotated[
    Annotated[str, Field(min_length=1), Tag(HUB_OR_FOLDER)]
    | Annotated[ScratchModel, Tag(CONFIG_BLOCK)],
    Discriminator(_kind_of_model),
]


class Teacher(Section):
    """Fine-tuning the teacher."""

    model: ModelSource = Field(
        "bert-base-uncased", description="hub name, folder, or a config block (from scratch)"
    )
    tokenizer: str = Field("same", description="hub name or folder; same: the model's own")
    fine_tune: bool = Field(True, description="false: model is trained already, used as it is")
    select_by: SelectBy = Field("accuracy", description="validation metric of the epoch kept")
    training: TrainingFields = {
        "num_train_epochs": 3,
        "learning_rate": 2e-5,
        "per_device_train_batch_size": 16,
    }


class Student(Section):
    """Training the student."""

    model: ModelSource = Field(
        "distilbert-base-uncased", description="hub name, folder, or a config block (from scratch)"
    )
    tokenizer: str = Field("same", description="hub name or folder; same: the model's own")
    method: str = Field("laplace", description="training method: erm, kd, dedier, laplace")
    temperature: float = Field(2.0, gt=0, description="T of teacher and student in the KD term")
    kd_weight: Share = Field(0.5, description="lambda: (1 - lambda) * CE + lambda * T^2 * KL")
    select_by: SelectBy = Field("last", description="validation metric of the epoch kept")
    training: TrainingFields = {
        "num_train_epochs": 5,
        "learning_rate": 2e-5,
        "per_device_train_batch_size": 16,
    }


def _prior_precision(value: object) -> object:
    if value == "marglik":
        return value
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise ValueError("must be a number above 0, or 'marglik'") from None
    if not 0 < number < float("inf"):
        raise ValueError("must be a number above 0, or 'marglik'")
    return number


class Laplace(Section):
    """The Laplace approximation on the readout."""

    hessian: Literal["kron", "full"] = Field("kron", description="structure of the GGN")
    prior_precision: Annotated[float | Literal["marglik"], BeforeValidator(_prior_precision)] = (
        Field(
            "marglik",
            description="Gaussian prior on all readout weights, also the MAP's weight decay; "
            "marglik: by marginal likelihood",
        )
    )
    link: Literal["mc", "probit", "map"] = Field(
        "mc", description="predictive: Monte Carlo, centred probit, or the MAP softmax"
    )
    n_samples: Count = Field(100, description="link: mc; draws per sample, in logit space")


class Aux(Section):
    """The readout (auxiliary head) on an early layer of the student."""

    layers: list[Annotated[int, Field(ge=1)]] = Field(
        [3], min_length=1, max_length=1, description="1 = output of the first block"
    )
    pooling: Literal["first", "mean"] = Field("first", description="first token, or masked mean")
    every_n_epochs: Count = Field(1, description="refit after every n-th epoch")
    start_epoch: Count = Field(1, description="the first epoch after which it is fitted")
    laplace: Laplace = Field(default=Laplace(), description="its posterior")


class Weights(Section):
    """Per-sample weights wt = exp(beta * cm^alpha)."""

    signal: Literal["margin"] = Field("margin", description="difficulty: cm = p_max - p_second")
    alpha: float = Field(0.2, ge=0, description="exponent of the margin")
    beta: float = Field(3.0, ge=0, le=50, description="scale; 0 switches weighting off")
    reweight_on: Literal["wrong", "all"] = Field(
        "wrong", description="weights on samples the readout gets wrong, or on all"
    )
    reweight_terms: list[Literal["ce", "kd"]] = Field(
        ["ce", "kd"], min_length=1, description="loss terms that are weighted"
    )
    normalize: Literal["none", "mean"] = Field(
        "none", description="mean: weights divided by their mean over the training set"
    )


class Evaluation(Section):
    """Evaluating per group."""

    groups: str = Field("negation", description="attribute that makes the groups")
    split: Literal["validation", "test"] = Field("test", description="split evaluated")
    batch_size: Count = Field(64, description="pairs a forward pass")


class StudentRun(Section):
    """One student of `dedier run`: overrides of the blocks above."""

    name: SafeName | None = Field(None, description="folder name; null: method and layer")
    student: dict[str, Any] = Field({}, description="overrides of student")
    aux: dict[str, Any] = Field({}, description="overrides of aux")
    weights: dict[str, Any] = Field({}, description="overrides of weights")


def _unique(seeds: list[int]) -> list[int]:
    if len(set(seeds)) < len(seeds):
        raise ValueError("must not name a seed twice")
    return seeds


class Config(Section):
    """Everything a run is made of."""

    seed: int = Field(0, ge=0, lt=2**32, description="initialisation, order of batches, draws")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="where it runs")
    data: Data = Field(default=Data(), description="the corpus")
    teacher: Teacher = Field(default=Teacher(), description="the teacher")
    student: Student = Field(default=Student(), description="the student")
    aux: Aux = Field(default=Aux(), description="the readout")
    weights: Weights = Field(default=Weights(), description="the sample weights")
    eval: Evaluation = Field(default=Evaluation(), description="the evaluation")
    students: list[StudentRun] = Field(
        [
            StudentRun(name=None, student={"method": method}, aux={}, weights={})
            for method in ("erm", "kd", "dedier", "laplace")
        ],
        description="`dedier run`: the students, each overrides of student, aux, weights",
    )
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**32)]], AfterValidator(_unique)] = Field(
        [0], min_length=1, description="`dedier run`: the seeds; not given: seed alone"
    )

    @model_validator(mode="before")
    @classmethod
    def _own_seed_alone(cls, data: Any) -> Any:
        if isinstance(data, dict) and "seeds" not in data and "seed" in data:
            return {**data, "seeds": [data["seed"]]}
        return data

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        if self.eval.groups not in self.data.attributes:
            raise ValueError(
                f"eval.groups is {self.eval.groups!r}, which is none of data.attributes: "
                f"{', '.join(self.data.attributes)}"
            )
        if self.data.corpus == "generated" and self.data.files is not None:
            raise ValueError(
                "data.files is given but data.corpus is 'generated', which reads no files; set "
                "data.corpus to 'files' or 'multinli'"
            )
        if self.data.corpus == "files" and self.data.files is None:
            raise ValueError("data.corpus is 'files', so data.files.train must name a file")
        if self.data.split == "random" and self.data.files is None:
            raise ValueError("data.split: random needs data.files with all three official files")
        return self
