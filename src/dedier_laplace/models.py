"""Teacher and student models: loading, label order, where their layers and heads are.

A model is anything `AutoModelForSequenceClassification` knows, saved as a Hugging Face folder.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from dedier_laplace.errors import UserError, nearest


def load_tokenizer(source: str | Path) -> PreTrainedTokenizerBase:
    """A tokenizer from the hub or a folder.

    Raises:
        UserError: there is none.
    """
    try:
        return AutoTokenizer.from_pretrained(str(source), trust_remote_code=False)
    except Exception as error:  # tokenizers raises bare Exceptions on a damaged file
        raise UserError(_cannot_load("tokenizer", source, error)) from error


def load_classifier(source: str | Path, label_names: Sequence[str]) -> PreTrainedModel:
    """A pre-trained encoder with a head for these labels, new where the checkpoint has none.

    Raises:
        UserError: it cannot be loaded from safetensors, or its head has another number of labels.
    """
    id2label = dict(enumerate(label_names))
    label2id = {name: number for number, name in id2label.items()}
    return _from_pretrained(source, id2label=id2label, label2id=label2id)[0]


def load_trained(folder: str | Path, device: torch.device | None = None) -> PreTrainedModel:
    """A trained classifier with the labels it was saved with, on a device (None: the CPU).

    Raises:
        UserError: the folder holds no model that can be loaded, or one without a classifier.
    """
    if not Path(folder).is_dir():
        raise UserError(
            f"The model folder {folder} does not exist; train it first or name another."
        )
    model, missing = _from_pretrained(folder)
    if missing:
        raise UserError(
            f"The model folder {folder} lacks {', '.join(sorted(missing))}: it holds an encoder "
            "without a trained classifier; fine-tune it first, for example by naming it as "
            "teacher.model."
        )
    return cast(PreTrainedModel, cast(nn.Module, model).to(device))


def _from_pretrained(source: str | Path, **labels: Any) -> tuple[PreTrainedModel, list[str]]:
    """The model, and the names of weights that the checkpoint has none for."""
    try:
        model, report = AutoModelForSequenceClassification.from_pretrained(
            str(source),
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
            **labels,
        )
        return model, list(report["missing_keys"])
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        raise UserError(_cannot_load("model", source, error)) from error


def _cannot_load(what: str, source: str | Path, error: Exception) -> str:
    first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    kind = "folder" if os.path.isdir(source) else "hub name or folder (is there a network?)"
    return f"No {what} can be loaded from the {kind} {str(source)!r}: {first.strip()}"


def classifier_from_config(
    fields: dict[str, Any], tokenizer: PreTrainedTokenizerBase, label_names: Sequence[str]
) -> PreTrainedModel:
    """An untrained classifier from a transformers config; vocabulary as the tokenizer's.

    Raises:
        UserError: the fields make no model.
    """
    config = model_config(
        fields,
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        id2label=dict(enumerate(label_names)),
        label2id={name: number for number, name in enumerate(label_names)},
    )
    return model_from_config(AutoModelForSequenceClassification, config)


def model_config(fields: Mapping[str, Any], **ours: Any) -> PreTrainedConfig:
    """The transformers config of a `model.config` block, its keys checked.

    Args:
        fields: `model_type` and fields of that type's config.
        ours: fields that follow from corpus and tokenizer.

    Raises:
        UserError: an unknown model type, key or value.
    """
    model_type = str(fields.get("model_type"))
    if model_type not in CONFIG_MAPPING:
        hint = nearest(model_type, CONFIG_MAPPING.keys())
        raise UserError(f"model.config.model_type is {model_type!r}; {hint}")
    try:
        default = CONFIG_MAPPING[model_type]()
        known = {*default.to_dict(), *default.attribute_map}
        unknown = next((key for key in fields if key not in known), None)
        if unknown is not None:
            raise UserError(f"Unknown key model.config.{unknown}; {nearest(unknown, known)}")
        return AutoConfig.for_model(**{**fields, **ours})
    except (ValueError, TypeError) as error:
        raise UserError(f"The model.config block makes no model: {error}") from error


def model_from_config(kind: Any, config: PreTrainedConfig) -> Any:
    """An untrained model of an Auto class.

    Raises:
        UserError: the config's values make no model.
    """
    try:
        return kind.from_config(config)
    except (ValueError, TypeError, KeyError, RuntimeError, ZeroDivisionError) as error:
        raise UserError(f"The model.config block makes no model: {error}") from error


def check_fit(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
    """Refuse a tokenizer or length that the model has no embeddings for.

    Raises:
        UserError: too many tokens, or too long pairs.
    """
    words = model.config.vocab_size
    if len(tokenizer) > words:
        raise UserError(
            f"The tokenizer has {len(tokenizer)} tokens, the model {words}: they do not belong "
            "together; set tokenizer to same or to the model's own."
        )
    positions = getattr(model.config, "max_position_embeddings", None) or max_length
    if max_length > positions:
        raise UserError(
            f"data.max_length is {max_length}, but the model reads {positions} tokens at most."
        )


def label_order(model: PreTrainedModel, label_names: Sequence[str], source: object) -> list[int]:
    """For each label of the corpus the model's number for it, by name.

    Raises:
        UserError: the two sets of labels differ.
    """
    numbers = {str(name).lower(): int(n) for n, name in (model.config.id2label or {}).items()}
    if sorted(numbers) != sorted(name.lower() for name in label_names):
        raise UserError(
            f"The model {source} knows the labels {', '.join(sorted(numbers))}, the corpus has "
            f"{', '.join(sorted(label_names))}; set id2label in the model's config.json or "
            "data.labels so that the names agree."
        )
    return [numbers[name.lower()] for name in label_names]


def accepted_inputs(model: PreTrainedModel) -> set[str]:
    """Names of the inputs of the model's forward pass."""
    return set(inspect.signature(model.forward).parameters)


def encoder_layers(model: PreTrainedModel) -> nn.ModuleList:
    """The encoder's blocks in order; their number is the model's depth.

    Raises:
        UserError: the model keeps its blocks in no single list.
    """
    depth = getattr(model.config, "num_hidden_layers", None)
    for module in model.base_model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth:
            return module
    raise UserError(f"{type(model).__name__} has no list of {depth} layers to read from.")


def chosen_layers(layers: Sequence[int] | Literal["all"], depth: int) -> list[int]:
    """The layers that `aux.layers` means on a student of this depth, in order.

    Raises:
        UserError: one is not among 1..depth.
    """
    if layers == "all":
        return list(range(1, depth + 1))
    beyond = next((layer for layer in layers if not 1 <= layer <= depth), None)
    if beyond is not None:
        raise UserError(
            f"aux.layers names layer {beyond}, but the student has {depth} layers: "
            f"choose from 1 to {depth}."
        )
    return list(layers)


def final_linear(model: PreTrainedModel) -> tuple[nn.Module, str]:
    """Where a classifier's last linear layer hangs: its parent module and its name there.

    Raises:
        UserError: the model ends in no linear layer of one output a label.
    """
    inside = {id(module) for module in model.base_model.modules()}
    names = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and module.out_features == model.config.num_labels
        and id(module) not in inside
    ]
    if not names:
        raise UserError(
            f"{type(model).__name__} has no linear layer that ends in its "
            f"{model.config.num_labels} labels, so its head cannot be reused."
        )
    parent, _, name = names[-1].rpartition(".")
    return model.get_submodule(parent), name
