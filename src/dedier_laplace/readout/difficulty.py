"""Difficulty of a sample, read from the class probabilities of an early exit."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def confidence_margin(probabilities: Tensor | Any) -> Tensor:
    """cm = p_max - p_second (DeDiER, Tiwari et al. 2024, sec. 3.2).

    Args:
        probabilities: [N, C], rows sum to one.

    Returns:
        [N], from 0 (two classes tie) to 1 (certain). High on a wrong sample means a confident
        error: the sample contradicts what the early layer relies on.
    """
    top = torch.as_tensor(probabilities).topk(2, dim=-1).values
    return top[..., 0] - top[..., 1]
