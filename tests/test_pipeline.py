"""The stages end to end on the generated corpus, with models that train in seconds."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pyarrow import parquet
from safetensors.torch import load_file
from tiny import LAYERS, assert_same_model, in_folder, student, weights_of
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    pipeline,
)

from dedier_laplace import (
    UserError,
    Workspace,
    evaluate,
    load_config,
    run,
    train_student,
    train_teacher,
)
from dedier_laplace.config import with_overrides
from dedier_laplace.data.attributes import make_groups
from dedier_laplace.data.generated import word_tokenizer
from dedier_laplace.evaluation.groups import group_metrics
from dedier_laplace.pipeline.evaluation import named_models
from dedier_laplace.pipeline.sources import TrainingSources
from dedier_laplace.pipeline.stages import check_name
from dedier_laplace.readout.exits import Exits


def sources(workspace: Workspace, teacher: Path) -> TrainingSources:
    model, _ = workspace.start_model(workspace.config.student)
    return TrainingSources(workspace, model, teacher)


def test_run_leaves_every_model_evaluation_and_table(finished: tuple) -> None:
    workspace, evaluations = finished
    names = ["teacher", "erm", "kd", "dedier-layer2", "laplace-layer2"]
    assert [evaluation["model"] for evaluation in evaluations] == names
    root = workspace.folder.root
    for name in names:
        assert (root / "evaluations" / name / "test-negation" / "evaluation.json").exists()
    assert all(name in (root / "report" / "table.md").read_text() for name in names)
    record = json.loads((root / "run.json").read_text())
    assert {"seed", "versions", "hardware", "git_commit", "stages"} <= record.keys()
    assert record["stages"]["students/kd"]["seconds"] > 0
    assert load_config(root / "config.yaml") == workspace.config


def test_run_again_trains_nothing_and_changes_nothing(finished: tuple) -> None:
    workspace, evaluations = finished
    before = {
        path: path.stat().st_mtime_ns for path in workspace.folder.root.rglob("*.safetensors")
    }
    assert run(workspace) == evaluations
    after = {path: path.stat().st_mtime_ns for path in workspace.folder.root.rglob("*.safetensors")}
    assert before == after


def test_same_seed_gives_the_same_student(finished: tuple, tmp_path: Path) -> None:
    workspace, _ = finished
    again = student(workspace, tmp_path, {"student": {"method": "laplace"}})
    assert_same_model(again, workspace.folder.student("laplace-layer2"))


def test_beta_zero_is_plain_distillation(finished: tuple, tmp_path: Path) -> None:
    workspace, _ = finished
    flat = {"student": {"method": "laplace"}, "weights": {"beta": 0}}
    assert_same_model(student(workspace, tmp_path, flat), workspace.folder.student("kd"))


def test_kd_weight_zero_is_erm(finished: tuple, tmp_path: Path) -> None:
    workspace, _ = finished
    alone = {"student": {"method": "kd", "kd_weight": 0}}
    trained, erm = student(workspace, tmp_path, alone), workspace.folder.student("erm")
    for name, tensor in weights_of(trained).items():
        torch.testing.assert_close(tensor, weights_of(erm)[name], atol=1e-4, rtol=1e-3)


def test_an_epochs_weights_matter(finished: tuple) -> None:
    workspace, _ = finished
    kd = weights_of(workspace.folder.student("kd"))
    laplace = weights_of(workspace.folder.student("laplace-layer2"))
    assert any(not torch.equal(tensor, laplace[name]) for name, tensor in kd.items())


def test_every_epoch_is_recorded(finished: tuple) -> None:
    workspace, _ = finished
    lines = (workspace.folder.student("laplace-layer2") / "epochs.jsonl").read_text().splitlines()
    epochs = [json.loads(line) for line in lines]
    assert [epoch["epoch"] for epoch in epochs] == [1, 2, 3]
    for epoch in epochs:
        for kind in ("map", "laplace"):
            assert {"accuracy", "nll", "ece"} <= epoch["readout"]["validation"][kind].keys()
        weights = epoch["weights"]
        assert 0 < weights["share_reweighted"] < 1
        assert 1 <= weights["effective_sample_size"] <= 240
        assert len(weights["groups"]) == 6
        assert {"mean_relative_change", "rank_correlation"} <= epoch["laplace_against_map"].keys()


def test_readout_beside_the_model_gives_the_weights_beside_it(finished: tuple) -> None:
    workspace, _ = finished
    folder = workspace.folder.student("dedier-layer2")
    readout = Exits.load(folder / "readout").readouts[2]
    weights = load_file(folder / "sample_weights.safetensors")["weights"]
    assert readout.weight.shape == (3, 17)
    assert len(weights) == 240
    last = json.loads((folder / "epochs.jsonl").read_text().splitlines()[-1])
    assert weights.mean().item() == pytest.approx(last["weights"]["mean"], rel=1e-6)


@pytest.mark.parametrize("name", ["teacher", "kd", "laplace-layer2"])
def test_every_figure_of_an_evaluation_follows_from_its_predictions(
    finished: tuple, name: str
) -> None:
    workspace, _ = finished
    folder = workspace.folder.evaluation(name, "test", "negation")
    said = json.loads((folder / "evaluation.json").read_text())
    rows = parquet.read_table(folder / "predictions.parquet").to_pylist()
    numbers = {label: number for number, label in enumerate(said["labels"])}
    labels = np.array([numbers[row["label"]] for row in rows])
    predictions = np.array([numbers[row["prediction"]] for row in rows])
    probabilities = np.array([row["probabilities"] for row in rows])
    np.testing.assert_array_equal(probabilities.argmax(1), predictions)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
    attribute = np.array([row["attribute"] for row in rows])
    groups = make_groups(labels, attribute, said["labels"], "negation")
    assert [groups.names[index] for index in groups.index] == [row["group"] for row in rows]
    shares = np.array([group["train_share"] for group in said["groups"]])
    for key, value in group_metrics(predictions, labels, groups, shares).items():
        assert said[key] == value, key


def test_pipeline_of_transformers_says_what_the_predictions_say(finished: tuple) -> None:
    workspace, _ = finished
    folder = workspace.folder.student("laplace-layer2")
    classify = pipeline("text-classification", model=str(folder))
    rows = workspace.corpus.splits["test"]
    pairs = [{"text": row["premise"], "text_pair": row["hypothesis"]} for row in rows]
    table = parquet.read_table(
        workspace.folder.evaluation("laplace-layer2", "test", "negation") / "predictions.parquet"
    )
    assert [answer["label"] for answer in classify(pairs)] == table["prediction"].to_pylist()


def test_teacher_logits_are_computed_once(finished: tuple) -> None:
    workspace, _ = finished
    cached = list((workspace.folder.cache / "teacher_logits").glob("*.safetensors"))
    assert len(cached) == 1
    assert load_file(cached[0])["teacher_logits"].shape == (240, 3)


def test_a_teacher_with_another_label_order_teaches_the_same(
    finished: tuple, tmp_path: Path
) -> None:
    workspace, _ = finished
    teacher = AutoModelForSequenceClassification.from_pretrained(workspace.folder.teacher)
    order = [2, 0, 1]
    head = teacher.classifier
    head.weight.data, head.bias.data = head.weight.data[order], head.bias.data[order]
    names = [teacher.config.id2label[number] for number in order]
    teacher.config.id2label = dict(enumerate(names))
    teacher.config.label2id = {name: number for number, name in enumerate(names)}
    teacher.save_pretrained(tmp_path / "teacher")
    word_tokenizer().save_pretrained(tmp_path / "teacher")
    expected, found = (
        sources(workspace, folder) for folder in (workspace.folder.teacher, tmp_path / "teacher")
    )
    torch.testing.assert_close(found.teacher_logits(), expected.teacher_logits())
    torch.testing.assert_close(found.teacher_features(), expected.teacher_features())
    for own, other in zip(
        expected.teacher_head().parameters(), found.teacher_head().parameters(), strict=True
    ):
        assert torch.equal(own, other)


def test_selecting_an_epoch_keeps_the_best_of_validation(finished: tuple, tmp_path: Path) -> None:
    workspace, _ = finished
    folder = student(
        workspace,
        tmp_path,
        {"student": {"method": "laplace", "select_by": "group_mean_accuracy"}},
    )
    record = json.loads((folder / "training.json").read_text())
    scores = [epoch["validation"]["group_mean_accuracy"] for epoch in record["epochs"]]
    assert scores[record["best_epoch"] - 1] == max(scores)
    assert not (folder / "checkpoints").exists()


def test_eval_reads_a_folder_that_plain_transformers_made(finished: tuple, tmp_path: Path) -> None:
    workspace, _ = finished
    labels = {0: "CONTRADICTION", 1: "ENTAILMENT", 2: "NEUTRAL"}
    tokenizer = word_tokenizer()
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, id2label=labels, label2id={v: k for k, v in labels.items()},
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(tmp_path / "theirs")
    tokenizer.save_pretrained(tmp_path / "theirs")
    (evaluation,) = evaluate(workspace, {"theirs": tmp_path / "theirs"})
    assert evaluation["n"] == 60
    assert 0 < evaluation["accuracy"] < 1


def test_a_model_with_other_labels_is_refused(finished: tuple, tmp_path: Path) -> None:
    workspace, _ = finished
    tokenizer = word_tokenizer()
    config = BertConfig(vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1,
                        num_attention_heads=2, intermediate_size=16, num_labels=2)  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(tmp_path / "binary")
    tokenizer.save_pretrained(tmp_path / "binary")
    with pytest.raises(UserError, match=r"label_0, label_1.*id2label"):
        evaluate(workspace, {"binary": tmp_path / "binary"})
    with pytest.raises(UserError, match="id2label"):
        sources(workspace, tmp_path / "binary").teacher_logits()


def test_an_encoder_without_a_classifier_is_not_evaluated(finished: tuple, tmp_path: Path) -> None:
    workspace, _ = finished
    model = AutoModelForSequenceClassification.from_pretrained(workspace.folder.teacher)
    model.bert.save_pretrained(tmp_path / "encoder")
    word_tokenizer().save_pretrained(tmp_path / "encoder")
    with pytest.raises(UserError, match="without a trained classifier"):
        evaluate(workspace, {"encoder": tmp_path / "encoder"})


def test_other_settings_do_not_touch_what_is_there(finished: tuple) -> None:
    workspace, _ = finished
    folder = workspace.folder.student("kd")
    before = weights_of(folder)
    config = with_overrides(workspace.config, {"student": {"method": "kd", "temperature": 3}})
    other = workspace.with_config(config)
    with pytest.raises(UserError, match=r"--name.*--overwrite"):
        train_student(other)
    after = weights_of(folder)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_layer_out_of_range_names_the_depth(finished: tuple, tmp_path: Path) -> None:
    workspace, _ = finished
    with pytest.raises(UserError, match=f"layer 4.*{LAYERS} layers"):
        student(workspace, tmp_path, {"student": {"method": "laplace"}, "aux": {"layers": [4]}})


def test_a_finished_teacher_is_used_as_it_is(finished: tuple, tmp_path: Path) -> None:
    workspace, _ = finished
    teacher = {"model": str(workspace.folder.teacher), "fine_tune": False}
    config = with_overrides(workspace.config, {"teacher": teacher, "students": []})
    other = in_folder(workspace, config, tmp_path)
    run(other)
    assert_same_model(other.folder.teacher, workspace.folder.teacher)


def test_seeds_share_the_cache_and_nothing_else(finished: tuple, tmp_path: Path) -> None:
    workspace, _ = finished
    overrides = {"seeds": [0, 1], "students": [{"student": {"method": "erm"}}]}
    config = with_overrides(workspace.config, overrides)
    other = in_folder(workspace, config, tmp_path)
    evaluations = run(other)
    assert [evaluation["seed"] for evaluation in evaluations] == [0, 0, 1, 1]
    assert len(list((tmp_path / "cache" / "pretrained").iterdir())) == 1
    assert not (tmp_path / "seed-1" / "cache").exists()
    first, second = (weights_of(tmp_path / place / "students" / "erm") for place in (".", "seed-1"))
    assert any(not torch.equal(first[name], second[name]) for name in first)
    assert "±" in (tmp_path / "report" / "table.md").read_text()


def test_the_run_folder_records_the_runs_config_not_a_students(finished: tuple) -> None:
    workspace, _ = finished
    recorded = load_config(workspace.folder.root / "config.yaml")
    assert recorded.student == workspace.config.student


def test_another_models_evaluation_is_not_replaced_unasked(finished: tuple) -> None:
    workspace, _ = finished
    other = {"kd": workspace.folder.student("erm")}
    with pytest.raises(UserError, match="--overwrite"):
        evaluate(workspace, other)


def test_models_of_one_name_keep_apart(tmp_path: Path) -> None:
    paths = [tmp_path / seed / "students" / "kd" for seed in ("a", "b")]
    assert list(named_models([*paths, paths[0]])) == ["a-students-kd", "b-students-kd"]
    assert list(named_models(paths[:1])) == ["kd"]


@pytest.mark.parametrize("name", ["teacher", "../teacher", "a/b", ""])
def test_a_name_that_is_no_folder_of_a_student_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="cannot be a student's"):
        check_name(name)


def test_gradient_accumulation_gives_the_same_teacher(finished: tuple, tmp_path: Path) -> None:
    workspace, _ = finished
    # dropout off: the two runs draw different masks otherwise
    fields = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    settings = [
        {"per_device_train_batch_size": 32},
        {"per_device_train_batch_size": 16, "gradient_accumulation_steps": 2},
    ]
    trained = []
    for number, training in enumerate(settings):
        teacher = {"model": {"config": fields, "pretraining": None}, "training": training}
        config = with_overrides(workspace.config, {"teacher": teacher})
        trained.append(train_teacher(in_folder(workspace, config, tmp_path / str(number))))
    one, other = (weights_of(folder) for folder in trained)
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], atol=2e-5, rtol=1e-3)


def test_another_pretraining_corpus_is_another_start(finished: tuple, tmp_path: Path) -> None:
    workspace, _ = finished
    more = {"data": {"generated": {"unlabelled": 65}}}
    other = in_folder(workspace, with_overrides(workspace.config, more), tmp_path)
    teacher, student = workspace.config.teacher, workspace.config.student
    assert other.start_fingerprint(teacher) != workspace.start_fingerprint(teacher)
    assert other.start_fingerprint(student) == workspace.start_fingerprint(student)  # from scratch
