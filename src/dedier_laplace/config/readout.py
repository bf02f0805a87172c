"""The `aux` and `weights` blocks: the readout, its posterior, and the weights made of it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag

from dedier_laplace.config.section import Count, Section

PRIOR_SEARCHES = ("marglik", "validation_nll")
Signal = Literal["margin", "entropy", "mutual_information", "logit_variance", "set_size"]


def _prior_precision(value: object) -> object:
    if value in PRIOR_SEARCHES:
        return value
    try:
        number = float("nan" if isinstance(value, bool) else value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = float("nan")
    if not 1e-6 <= number <= 1e9:
        raise ValueError("must be a number from 1e-6 to 1e9, 'marglik' or 'validation_nll'")
    return number


class Laplace(Section):
    """The Laplace approximation on the readout."""

    hessian: Literal["kron", "full", "diag"] = Field("kron", description="structure of the GGN")
    prior_precision: Annotated[
        float | Literal["marglik", "validation_nll"], BeforeValidator(_prior_precision)
    ] = Field(
        "marglik",
        description="Gaussian prior on all readout weights, also the MAP's weight decay; marglik: "
        "by marginal likelihood; validation_nll: by the predictive's NLL on validation",
    )
    posterior_temperature: float = Field(
        1.0,
        ge=1e-6,
        le=1e6,
        description="precision = GGN / temperature + prior: N samples count as N / it",
    )
    link: Literal["mc", "probit", "map"] = Field(
        "mc", description="predictive: Monte Carlo, centred probit, or the MAP softmax"
    )
    n_samples: Count = Field(100, description="link: mc; draws per sample, in logit space")


class PredictionSets(Section):
    """Nested prediction sets of the exits (weights.signal: set_size; dedier eval --exits)."""

    alpha: float = Field(
        0.05,
        gt=0,
        lt=1,
        description="thresholds are raised while every exit's sets miss validation labels less "
        "often than this",
    )
    step: float = Field(
        0.5, ge=0.01, description="threshold search: logits raised by this at a time"
    )


def _distinct(layers: list[int]) -> list[int]:
    if len(set(layers)) < len(layers):
        raise ValueError("must not name a layer twice")
    return sorted(layers)


def _one_as_list(layers: object) -> object:
    return [layers] if type(layers) is int else layers


Layers = Annotated[
    list[Annotated[int, Field(ge=1, strict=True)]],
    Field(min_length=1),
    BeforeValidator(_one_as_list),
    AfterValidator(_distinct),
]


class Aux(Section):
    """The readout (auxiliary head) on early layers of the student."""

    layers: Annotated[
        Annotated[Layers, Tag("<list>")] | Annotated[Literal["all"], Tag("<word>")],
        Discriminator(lambda layers: "<word>" if isinstance(layers, str) else "<list>"),
    ] = Field(
        [3],
        description="1 = output of the first block; several, or all: a readout each, whose "
        "predictives are averaged",
    )
    pooling: Literal["first", "mean"] = Field("first", description="first token, or masked mean")
    hidden_layers: int = Field(
        0, ge=0, description="0: a linear readout; k: an MLP, Laplace on top"
    )
    hidden_size: Count = Field(128, description="hidden_layers: units of each")
    every_n_epochs: Count = Field(1, description="refit after every n-th epoch")
    start_epoch: Count = Field(1, description="the first epoch after which it is fitted")
    refit: Literal["scratch", "warm"] = Field(
        "scratch", description="begin at zero (an MLP: at random), or where the last fit ended"
    )
    fit_on: Count | None = Field(
        None, description="fit readout and posterior on this many random samples; null: on all"
    )
    batch_size: Count | None = Field(
        None, description="null: full-batch L-BFGS; a number: minibatches (SVRG)"
    )
    tolerance: float = Field(
        1e-5, gt=0, lt=1, description="fitting ends when no entry of the mean gradient exceeds it"
    )
    laplace: Laplace = Field(default=Laplace(), description="its posterior")
    prediction_sets: PredictionSets = Field(
        default=PredictionSets(), description="nested sets over its exits"
    )


class Weights(Section):
    """Per-sample weights wt = exp(beta * c^alpha), c the readout's confidence from 0 to 1."""

    signal: Signal = Field(
        "margin",
        description="what c is made of: margin (c = p_max - p_second), entropy, "
        "mutual_information, logit_variance, set_size",
    )
    alpha: float = Field(0.2, ge=0, description="exponent of the confidence")
    beta: float = Field(3.0, ge=0, le=50, description="scale; 0 switches weighting off")
    reweight_on: Literal["wrong", "all"] = Field(
        "wrong", description="weights on samples the readout gets wrong, or on all"
    )
    reweight_terms: list[Literal["ce", "kd"]] = Field(
        ["ce", "kd"], min_length=1, description="loss terms that are weighted"
    )
    normalize: Literal["none", "mean"] = Field(
        "none", description="mean: weights divided by their mean over the training set"
    )
