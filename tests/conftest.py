"""What every test may use: reference material beside the checkout, tiny models and inputs."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny tensors: more threads only wait

from pathlib import Path

import pytest
import torch
from datasets import Dataset

from dedier_laplace.data.generated import word_tokenizer
from dedier_laplace.data.tokens import tokenize


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference numbers and real data beside the repository."""
    folder = Path(__file__).parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("no folder `shared` with reference numbers beside the repository")
    return folder


LABELS = ["entailment", "neutral", "contradiction"]
DEPTH, WIDTH = 3, 16
USUAL = {
    "num_hidden_layers": DEPTH,
    "hidden_size": WIDTH,
    "intermediate_size": 32,
    "num_attention_heads": 2,
    "max_position_embeddings": 70,
}
CONFIGS = {
    "bert": USUAL,
    "roberta": USUAL,
    "electra": USUAL | {"embedding_size": 8},
    "distilbert": {
        "n_layers": DEPTH,
        "dim": WIDTH,
        "hidden_dim": 32,
        "n_heads": 2,
        "max_position_embeddings": 70,
    },
}


@pytest.fixture(params=CONFIGS)
def model_type(request):
    """Every architecture that a tiny model is made of."""
    return request.param


@pytest.fixture(scope="session")
def tokenizer():
    """The generated corpus's."""
    return word_tokenizer()


@pytest.fixture
def make(tokenizer):
    """A tiny model with random weights."""

    def from_type(model_type="bert"):
        from dedier_laplace.models import classifier_from_config

        torch.manual_seed(0)
        fields = {"model_type": model_type, **CONFIGS[model_type]}
        return classifier_from_config(fields, tokenizer, LABELS).eval()

    return from_type


@pytest.fixture
def inputs(tokenizer):
    """Three samples, the last two padded."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, len(tokenizer), (3, 9), generator=generator)
    mask = torch.ones_like(ids)
    for row, length in enumerate((9, 6, 4)):
        ids[row, length:], mask[row, length:] = tokenizer.pad_token_id, 0
    return {"input_ids": ids, "attention_mask": mask}


@pytest.fixture
def split(tokenizer):
    """Tokenized pairs of unequal lengths, in no order of length."""
    special = set(tokenizer.all_special_tokens)
    words = [word for word in sorted(tokenizer.get_vocab()) if word not in special]
    sizes = [3, 9, 1, 6, 2, 9, 4]
    rows = Dataset.from_dict(
        {
            "premise": [" ".join(words[i : i + n]) for i, n in enumerate(sizes)],
            "hypothesis": [words[-i - 1] for i in range(len(sizes))],
            "label": [i % 3 for i in range(len(sizes))],
        }
    )
    return tokenize(rows, tokenizer, 64, {"input_ids", "attention_mask"})


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple:
    """A run of the tiny models by the four methods of the source: its folder, its evaluations."""
    from tiny import tiny

    from dedier_laplace import Workspace, run

    workspace = Workspace.open(tiny(), tmp_path_factory.mktemp("run"))
    return workspace, run(workspace)
