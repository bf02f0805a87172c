"""Training methods: which weight a sample gets and which loss it sees. One file a method."""

from dedier_laplace.distillation.methods import (
    dedier,
    dett,
    erm,
    group_dro,
    jtt,
    kd,
    laplace,
    shuffled,
    simkd,
    uniform,
)
from dedier_laplace.distillation.methods.base import METHODS, Batch, Method, Sources, register

__all__ = [
    "METHODS",
    "Batch",
    "Method",
    "Sources",
    "dedier",
    "dett",
    "erm",
    "group_dro",
    "jtt",
    "kd",
    "laplace",
    "register",
    "shuffled",
    "simkd",
    "uniform",
]
