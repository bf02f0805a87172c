"""Reading a config: YAML, overrides, checks, and the one sentence a mistake gets."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeGuard, get_args, get_origin, get_type_hints

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError

from dedier_laplace.config.schema import Config
from dedier_laplace.errors import UserError, nearest

EMBEDDED_DEFAULT = "quickstart"

# Fields of TrainingArguments that something else of this package decides, and what does.
DECIDED_ELSEWHERE = {
    "output_dir": "--output",
    "seed": "the top-level key seed",
    "data_seed": "the top-level key seed",
    "use_cpu": "the top-level key device",
    "load_best_model_at_end": "select_by",
    "metric_for_best_model": "select_by",
    "greater_is_better": "select_by",
    "eval_strategy": "select_by, after every epoch",
    "save_strategy": "select_by, after every epoch",
    "disable_tqdm": "--quiet",
    "remove_unused_columns": "the methods, which need the sample index",
    "label_names": "the corpus",
    "label_smoothing_factor": "the method's own loss",
    "resume_from_checkpoint": "nothing yet",
    "do_train": "the command",
    "do_eval": "the command",
    "do_predict": "the command",
}


def load_config(path: str | Path | None = None, overrides: Iterable[str] = ()) -> Config:
    """Read a config file, apply `key.path=value` overrides, check everything.

    Args:
        path: a YAML file, or the name of a shipped config (`mnli`); None is the embedded default.
        overrides: values are YAML, so `aux.layers=[6]` and `weights.beta=2` mean what they say.

    Raises:
        UserError: the file cannot be read, or a key or value is not valid.
    """
    source = find_config(path if path is not None else EMBEDDED_DEFAULT)
    data = read_yaml(source)
    for override in overrides:
        key, value = parse_override(override)
        set_value(data, key, value)
    return check(data)


def with_overrides(config: Config, overrides: Mapping[str, Any]) -> Config:
    """A config with some nested values replaced; checked as one read from a file is."""
    data = config.model_dump(mode="json")
    return check(merged(data, overrides))


def find_config(path: str | Path) -> Path:
    """The file itself, or the shipped config of that name.

    Raises:
        UserError: there is neither.
    """
    if Path(path).is_file():
        return Path(path)
    shipped = {file.stem: file for file in sorted(shipped_folder().glob("*.yaml"))}
    if str(path) in shipped:
        return shipped[str(path)]
    raise UserError(
        f"The config file {path} does not exist; give a path, or a shipped config's name: "
        f"{', '.join(shipped)}."
    )


def shipped_folder() -> Path:
    """configs/: inside the package when installed from a wheel, beside src/ in a checkout."""
    packaged = Path(__file__).parents[1] / "configs"
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "configs"


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        UserError: it cannot be read, is not YAML, or is not a mapping.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"The config file {path} cannot be read: {error}.") from error
    except yaml.YAMLError as error:
        raise UserError(f"The config file {path} is not valid YAML: {_one_line(error)}.") from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise UserError(f"The config file {path} must hold `key: value` pairs.")
    return data


def parse_override(text: str) -> tuple[list[str], Any]:
    """`key.path=value` as its keys and its YAML value."""
    key, separator, value = text.partition("=")
    if not separator or not key.strip():
        raise UserError(f"--set {text!r} must read key.path=value, for example weights.beta=2.")
    try:
        return key.strip().split("."), yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise UserError(f"--set {text!r}: the value is not YAML: {_one_line(error)}.") from error


def set_value(data: dict[str, Any], keys: list[str], value: Any) -> None:
    """Put `value` at a key path, making the blocks on the way."""
    block = data
    for key in keys[:-1]:
        if not isinstance(block.get(key), dict):
            block[key] = {}
        block = block[key]
    block[keys[-1]] = value


def merged(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `overrides` laid over it, block by block."""
    result = dict(base)
    for key, value in overrides.items():
        below = result.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            result[key] = merged(below, value)
        else:
            result[key] = value
    return result


def check(data: Mapping[str, Any]) -> Config:
    """Validate a mapping, its TrainingArguments and every entry of `students`.

    Raises:
        UserError: the first thing that is wrong, in a sentence.
    """
    try:
        config = Config.model_validate(data)
    except ValidationError as error:
        raise UserError(_sentence(error)) from error
    for place in ("teacher", "student"):
        _check_training(getattr(config, place).training, f"{place}.training")
        model = getattr(config, place).model
        if not isinstance(model, str) and model.pretraining is not None:
            _check_training(model.pretraining, f"{place}.model.pretraining")
    for number, entry in enumerate(config.students):
        _check_student(config, entry.model_dump(exclude={"name"}), f"students[{number}]")
    return config


def _check_student(config: Config, overrides: dict[str, Any], place: str) -> None:
    alone = {**config.model_dump(mode="json"), "students": []}
    try:
        check(merged(alone, overrides))
    except UserError as error:
        raise UserError(f"In {place}: {error}") from error


def _check_training(training: Mapping[str, Any], place: str) -> None:
    """Check a `training:` block against transformers.TrainingArguments, name and type."""
    if not training:
        return
    hints = training_argument_types()
    for name, value in training.items():
        if name in DECIDED_ELSEWHERE:
            raise UserError(
                f"{place}.{name} cannot be set: it is decided by {DECIDED_ELSEWHERE[name]}."
            )
        if name not in hints:
            hint = nearest(name, hints)
            raise UserError(f"{place}.{name} is no field of TrainingArguments; {hint}")
        try:
            TypeAdapter(hints[name]).validate_python(value)
        except ValidationError as error:
            message = error.errors()[0]["msg"]
            raise UserError(f"{place}.{name} is {value!r}: {message}.") from error


@cache
def training_argument_types() -> dict[str, Any]:
    """Types of the fields of transformers.TrainingArguments."""
    from transformers import TrainingArguments

    hints = get_type_hints(TrainingArguments)
    return {field.name: hints[field.name] for field in dataclasses.fields(TrainingArguments)}


def training_values(training: Mapping[str, Any]) -> dict[str, Any]:
    """A `training:` block with values of the fields' own types (YAML reads 2e-5 as text)."""
    hints = training_argument_types() if training else {}
    return {
        name: TypeAdapter(hints[name]).validate_python(value) for name, value in training.items()
    }


def _sentence(error: ValidationError) -> str:
    """The first error of pydantic as: key, value, nearest valid choice."""
    first = error.errors()[0]
    tags = ("<", "[")  # of unions and of dictionaries' keys, in pydantic's path
    keys = [key for key in first["loc"] if not str(key).startswith(tags)]
    place = _path(keys)
    value = first["input"]
    if first["type"] == "extra_forbidden":
        return f"Unknown key {place}; {nearest(keys[-1], _fields_at(keys[:-1]))}"
    if first["type"] == "missing":
        return f"{place} is missing: {first['msg'].lower()}."
    if first["type"] == "literal_error":
        literals = [t for t in _unpacked(_annotation_at(keys)) if get_origin(t) is Literal]
        choices = [choice for literal in literals for choice in get_args(literal)]
        return f"{place} is {value!r}; {nearest(value, choices)}"
    message = first["msg"].removeprefix("Value error, ").removesuffix(".")
    if not keys:
        return f"{message}."
    nearest_valid = _nearest_bound(first.get("ctx", {}))
    return f"{place} is {value!r}: {message[0].lower()}{message[1:]}{nearest_valid}."


def _nearest_bound(context: Mapping[str, Any]) -> str:
    for bound in ("ge", "le"):
        if bound in context:
            return f"; the nearest valid value is {context[bound]}"
    return ""


def _path(keys: Iterable[int | str]) -> str:
    """`students[0].name` for the keys of a nested value."""
    text = ""
    for key in keys:
        text += f"[{key}]" if isinstance(key, int) else f".{key}"
    return text.lstrip(".") or "the config"


def _fields_at(keys: Iterable[int | str]) -> list[str]:
    """Names of the fields of the block at a key path."""
    block = _annotation_at(keys)
    return list(block.model_fields) if _is_block(block) else []


def _annotation_at(keys: Iterable[int | str]) -> Any:
    """The type the schema gives the value at a key path."""
    annotation: Any = Config
    for key in keys:
        blocks = [arg for arg in _unpacked(annotation) if _is_block(arg)]
        fields = {k: v for block in blocks for k, v in block.model_fields.items()}
        if isinstance(key, str) and key in fields:
            annotation = fields[key].annotation
    return next((arg for arg in _unpacked(annotation) if _is_block(arg)), annotation)


def _unpacked(annotation: Any) -> list[Any]:
    """A type and, for lists, dicts and unions, the types inside."""
    inside = [part for arg in get_args(annotation) for part in _unpacked(arg)]
    return [annotation, *inside]


def _is_block(annotation: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
