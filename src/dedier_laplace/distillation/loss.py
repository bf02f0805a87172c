"""The distillation loss, with optional per-sample weights."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from torch import Tensor
from torch.nn import functional as F


def distillation_loss(
    student_logits: Tensor,
    teacher_logits: Tensor | None,
    labels: Tensor,
    *,
    temperature: float,
    kd_weight: float,
    sample_weights: Tensor | None = None,
    reweight_terms: Collection[str] = ("ce", "kd"),
    reduction: Literal["mean", "none"] = "mean",
) -> Tensor:
    """mean_i [(1 - lambda) * wt_i * CE_i + lambda * wt_i * T^2 * KL_i].

    CE against the label, KL(teacher || student) between softmaxes at temperature T (Hinton et al.
    2015, sec. 2, whose T^2 keeps the gradient's size); weights on both terms as in 2505.01070.

    Args:
        student_logits: [B, C].
        teacher_logits: [B, C], in the student's label order; None: no teacher, the loss is wt * CE.
        labels: [B].
        temperature: T > 0.
        kd_weight: lambda, 0 (cross-entropy alone) to 1 (teacher alone).
        sample_weights: wt [B]; None weighs every sample 1.
        reweight_terms: terms that wt multiplies, of `ce` and `kd`.
        reduction: `mean` over the batch, or `none`.

    Returns:
        scalar, or [B] without reduction.
    """

    def weighted(term: str, losses: Tensor) -> Tensor:
        if sample_weights is None or term not in reweight_terms:
            return losses
        return losses * sample_weights

    losses = weighted("ce", F.cross_entropy(student_logits, labels, reduction="none"))
    if teacher_logits is not None:
        kl = F.kl_div(
            F.log_softmax(student_logits / temperature, dim=-1),
            F.log_softmax(teacher_logits / temperature, dim=-1),
            reduction="none",
            log_target=True,
        ).sum(-1)
        kd = weighted("kd", temperature**2 * kl)
        losses = (1 - kd_weight) * losses + kd_weight * kd
    return losses.mean() if reduction == "mean" else losses
