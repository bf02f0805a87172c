"""What every block of the config is made of: the base class and the types its fields share."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

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
