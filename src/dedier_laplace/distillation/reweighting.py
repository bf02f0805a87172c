"""New weights from a new readout: fit it, read its predictive, weigh, and note what came out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from dedier_laplace.config.readout import Aux, Weights
from dedier_laplace.data.attributes import Groups
from dedier_laplace.distillation.methods.base import Method
from dedier_laplace.distillation.weights import describe_weights, sample_weights, weight_shift
from dedier_laplace.errors import UserError
from dedier_laplace.readout.difficulty import confidence
from dedier_laplace.readout.exits import Exits, Features
from dedier_laplace.readout.predictive import Predictive
from dedier_laplace.readout.scores import readout_scores

# signals that the MAP has none of: nothing to compare Laplace weights with
FROM_THE_POSTERIOR = ("mutual_information", "logit_variance")


class Reweighting:
    """The weights of a training set, made from nothing at every `refit`.

    Args:
        method: which predictive counts, and what becomes of its weights.
        aux, weights: how readout and weights are made.
        labels: of the training set, [N].
        validation_labels: [M].
        groups: of the training set, for the record.
        n_classes: C.
        seed: of everything random in it, with the epoch's number.
    """

    def __init__(
        self,
        method: Method,
        aux: Aux,
        weights: Weights,
        *,
        labels: Tensor,
        validation_labels: Tensor,
        groups: Groups,
        n_classes: int,
        seed: int,
    ) -> None:
        self.method, self.aux, self.weights = method, aux, weights
        self.labels, self.validation_labels, self.groups = labels, validation_labels, groups
        self.n_classes, self.seed = n_classes, seed
        self.exits: Exits | None = None
        self.epoch = 0

    def due(self, epoch: int) -> bool:
        """Whether the config asks for a refit after this epoch."""
        since = epoch - self.aux.start_epoch
        return since >= 0 and since % self.aux.every_n_epochs == 0

    def refit(
        self, features: Features, validation: Features, epoch: int
    ) -> tuple[Tensor, dict[str, Any]]:
        """Weights [N] from a readout on these features, and the epoch's record of both.

        Raises:
            UserError: features are not finite.
        """
        if not all(states.isfinite().all() for states in features.values()):
            raise UserError(
                f"The student's features are not finite after epoch {epoch}: training diverged; "
                "lower student.training.learning_rate or weights.beta."
            )
        self.epoch, seed = epoch, self.seed * 1000 + epoch
        self.exits = Exits.fit(
            features,
            self.labels,
            self.aux,
            n_classes=self.n_classes,
            seed=seed,
            validation=(validation, self.validation_labels),
            warm_from=self.exits,
        )
        if self.weights.signal == "set_size":
            self.exits.calibrate(validation, self.validation_labels, seed=seed)
        predictives = self._predictives(features, seed, self.weights.signal == "set_size")
        weights = {kind: self._weigh(found) for kind, found in predictives.items()}
        kind = self.method.predictive
        assert kind is not None
        wrong = predictives[kind].probabilities.argmax(1) != self.labels
        chosen = wrong | (self.weights.reweight_on == "all")
        final = self.method.reweight(weights[kind], seed)
        chosen = self.method.reweight(chosen.float(), seed) > 0  # where the control moved them to
        record = {
            "readout": self._describe(self._predictives(validation, seed)),
            "weights": describe_weights(final, chosen, self.groups),
        }
        if self.weights.signal not in FROM_THE_POSTERIOR:
            record["laplace_against_map"] = weight_shift(weights["laplace"], weights["map"])
        return final, record

    def _describe(self, on_validation: Mapping[str, Predictive]) -> dict[str, Any]:
        assert self.exits is not None
        readouts = [self.exits.readouts[layer] for layer in self.exits.layers]
        return {
            "layers": list(self.exits.layers),
            "prior_precision": [readout.prior_precision for readout in readouts],
            "validation": {
                kind: readout_scores(found.probabilities, self.validation_labels)
                for kind, found in on_validation.items()
            },
        }

    def _predictives(
        self, features: Features, seed: int, with_sets: bool = False
    ) -> dict[str, Predictive]:
        assert self.exits is not None
        return {
            "map": self.exits.predictive(features, "map", seed=seed, with_sets=with_sets),
            "laplace": self.exits.predictive(features, "laplace", seed=seed, with_sets=with_sets),
        }

    def _weigh(self, predictive: Predictive) -> Tensor:
        return sample_weights(
            predictive.probabilities,
            self.labels,
            alpha=self.weights.alpha,
            beta=self.weights.beta,
            reweight_on=self.weights.reweight_on,
            normalize=self.weights.normalize,
            confidence=confidence(self.weights.signal, predictive),
        )
