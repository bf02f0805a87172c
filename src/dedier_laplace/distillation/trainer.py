"""The distillation trainer: the method's loss every step, new readout and weights every epoch."""

from __future__ import annotations

from math import ceil
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import TrainerCallback

from dedier_laplace.config.readout import Aux, Weights
from dedier_laplace.data.attributes import Groups
from dedier_laplace.data.tokens import INDEX, LABELS
from dedier_laplace.distillation.methods import Batch, Method
from dedier_laplace.distillation.weights import describe_weights, sample_weights, weight_shift
from dedier_laplace.errors import UserError
from dedier_laplace.models import readout_features
from dedier_laplace.readout.laplace import LaplaceReadout
from dedier_laplace.readout.scores import readout_scores
from dedier_laplace.training import EpochTrainer


class DistillationTrainer(EpochTrainer):
    """Trains a student by a method's loss.

    Args:
        method: loss and weights.
        teacher_logits: [N, C] over the training set, in the student's label order; None if the
            method needs none.
        aux, weights: how readout and weights are made.
        groups: of the training set, for the record.
    """

    def __init__(
        self,
        *args: Any,
        method: Method,
        teacher_logits: Tensor | None,
        aux: Aux,
        weights: Weights,
        groups: Groups,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.method, self.aux, self.weighting, self.groups = method, aux, weights, groups
        device = self.args.device
        self._teacher_logits = None if teacher_logits is None else teacher_logits.to(device)
        self._train_labels = torch.tensor(self.train_split[LABELS])
        self.sample_weights = torch.ones(len(self._train_labels), device=device)
        self.readout: LaplaceReadout | None = None
        self.readout_epoch = 0
        self._extras: dict[str, Any] = {}
        if method.predictive is not None:
            self.add_callback(_Reweighting(self))

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        inputs = dict(inputs)
        labels, index = inputs.pop(LABELS), inputs.pop(INDEX)
        outputs = model(**inputs)
        batch = Batch(
            student_logits=outputs.logits,
            labels=labels,
            weights=self.sample_weights[index],
            teacher_logits=None if self._teacher_logits is None else self._teacher_logits[index],
        )
        loss = self.method.loss(batch)
        return (loss, outputs) if return_outputs else loss

    def epoch_extras(self) -> dict[str, Any]:
        extras, self._extras = self._extras, {}
        return extras

    def refit(self, epoch: int) -> None:
        """A new readout on frozen features of the whole training set, new weights from nothing."""
        features, labels = self._features(self.train_split), self._train_labels
        if not features.isfinite().all():
            raise UserError(
                f"The student's features are not finite after epoch {epoch}: training diverged; "
                "lower student.training.learning_rate or weights.beta."
            )
        self.readout_epoch = epoch
        laplace = self.aux.laplace
        self.readout = LaplaceReadout().fit(
            features,
            labels,
            prior_precision=laplace.prior_precision,
            hessian=laplace.hessian,
            n_classes=len(self.groups.labels) // 2,
        )
        predictives = self._predictives(features, epoch)
        weights = {kind: self._weigh(predictives[kind], labels) for kind in predictives}
        assert self.method.predictive is not None
        chosen = predictives[self.method.predictive]
        reweighted = (chosen.argmax(1) != labels) | (self.weighting.reweight_on == "all")
        self.sample_weights = weights[self.method.predictive].to(self.args.device)
        validation = self._predictives(self._features(self.validation), epoch)
        validation_labels = torch.tensor(self.validation[LABELS])
        self._extras = {
            "readout": {
                "layer": self.aux.layers[0],
                "prior_precision": self.readout.prior_precision,
                "validation": {
                    kind: readout_scores(probabilities, validation_labels)
                    for kind, probabilities in validation.items()
                },
            },
            "weights": describe_weights(self.sample_weights.cpu(), reweighted, self.groups),
            "laplace_against_map": weight_shift(weights["laplace"], weights["map"]),
        }

    def _features(self, split: Dataset) -> Tensor:
        return readout_features(
            self.classifier,
            split,
            self.tokenizer,
            self.args.per_device_eval_batch_size,
            self.aux.layers[0],
            self.aux.pooling,
        )

    def _predictives(self, features: Tensor, epoch: int) -> dict[str, Tensor]:
        assert self.readout is not None
        laplace, seed = self.aux.laplace, self.args.seed * 1000 + epoch
        return {
            "map": self.readout.predict(features, link="map"),
            "laplace": self.readout.predict(
                features, link=laplace.link, n_samples=laplace.n_samples, seed=seed
            ),
        }

    def _weigh(self, probabilities: Tensor, labels: Tensor) -> Tensor:
        return sample_weights(
            probabilities,
            labels,
            alpha=self.weighting.alpha,
            beta=self.weighting.beta,
            reweight_on=self.weighting.reweight_on,
            normalize=self.weighting.normalize,
        )


class _Reweighting(TrainerCallback):
    """Refits the readout at the end of the epochs that the config names."""

    def __init__(self, trainer: DistillationTrainer) -> None:
        self.trainer = trainer

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        epoch, aux = ceil(state.epoch), self.trainer.aux
        if epoch >= aux.start_epoch and (epoch - aux.start_epoch) % aux.every_n_epochs == 0:
            with torch.random.fork_rng():  # training draws the same numbers with and without us
                self.trainer.refit(epoch)
