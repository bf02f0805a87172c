"""The command line: what it prints, its exit codes, one sentence for a mistake."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dedier_laplace import cli

COMMANDS = ["train-teacher", "train-student", "eval", "run", "inspect", "config"]
QUICK = [
    "data.generated={train: 96, validation_per_group: 4, test_per_group: 4, unlabelled: 32}",
    "teacher.model.pretraining=null",
    "student.model.pretraining=null",
    "teacher.training.num_train_epochs=1",
    "student.training.num_train_epochs=1",
]


def dedier(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Exit code of the command in this process."""
    monkeypatch.setattr(sys, "argv", ["dedier", *arguments])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    return int(exit_.value.code or 0)


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches_by_example(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    assert dedier(monkeypatch, command, "--help") == 0
    text = capsys.readouterr().out
    assert f"dedier {command}" in text.split("Examples:")[1]
    for option in ("--config", "--set", "--output", "--seed", "--device", "--quiet"):
        assert option in text


def test_help_of_train_student_names_every_method(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    from dedier_laplace.distillation.methods import METHODS

    dedier(monkeypatch, "train-student", "--help")
    shown = capsys.readouterr().out
    assert [name for name in METHODS if name not in shown] == []


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['dedier', 'run', '--help']\n"
        "from dedier_laplace.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'datasets', 'numpy', 'yaml'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_python_m_is_the_same_command() -> None:
    command = [sys.executable, "-m", "dedier_laplace", "config", "--set", "weights.beta=2.5"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0
    assert "beta: 2.5" in done.stdout


def test_three_commands_in_an_empty_folder_find_one_another(
    empty: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    small = [word for value in QUICK for word in ("--set", value)]
    assert dedier(monkeypatch, "train-teacher", *small) == 0
    assert dedier(monkeypatch, "train-student", "--aux-layer", "3", *small) == 0
    assert dedier(monkeypatch, "eval", "--groups", "negation", *small) == 0
    table = capsys.readouterr().out
    assert "laplace-layer3" in table
    assert "worst group" in table
    evaluations = empty / "runs/default/evaluations"
    assert sorted(path.name for path in evaluations.iterdir()) == ["laplace-layer3", "teacher"]
    evaluation = evaluations / "laplace-layer3/test-negation/evaluation.json"
    assert json.loads(evaluation.read_text())["n"] == 24
    assert dedier(monkeypatch, "eval", "--exits", *small) == 0
    assert "coverage" in capsys.readouterr().out
    assert len(json.loads(evaluation.with_name("exits.json").read_text())["laplace"]) == 6


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train-teacher", "--config", "nowhere.yaml"], ["nowhere.yaml", "quickstart"]),
        (["train-teacher", "--set", "teacher.trainin=3"], ["teacher.trainin", "'training'"]),
        (["train-teacher", "--set", "weights.beta=-1"], ["weights.beta", "-1", "0"]),
        (["train-teacher", "--set", "teacher.training.learning_rte=1"], ["'learning_rate'"]),
        (["train-student", "--method", "laplas", "--set", "seed=0"], ["laplas", "'laplace'"]),
        (["train-student", "--aux-layer", "0"], ["aux.layers", "0", "1"]),
        (["train-student", "--aux-layer", "7"], ["7", "6 layers", "1 to 6"]),
        (["train-student", "--method", "kd"], ["no teacher", "train-teacher", "--teacher"]),
        (["eval", "--groups", "negaton"], ["negaton", "negation"]),
        (["eval", "--split", "tset"], ["tset", "'test'"]),
        (["eval"], ["no trained model", "train-teacher"]),
        (["eval", "--exits", "--split", "validation"], ["--exits", "validation", "test"]),
        (["eval", "--model", "nowhere"], ["nowhere"]),
        (["train-teacher", "--device", "cuda"], ["cuda", "--device"]),
        (
            ["inspect", "--set", "data.corpus=files", "--set", "data.files.train=gone.jsonl"],
            ["gone.jsonl", "data.files.train"],
        ),
        (
            ["train-teacher", "--set", "teacher.model=no/such-model"],
            ["no/such-model", "network"],
        ),
        (
            ["inspect", "--set", "data.corpus=multinli", "--set", "data.hub_name=no/such"],
            ["no/such"],
        ),
    ],
)
def test_a_mistake_gets_one_sentence_and_exit_code_2(
    arguments: list[str],
    words: list[str],
    empty: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    if "cuda" in arguments:
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert dedier(monkeypatch, *arguments) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("dedier: ")
    assert all(word in error for word in words), error
    assert "Traceback" not in error
    assert not (empty / "runs").exists()


def test_an_unknown_option_exits_with_2(monkeypatch: pytest.MonkeyPatch) -> None:
    assert dedier(monkeypatch, "run", "--confg", "x") == 2


def test_interrupting_exits_with_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dedier_laplace.config.load_config", interrupt)
    assert dedier(monkeypatch, "config") == 130


def test_config_prints_what_it_reads_back(
    empty: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    assert dedier(monkeypatch, "config", "--config", "mnli", "--output", "out") == 0
    printed = capsys.readouterr().out
    assert (empty / "out/config.yaml").read_text() == printed
    assert dedier(monkeypatch, "config", "--config", "out/config.yaml") == 0
    assert capsys.readouterr().out == printed
    assert dedier(monkeypatch, "config", "--schema") == 0
    assert "properties" in json.loads(capsys.readouterr().out)


def test_inspect_shows_groups_and_association(
    empty: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    rows = [
        {"premise": "a b", "hypothesis": text, "label": label}
        for text, label in [("no c", "contradiction"), ("c", "entailment"), ("d", "neutral")] * 8
    ] + [{"premise": "a", "hypothesis": "", "label": "neutral"}]
    (empty / "own.jsonl").write_text("\n".join(map(json.dumps, rows)))
    arguments = ["data.corpus=files", "data.files={train: own.jsonl}", "data.carve=0.25"]
    options = [word for value in arguments for word in ("--set", value)]
    assert dedier(monkeypatch, "inspect", *options, "--output", "out") == 0
    printed = capsys.readouterr().out
    assert "contradiction, negation" in printed
    assert "empty text" in printed
    summary = json.loads((empty / "out/corpus.json").read_text())
    assert summary["splits"]["train"]["cramers_v"] == pytest.approx(1.0)
    assert summary["splits"]["train"]["attribute_rule_accuracy"] == pytest.approx(2 / 3)
