"""Exits: readouts on several layers of one model, and what they say together."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from zlib import crc32

import torch
from numpy.random import SeedSequence
from torch import Tensor, nn

from dedier_laplace.config.readout import Aux
from dedier_laplace.readout.hidden_layers import (
    fit_hidden_layers,
    load_hidden_layers,
    save_hidden_layers,
)
from dedier_laplace.readout.laplace import LaplaceReadout
from dedier_laplace.readout.prediction_sets import (
    calibrate_thresholds,
    prediction_sets,
    running_intersection,
)
from dedier_laplace.readout.predictive import Kind, Predictive, mixture
from dedier_laplace.readout.signals import set_size

Features = Mapping[int, Tensor]  # [N, D] by layer
HIDDEN_PRIOR = 1.0  # precision of the hidden layers' prior where the readout's own is searched for


class Exits:
    """Readouts on several layers of one model, fitted on the same samples.

    Attributes:
        aux: how they were fitted.
        layers: rising.
        readouts: by layer.
        hidden: by layer, what stands between features and readout: nothing where that is linear.
        thresholds: of the nested prediction sets, float64 [E]; None until `calibrate`.
        offsets: the smallest calibration logit of every exit, [E], from which thresholds count.
    """

    def __init__(
        self, aux: Aux, readouts: dict[int, LaplaceReadout], hidden: dict[int, nn.Sequential]
    ) -> None:
        self.aux, self.readouts, self.hidden = aux, readouts, hidden
        self.layers = tuple(sorted(readouts))
        self.thresholds: Tensor | None = None
        self.offsets: Tensor | None = None

    @classmethod
    def fit(
        cls,
        features: Features,
        labels: Tensor,
        aux: Aux,
        *,
        n_classes: int,
        seed: int,
        validation: tuple[Features, Tensor] | None = None,
        warm_from: Exits | None = None,
    ) -> Exits:
        """A readout on every layer of `features`, whatever `aux.layers` says.

        Args:
            features: by layer, [N, D].
            labels: [N], 0..C-1.
            aux: how.
            n_classes: C.
            seed: of the samples drawn (`fit_on`, the same ones for every layer), of hidden layers
                and minibatches.
            validation: features and labels, for prior_precision `validation_nll`.
            warm_from: an earlier fit, where this one begins if `refit` is warm.

        Raises:
            ValueError: there is no layer, or a readout cannot be fitted (see `LaplaceReadout.fit`).
        """
        if not features:
            raise ValueError("exits need the features of at least one layer")
        earlier = warm_from if aux.refit == "warm" else None
        rows = _subset(len(labels), aux.fit_on, seed)
        readouts, hidden = {}, {}
        for layer in sorted(features):
            hidden[layer], readouts[layer] = _fit_exit(
                features[layer][rows],
                labels[rows],
                aux,
                n_classes,
                _derived(seed, f"fit layer {layer}"),
                None if validation is None else (validation[0][layer], validation[1]),
                None if earlier is None else (earlier.hidden[layer], earlier.readouts[layer]),
            )
        return cls(aux, readouts, hidden)

    def predictives(self, features: Features, kind: Kind, *, seed: int) -> list[Predictive]:
        """What every exit says, in layer order; the draws differ between layers."""
        laplace = self.aux.laplace
        link = "map" if kind == "map" else laplace.link
        return [
            self.readouts[layer].predictive(
                self._hidden(features, layer),
                link=link,
                n_samples=laplace.n_samples,
                seed=_derived(seed, f"draw layer {layer}"),
            )
            for layer in self.layers
        ]

    def predictive(
        self, features: Features, kind: Kind, *, seed: int, with_sets: bool = False
    ) -> Predictive:
        """What the exits say together: their equal-weight mixture.

        Args:
            features: by layer, [N, D].
            kind: `map`: softmax at the MAP; `laplace`: the posterior predictive by `aux.laplace`.
            seed: of all draws.
            with_sets: with the sizes of the last exit's nested prediction sets.

        Raises:
            ValueError: sets are asked for before `calibrate`.
        """
        found = mixture(self.predictives(features, kind, seed=seed))
        if not with_sets:
            return found
        size = set_size(self.prediction_sets(features, seed=seed)[-1])
        return replace(found, set_size=size.to(found.probabilities.device))

    def probabilities(self, features: Features, kind: Kind, *, seed: int) -> Tensor:
        """Every exit's own, [E, N, C], in layer order."""
        found = self.predictives(features, kind, seed=seed)
        return torch.stack([each.probabilities for each in found])

    def logits(self, features: Features) -> Tensor:
        """MAP logits [E, N, C], in layer order."""
        return torch.stack(
            [self.readouts[layer].logits(self._hidden(features, layer)) for layer in self.layers]
        )

    def calibrate(self, features: Features, labels: Tensor, seed: int) -> None:
        """Set `thresholds`, on samples of their own: unseen in training, not evaluated on.

        Jazbec et al.'s (2311.05931) published notebooks tune on all data; coverage then says
        nothing of new samples. Their sets give no class a chance whose logit is below 0, which a
        readout's are by half: a softmax leaves their level open and the prior centres them. Every
        exit's logits are therefore counted from the smallest one of the calibration samples.
        """
        settings, logits = self.aux.prediction_sets, self.logits(features)
        self.offsets = logits.amin((1, 2))
        self.thresholds = calibrate_thresholds(
            logits - self.offsets[:, None, None],
            labels,
            settings.alpha,
            step=settings.step,
            seed=_derived(seed, "calibrate"),
        )

    def raw_sets(self, features: Features, *, seed: int) -> Tensor:
        """Every exit's prediction set, bool [E, N, C], before they are intersected.

        Raises:
            ValueError: thresholds were not calibrated.
        """
        if self.thresholds is None or self.offsets is None:
            raise ValueError("prediction sets need thresholds: call calibrate first")
        logits = self.logits(features)
        return prediction_sets(
            logits - self.offsets[:, None, None].to(logits),
            self.thresholds,
            self.aux.prediction_sets.alpha,
            seed=_derived(seed, "sets"),
        )

    def prediction_sets(self, features: Features, *, seed: int) -> Tensor:
        """Nested sets, bool [E, N, C]: the running intersection of `raw_sets`."""
        return running_intersection(self.raw_sets(features, seed=seed))

    def save(self, folder: Path) -> None:
        """Write `exits.json` and, for every layer, a folder `layer-<number>`."""
        for layer in self.layers:
            self.readouts[layer].save(folder / f"layer-{layer}")
            if len(self.hidden[layer]):
                save_hidden_layers(self.hidden[layer], folder / f"layer-{layer}" / _HIDDEN)
        facts = {
            "layers": self.layers,
            "thresholds": None if self.thresholds is None else self.thresholds.tolist(),
            "offsets": None if self.offsets is None else self.offsets.tolist(),
            "aux": self.aux.model_dump(mode="json"),
        }
        (folder / _FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Exits:
        """Read what `save` wrote."""
        facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
        aux, layers = Aux.model_validate(facts["aux"]), facts["layers"]
        exits = cls(
            aux,
            {layer: LaplaceReadout.load(folder / f"layer-{layer}") for layer in layers},
            {
                layer: load_hidden_layers(folder / f"layer-{layer}" / _HIDDEN)
                if aux.hidden_layers
                else nn.Sequential()
                for layer in layers
            },
        )
        if facts["thresholds"] is not None:
            exits.thresholds = torch.tensor(facts["thresholds"], dtype=torch.float64)
            exits.offsets = torch.tensor(facts["offsets"])
        return exits

    def _hidden(self, features: Features, layer: int) -> Tensor:
        """What the readout of a layer reads, [N, D] or [N, hidden_size]."""
        return self.hidden[layer](features[layer].to(self.readouts[layer].weight))


_FACTS, _HIDDEN = "exits.json", "hidden_layers.safetensors"


def _fit_exit(
    features: Tensor,
    labels: Tensor,
    aux: Aux,
    n_classes: int,
    seed: int,
    validation: tuple[Tensor, Tensor] | None,
    start: tuple[nn.Sequential, LaplaceReadout] | None,
) -> tuple[nn.Sequential, LaplaceReadout]:
    """Hidden layers and readout on features [N, D] and labels [N]."""
    hidden, laplace = nn.Sequential(), aux.laplace
    prior = laplace.prior_precision
    if aux.hidden_layers:
        hidden = fit_hidden_layers(
            features,
            labels,
            hidden_layers=aux.hidden_layers,
            hidden_size=aux.hidden_size,
            n_classes=n_classes,
            prior_precision=HIDDEN_PRIOR if isinstance(prior, str) else prior,
            batch_size=aux.batch_size,
            tolerance=aux.tolerance,
            seed=seed,
            start=None if start is None else start[0],
        )
    readout = LaplaceReadout().fit(
        hidden(features),
        labels,
        prior_precision=prior,
        hessian=laplace.hessian,
        n_classes=n_classes,
        posterior_temperature=laplace.posterior_temperature,
        validation=None if validation is None else (hidden(validation[0]), validation[1]),
        batch_size=aux.batch_size,
        tolerance=aux.tolerance,
        start=None if start is None else start[1].weight,
        seed=seed,
    )
    return hidden, readout


def _subset(n: int, fit_on: int | None, seed: int) -> Tensor | slice:
    """`fit_on` of n samples, drawn; all where there are no more."""
    if fit_on is None or n <= fit_on:
        return slice(None)
    generator = torch.Generator().manual_seed(_derived(seed, "fit_on"))
    return torch.randperm(n, generator=generator)[:fit_on]


def _derived(seed: int, purpose: str) -> int:
    """A seed of its own for every purpose: streams of one another's seeds would repeat."""
    return int(SeedSequence([seed, crc32(purpose.encode())]).generate_state(1)[0])
