"""Explaining a config: every resolved value with its help, and the JSON schema."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import yaml
from pydantic import BaseModel

from dedier_laplace.config.schema import Config


def explained(config: Config) -> str:
    """The resolved config as YAML, each field's help as a comment beside it."""
    return "\n".join(_lines(config, indent=0)) + "\n"


def resolved(config: Config) -> str:
    """The resolved config as plain YAML, readable by `--config`."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def json_schema() -> str:
    """The JSON schema of a config file, for editors."""
    return json.dumps(Config.model_json_schema(), indent=2) + "\n"


def _lines(block: BaseModel, indent: int) -> Iterator[str]:
    margin = "  " * indent
    for name, field in type(block).model_fields.items():
        value = getattr(block, name)
        comment = f"  # {field.description}" if field.description else ""
        if isinstance(value, BaseModel):
            yield f"{margin}{name}:{comment}"
            yield from _lines(value, indent + 1)
        else:
            yield f"{margin}{name}: {_flow(value)}{comment}"


def _flow(value: Any) -> str:
    """A value on one line of YAML."""
    plain = json.loads(json.dumps(value, default=_plain))
    text = yaml.safe_dump(plain, default_flow_style=True, width=10**6, allow_unicode=True)
    return text.removesuffix("...\n").strip()


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else str(value)
