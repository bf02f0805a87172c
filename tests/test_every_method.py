"""Every method trains a student, and methods that must agree do."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import assert_same_model, in_folder, student, weights_of
from torch.nn import functional as F
from transformers import AutoModelForSequenceClassification

from dedier_laplace import UserError, Workspace, evaluate, train_student
from dedier_laplace.config import with_overrides
from dedier_laplace.distillation.methods import METHODS, Method, register
from dedier_laplace.distillation.trainer import DistillationTrainer


@pytest.fixture(scope="session")
def trained(finished: tuple, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A student by each of the other methods, sharing one run folder."""
    workspace: Workspace = finished[0]
    output = tmp_path_factory.mktemp("methods")
    return {
        name: student(workspace, output, {"student": {"method": name}})
        for name in sorted(METHODS.keys() - {"erm", "kd", "dedier", "laplace"})
    }


def weights_beside(folder: Path) -> torch.Tensor:
    return load_file(folder / "sample_weights.safetensors")["weights"]


def test_every_method_leaves_a_plain_model_folder(finished: tuple, trained: dict) -> None:
    plain = weights_of(finished[0].folder.student("erm"))
    for folder in trained.values():
        AutoModelForSequenceClassification.from_pretrained(folder)
        found = weights_of(folder)
        assert {name: t.shape for name, t in found.items()} == {
            name: t.shape for name, t in plain.items()
        }
        assert (folder / "README.md").exists()
        assert len((folder / "epochs.jsonl").read_text().splitlines()) == 3


def test_methods_differ(finished: tuple, trained: dict) -> None:
    folders = [*trained.values(), *(finished[0].folder.student(name) for name in ("erm", "kd"))]
    heads = [weights_of(folder)["classifier.weight"] for folder in folders]
    for number, head in enumerate(heads):
        assert not any(torch.equal(head, other) for other in heads[:number])


def test_error_set_is_computed_once_and_weighs_what_it_says(trained: dict) -> None:
    cached = list((trained["jtt"].parents[1] / "cache" / "error_sets").glob("*.safetensors"))
    assert len(cached) == 1
    errors = load_file(cached[0])["error_sets"]
    assert 0 < errors.sum() < len(errors)
    for name in ("jtt", "dett"):
        weights = weights_beside(trained[name])
        torch.testing.assert_close(weights / weights.min(), torch.where(errors, 5.0, 1.0))


def test_jtt_with_upweight_one_is_erm(finished: tuple, tmp_path: Path) -> None:
    workspace, _ = finished
    jtt = student(workspace, tmp_path, {"student": {"method": "jtt", "jtt": {"upweight": 1}}})
    assert_same_model(jtt, workspace.folder.student("erm"))


def test_uniform_weights_of_mean_one_are_plain_distillation(
    finished: tuple, tmp_path: Path
) -> None:
    workspace, _ = finished
    uniform = {"student": {"method": "uniform"}, "weights": {"normalize": "mean"}}
    found = weights_of(student(workspace, tmp_path, uniform))
    for name, tensor in weights_of(workspace.folder.student("kd")).items():
        torch.testing.assert_close(found[name], tensor, atol=1e-4, rtol=1e-3)


def test_shuffled_keeps_the_multiset_of_weights(finished: tuple, tmp_path: Path) -> None:
    workspace, _ = finished
    once = {"training": {"num_train_epochs": 1}}  # both read the same student: one epoch of kd
    folders = [
        student(workspace, tmp_path, {"student": {"method": name, **once}})
        for name in ("laplace", "shuffled")
    ]
    laplace, shuffled = (weights_beside(folder) for folder in folders)
    assert not torch.equal(laplace, shuffled)
    assert torch.equal(laplace.sort().values, shuffled.sort().values)


def test_cached_teacher_and_error_set_change_nothing(
    finished: tuple, trained: dict, tmp_path: Path
) -> None:
    workspace, _ = finished
    again = student(workspace, tmp_path, {"student": {"method": "dett"}})  # nothing cached there
    assert_same_model(again, trained["dett"])
    config = with_overrides(workspace.config, {"student": {"method": "dett"}})
    other = in_folder(workspace, config, trained["dett"].parents[1])
    cached = train_student(other, teacher=workspace.folder.teacher, name="from-the-cache")
    assert_same_model(cached, again)


def test_simkd_ends_under_the_teachers_frozen_layer(finished: tuple, trained: dict) -> None:
    # its head is W_teacher P: every row lies in the row space that the teacher's layer leaves
    teacher = weights_of(finished[0].folder.teacher)["classifier.weight"]
    head = weights_of(trained["simkd"])["classifier.weight"]
    assert head.shape == teacher.shape
    assert not torch.allclose(head, teacher)


def test_transplanted_student_keeps_its_best_epoch(finished: tuple, tmp_path: Path) -> None:
    workspace, _ = finished
    config = with_overrides(
        workspace.config,
        {"student": {"method": "simkd", "select_by": "accuracy"}, "eval": {"split": "validation"}},
    )
    other = in_folder(workspace, config, tmp_path)
    folder = train_student(other, teacher=workspace.folder.teacher)
    record = json.loads((folder / "training.json").read_text())
    best = record["epochs"][record["best_epoch"] - 1]["validation"]["accuracy"]
    assert best == max(epoch["validation"]["accuracy"] for epoch in record["epochs"])
    (evaluation,) = evaluate(other, {"simkd": folder})
    assert evaluation["accuracy"] == best


def test_identification_longer_than_training_is_refused(finished: tuple, tmp_path: Path) -> None:
    long = {"student": {"method": "jtt", "jtt": {"identification_epochs": 9}}}
    with pytest.raises(UserError, match=r"identification_epochs is 9.*3 epochs"):
        student(finished[0], tmp_path, long)


def test_balanced_sampling_is_a_switch_of_its_own(finished: tuple, tmp_path: Path) -> None:
    workspace, _ = finished
    balanced = {"student": {"method": "erm", "sampling": "group_balanced"}}
    first = student(workspace, tmp_path / "1", balanced)
    assert_same_model(first, student(workspace, tmp_path / "2", balanced))
    head = weights_of(first)["classifier.weight"]
    assert not torch.equal(head, weights_of(workspace.folder.student("erm"))["classifier.weight"])


@pytest.mark.parametrize(
    "overrides",
    [
        {"weights": {"signal": "entropy"}},
        {"weights": {"signal": "mutual_information"}},
        {"weights": {"signal": "logit_variance"}, "aux": {"laplace": {"link": "probit"}}},
        {"weights": {"signal": "set_size"}, "aux": {"layers": "all"}},
        {"aux": {"layers": [1, 3], "hidden_layers": 1, "hidden_size": 8, "refit": "warm"}},
        {"aux": {"fit_on": 100, "batch_size": 32, "tolerance": 0.01}},
        {"aux": {"laplace": {"hessian": "diag", "prior_precision": "validation_nll"}}},
        {"aux": {"laplace": {"hessian": "full", "posterior_temperature": 3.0}}},
    ],
    ids=lambda overrides: json.dumps(overrides)[:60],
)
def test_every_signal_readout_and_posterior_trains_a_student(
    finished: tuple, tmp_path: Path, overrides: dict
) -> None:
    once = {"method": "laplace", "training": {"num_train_epochs": 2}}
    folder = student(finished[0], tmp_path, {"student": once, **overrides})
    weights = weights_beside(folder)
    assert weights.isfinite().all()
    assert weights.max() > weights.min()
    last = json.loads((folder / "epochs.jsonl").read_text().splitlines()[-1])
    assert 0 < last["readout"]["validation"]["laplace"]["accuracy"] <= 1


@pytest.mark.parametrize("aux", [{}, {"hidden_layers": 1, "layers": "all"}])
def test_fitting_the_readout_leaves_the_student_as_it_is(
    finished: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, aux: dict
) -> None:
    refit, checked = DistillationTrainer.refit, []

    def watched(self: DistillationTrainer, epoch: int) -> None:
        before = [(p.detach().clone(), p.requires_grad, p.grad) for p in self.model.parameters()]
        training = self.model.training
        refit(self, epoch)
        for (value, flag, gradient), now in zip(before, self.model.parameters(), strict=True):
            assert torch.equal(value, now)
            assert now.requires_grad == flag
            assert now.grad is gradient
        assert self.model.training == training
        checked.append(epoch)

    monkeypatch.setattr(DistillationTrainer, "refit", watched)
    student(finished[0], tmp_path, {"student": {"method": "laplace"}, "aux": aux})
    assert checked == [1, 2, 3]


def test_toy_method_takes_one_small_class(
    finished: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dedier_laplace.distillation.methods.base.METHODS", dict(METHODS))

    @register("smooth")
    class Smooth(Method):
        needs_teacher = False

        def loss(self, batch):
            return F.cross_entropy(batch.student_logits, batch.labels, label_smoothing=0.1)

    folder = student(finished[0], tmp_path, {"student": {"method": "smooth"}})
    assert folder.name == "smooth"
    head = weights_of(folder)["classifier.weight"]
    erm = weights_of(finished[0].folder.student("erm"))["classifier.weight"]
    assert not torch.equal(head, erm)
