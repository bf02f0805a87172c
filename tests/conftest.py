"""What every test may use: reference material beside the checkout, where there is any."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny tensors: more threads only wait


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference numbers and real data beside the repository."""
    folder = Path(__file__).parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("no folder `shared` with reference numbers beside the repository")
    return folder
