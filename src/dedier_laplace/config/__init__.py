"""Configuration: the YAML vocabulary, how a file is read and checked, how it is explained.

First room of the house: it imports nothing else of this package but `errors`. A `Config` is read
once, checked once and frozen; the rooms to the right receive plain values from it.
"""

from dedier_laplace.config.load import load_config, with_overrides
from dedier_laplace.config.schema import Config

__all__ = ["Config", "load_config", "with_overrides"]
