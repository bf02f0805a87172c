"""Every method trains a student, and methods that must agree do."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import assert_same_model, in_folder, student, weights_of
from torch.nn import functional as F
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from dedier_laplace import UserError, Workspace, evaluate, run, train_student
from dedier_laplace.config import with_overrides
from dedier_laplace.distillation.methods import METHODS, Method, register
from dedier_laplace.distillation.methods.simkd import SimKd
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
        assert all(tensor.isfinite().all() for tensor in found.values())
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


def test_simkd_trains_under_the_teachers_layer_and_leaves_it_alone(
    finished: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, _ = finished
    heads, finish = [], SimKd.finish

    def watched(self: SimKd, model: PreTrainedModel) -> PreTrainedModel:
        heads.append(model.classifier)
        return finish(self, model)

    monkeypatch.setattr(SimKd, "finish", watched)
    folder = student(workspace, tmp_path, {"student": {"method": "simkd"}})
    (projector, frozen), teacher = heads[0], weights_of(workspace.folder.teacher)
    assert torch.equal(frozen.weight, teacher["classifier.weight"])
    assert torch.equal(frozen.bias, teacher["classifier.bias"])
    saved = weights_of(folder)["classifier.weight"]
    torch.testing.assert_close(saved, frozen.weight @ projector.weight)


def test_error_set_is_told_in_the_first_epochs_record(trained: dict) -> None:
    first = json.loads((trained["jtt"] / "epochs.jsonl").read_text().splitlines()[0])
    weights = weights_beside(trained["jtt"])
    share = float((weights > weights.min()).float().mean())
    assert first["weights"]["share_reweighted"] == pytest.approx(share)


def test_balanced_sampling_and_batches_by_length_exclude_each_other(
    finished: tuple, tmp_path: Path
) -> None:
    both = {
        "sampling": "group_balanced",
        "training": {"train_sampling_strategy": "group_by_length"},
    }
    with pytest.raises(UserError, match="leave one of them at random"):
        student(finished[0], tmp_path, {"student": {"method": "erm", **both}})


def test_training_that_diverges_ends_with_a_sentence(finished: tuple, tmp_path: Path) -> None:
    hot = {"student": {"method": "erm", "training": {"learning_rate": 1e30}}}
    with pytest.raises(UserError, match="not finite after epoch 1"):
        student(finished[0], tmp_path, hot)
    assert not (tmp_path / "students" / "erm").exists()


@pytest.mark.parametrize(
    "impossible",
    [
        {"student": {"method": "dedier"}, "weights": {"signal": "logit_variance"}},
        {"student": {"method": "jtt", "jtt": {"identification_epochs": 9}}},
        {"student": {"method": "laplace"}, "aux": {"layers": [1, 7]}},
    ],
)
def test_run_refuses_a_student_before_any_is_trained(
    finished: tuple, tmp_path: Path, impossible: dict
) -> None:
    workspace, _ = finished
    students = {"students": [{"student": {"method": "erm"}}, impossible]}
    other = in_folder(workspace, with_overrides(workspace.config, students), tmp_path)
    with pytest.raises(UserError):
        run(other)
    assert not (tmp_path / "teacher").exists()


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
