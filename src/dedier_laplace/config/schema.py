"""The vocabulary of a config: names, defaults, bounds, one line of help for every field.

Defaults are the published setting (arXiv 2505.01070, and DeDiER, 2310.18590, where the former is
silent); docs/paper_index.md tells for each which source it comes from, or that it is ours.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from dedier_laplace.config.data import Data
from dedier_laplace.config.readout import Aux, Weights
from dedier_laplace.config.section import Count, SafeName, Section, SelectBy, Share, TrainingFields


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


ModelSource = Annotated[
    Annotated[str, Field(min_length=1), Tag("<hub or folder>")]
    | Annotated[ScratchModel, Tag("<config block>")],
    Discriminator(
        lambda value: (
            "<config block>" if isinstance(value, dict | ScratchModel) else "<hub or folder>"
        )
    ),
]


class Teacher(Section):
    """Fine-tuning the teacher."""

    model: ModelSource = Field(
        "bert-base-uncased", description="hub name, folder, or a config block (from scratch)"
    )
    tokenizer: str = Field("same", description="hub name or folder; same: the model's own")
    fine_tune: bool = Field(True, description="false: model is trained already, used as it is")
    select_by: SelectBy = Field("accuracy", description="validation metric of the epoch kept")
    training: TrainingFields = Field(
        {
            "num_train_epochs": 3,
            "learning_rate": 2e-5,
            "per_device_train_batch_size": 16,
        }
    )


class Jtt(Section):
    """JTT's error set: samples that a student trained briefly by ERM gets wrong (jtt, dett)."""

    identification_epochs: Count = Field(
        2, description="T: epochs after which the identification model is stopped"
    )
    upweight: float = Field(
        5.0, ge=1, le=1000, description="weight of the error set, 1 for every other sample"
    )
    distil: bool = Field(False, description="jtt: also weigh and add the teacher's KD term")


class GroupDro(Section):
    """Group DRO: the groups of eval.groups, weighted by how badly they do."""

    eta: float = Field(0.01, ge=0, le=10, description="step size of the group weights q")
    adjustment: float = Field(
        0.0, ge=0, description="C of the generalization adjustment C / sqrt(n_g)"
    )
    distil: bool = Field(False, description="losses of the groups include the teacher's KD term")


class Student(Section):
    """Training the student."""

    model: ModelSource = Field(
        "distilbert-base-uncased", description="hub name, folder, or a config block (from scratch)"
    )
    tokenizer: str = Field("same", description="hub name or folder; same: the model's own")
    method: str = Field(
        "laplace",
        description="training method: erm, kd, dedier, laplace, jtt, group_dro, simkd, dett; "
        "controls: shuffled, uniform",
    )
    temperature: float = Field(2.0, gt=0, description="T of teacher and student in the KD term")
    kd_weight: Share = Field(0.5, description="lambda: (1 - lambda) * CE + lambda * T^2 * KL")
    sampling: Literal["random", "group_balanced"] = Field(
        "random",
        description="group_balanced: every group of eval.groups equally often, drawn anew",
    )
    jtt: Jtt = Field(default=Jtt(), description="method: jtt or dett")
    group_dro: GroupDro = Field(default=GroupDro(), description="method: group_dro")
    select_by: SelectBy = Field("last", description="validation metric of the epoch kept")
    training: TrainingFields = Field(
        {
            "num_train_epochs": 5,
            "learning_rate": 2e-5,
            "per_device_train_batch_size": 16,
        }
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
