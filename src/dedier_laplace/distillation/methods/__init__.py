"""Training methods: which weight a sample gets and which loss it sees. One file a method."""

from dedier_laplace.distillation.methods import dedier, erm, kd, laplace
from dedier_laplace.distillation.methods.base import METHODS, Batch, Method, register

__all__ = ["METHODS", "Batch", "Method", "dedier", "erm", "kd", "laplace", "register"]
