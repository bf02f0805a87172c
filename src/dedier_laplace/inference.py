"""Forward passes over a whole split: logits, states of early layers, inputs of the last layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn
from tqdm.auto import tqdm
from transformers import DataCollatorWithPadding, PreTrainedModel, PreTrainedTokenizerBase

from dedier_laplace.data.tokens import INDEX, LABELS, lengths
from dedier_laplace.errors import UserError
from dedier_laplace.models import encoder_layers, final_linear


def classify(
    model: PreTrainedModel, tokenized: Dataset, tokenizer: PreTrainedTokenizerBase, batch_size: int
) -> Tensor:
    """Logits [N, C] of every sample, float32 on the CPU."""
    return _forward(model, tokenized, tokenizer, batch_size, lambda x: model(**x).logits, "logits")


def readout_features(
    model: PreTrainedModel,
    tokenized: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    batch_size: int,
    layers: Sequence[int],
    pooling: str,
) -> dict[int, Tensor]:
    """Pooled hidden states [N, D] by layer, float32 on the CPU; one pass, to the highest layer."""

    def features(inputs: dict[str, Tensor]) -> Tensor:
        states = hidden_states(model, inputs, layers)
        pooled = [pool(states[layer], inputs["attention_mask"], pooling) for layer in layers]
        return torch.stack(pooled)

    description = f"layer {', '.join(map(str, layers))}"
    stacked = _forward(model, tokenized, tokenizer, batch_size, features, description, axis=1)
    return dict(zip(layers, stacked, strict=True))


def classifier_features(
    model: PreTrainedModel, tokenized: Dataset, tokenizer: PreTrainedTokenizerBase, batch_size: int
) -> Tensor:
    """What the last linear layer reads of every sample, [N, D], float32 on the CPU."""

    def features(inputs: dict[str, Tensor]) -> Tensor:
        with classifier_input(model) as seen:
            model(**inputs)
        return seen[0]

    return _forward(model, tokenized, tokenizer, batch_size, features, "last layer")


@contextmanager
def classifier_input(model: PreTrainedModel) -> Iterator[list[Tensor]]:
    """A list that gets the input [B, D] of the last linear layer at every forward pass inside."""
    parent, name = final_linear(model)
    seen: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Tensor]) -> None:
        if inputs[0].ndim != 2:
            raise UserError(
                f"{type(model).__name__} classifies every token, so it has no features of a whole "
                "pair; methods that reuse the teacher's head need an encoder."
            )
        seen.append(inputs[0])

    handle = getattr(parent, name).register_forward_pre_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()


class _Reached(Exception):
    """Ends a forward pass that needs to go no further."""


def hidden_states(
    model: PreTrainedModel, inputs: dict[str, Tensor], layers: Sequence[int]
) -> dict[int, Tensor]:
    """Outputs of blocks (1 = the first), computing nothing behind the highest.

    Each equals `hidden_states[layer]` of a full pass (behind the last block some decoders
    normalise once more; here that is left out).

    Args:
        inputs: input ids and what else the model accepts, each [B, L].
        layers: of 1..depth.

    Returns:
        [B, L, D] by layer.
    """
    states: dict[int, Tensor] = {}

    def keep(layer: int) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            states[layer] = output if isinstance(output, Tensor) else output[0]
            if layer == max(layers):
                raise _Reached

        return hook

    blocks = encoder_layers(model)
    handles = [blocks[layer - 1].register_forward_hook(keep(layer)) for layer in layers]
    try:
        model.base_model(**inputs)
    except _Reached:
        return states
    finally:
        for handle in handles:
            handle.remove()
    raise UserError(
        f"{type(model).__name__} cannot be read from: its forward pass runs its layers in another "
        "way; use a method without a readout, or another encoder."
    )


def pool(state: Tensor, attention_mask: Tensor, pooling: str) -> Tensor:
    """One vector a sample: the first token's, or the mean over tokens that are not padding.

    Args:
        state: [B, L, D].
        attention_mask: [B, L], 1 where there is a token.
        pooling: `first` or `mean`.

    Returns:
        [B, D].
    """
    if pooling == "first":
        return state[:, 0]
    mask = attention_mask.unsqueeze(-1).to(state.dtype)
    return (state * mask).sum(1) / mask.sum(1)


@torch.no_grad()
def _forward(
    model: PreTrainedModel,
    tokenized: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    batch_size: int,
    function: Callable[[dict[str, Tensor]], Tensor],
    description: str,
    axis: int = 0,
) -> Tensor:
    """`function` of every sample in evaluation mode, batched by length: little is padding.

    Args:
        axis: of its result that counts the samples.
    """
    was_training = model.training
    model.eval()
    collate = DataCollatorWithPadding(tokenizer)
    sizes = torch.tensor(lengths(tokenized))
    order = sizes.argsort(descending=True, stable=True)
    inputs_only = tokenized.remove_columns([INDEX, LABELS])
    everything: Tensor | None = None
    for batch in tqdm(order.split(batch_size), desc=description, leave=False):
        rows = inputs_only[batch.tolist()]
        samples = [dict(zip(rows, row, strict=True)) for row in zip(*rows.values(), strict=True)]
        padded = collate(samples)
        on_device = {name: tensor.to(model.device) for name, tensor in padded.items()}
        result = function(on_device).float().cpu()
        if everything is None:
            shape = list(result.shape)
            shape[axis] = len(order)
            everything = torch.empty(shape)
        everything.index_copy_(axis, batch, result)
    model.train(was_training)
    assert everything is not None
    return everything
