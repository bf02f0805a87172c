"""The distillation trainer: the method's loss every step, new readout and weights every epoch."""

from __future__ import annotations

from contextlib import nullcontext
from math import ceil
from typing import Any, Literal

import torch
from datasets import Dataset
from torch import Tensor
from torch.utils.data import Sampler, WeightedRandomSampler
from transformers import TrainerCallback

from dedier_laplace.data.attributes import Groups
from dedier_laplace.data.tokens import INDEX, LABELS
from dedier_laplace.distillation.methods import Batch, Method
from dedier_laplace.distillation.reweighting import Reweighting
from dedier_laplace.distillation.weights import describe_weights
from dedier_laplace.errors import UserError
from dedier_laplace.inference import classifier_input, readout_features
from dedier_laplace.models import chosen_layers, encoder_layers
from dedier_laplace.readout.exits import Features
from dedier_laplace.training import EpochTrainer


class DistillationTrainer(EpochTrainer):
    """Trains a student by a method's loss.

    Args:
        method: the loss.
        prepared: what the method prepared: [N, ...] tensors by field of `Batch`.
        groups: of the training set.
        sampling: `random`, or `group_balanced`: groups equally often, with replacement.
        reweighting: makes weights after epochs; None: those that were prepared, or ones, stay.
    """

    def __init__(
        self,
        *args: Any,
        method: Method,
        prepared: dict[str, Tensor],
        groups: Groups,
        sampling: Literal["random", "group_balanced"],
        reweighting: Reweighting | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.method, self.reweighting = method, reweighting
        self.groups, self.sampling = groups, sampling
        every_batch = {
            "weights": torch.ones(len(groups.index)),
            "groups": torch.as_tensor(groups.index),
            **prepared,
        }
        self.per_sample = {name: rows.to(self.args.device) for name, rows in every_batch.items()}
        self.compares_features = "teacher_features" in prepared
        self._extras: dict[str, Any] = {}
        if "weights" in prepared:
            weights = prepared["weights"]
            heavier = weights > weights.min()
            self._extras["weights"] = describe_weights(weights, heavier, groups)
        if sampling != "random" and self.args.train_sampling_strategy != "random":
            raise UserError(
                f"student.sampling is {sampling}, so student.training.train_sampling_strategy "
                f"cannot be {self.args.train_sampling_strategy}; leave one of them at random."
            )
        if reweighting is not None:
            self.add_callback(_Refitting(self, reweighting))

    @property
    def sample_weights(self) -> Tensor:
        """[N], those that the next batch is weighted with."""
        return self.per_sample["weights"]

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        inputs = dict(inputs)
        labels, index = inputs.pop(LABELS), inputs.pop(INDEX)
        with classifier_input(self.classifier) if self.compares_features else nullcontext() as seen:
            outputs = model(**inputs)
        batch = Batch(
            student_logits=outputs.logits,
            labels=labels,
            student_features=seen[0] if seen else None,
            **{name: rows[index] for name, rows in self.per_sample.items()},
        )
        loss = self.method.loss(batch)
        return (loss, outputs) if return_outputs else loss

    def epoch_extras(self) -> dict[str, Any]:
        extras, self._extras = self._extras, {}
        return extras

    def refit(self, epoch: int) -> None:
        """A new readout on the student as it is now, and new weights from it."""
        assert self.reweighting is not None
        train, validation = self._features(self.train_split), self._features(self.validation)
        weights, self._extras = self.reweighting.refit(train, validation, epoch)
        self.per_sample["weights"] = weights.to(self.args.device)

    def _features(self, split: Dataset) -> Features:
        assert self.reweighting is not None
        aux = self.reweighting.aux
        return readout_features(
            self.classifier,
            split,
            self.tokenizer,
            self.args.per_device_eval_batch_size,
            chosen_layers(aux.layers, len(encoder_layers(self.classifier))),
            aux.pooling,
        )

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int] | None:
        if self.sampling == "random":
            return super()._get_train_sampler(train_dataset)
        rates = 1 / torch.as_tensor(self.groups.sizes)[self.groups.index]
        generator = torch.Generator().manual_seed(self.args.seed)
        return WeightedRandomSampler(rates.tolist(), len(rates), generator=generator)


class _Refitting(TrainerCallback):
    """Refits the readout at the end of the epochs that the config names."""

    def __init__(self, trainer: DistillationTrainer, reweighting: Reweighting) -> None:
        self.trainer, self.reweighting = trainer, reweighting

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        epoch = ceil(state.epoch)
        if self.reweighting.due(epoch):
            with torch.random.fork_rng():  # training draws the same numbers with and without us
                self.trainer.refit(epoch)
