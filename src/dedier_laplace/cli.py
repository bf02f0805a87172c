"""The `dedier` command: parse, load the config, call a stage, print. No logic.

Everything heavy is imported inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dedier_laplace.errors import UserError

if TYPE_CHECKING:
    from dedier_laplace.config import Config
    from dedier_laplace.pipeline import Workspace
    from dedier_laplace.report.tables import Table

app = typer.Typer(
    name="dedier",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Distil a classifier, weight its training samples by what an early exit gets confidently "
    "wrong, and see every group's accuracy.\n\n"
    "In an empty folder, offline, within minutes: dedier run",
)

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="YAML file, or a shipped one by name: quickstart, mnli."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="KEY.PATH=VALUE", help="Set any field; repeatable."),
]
Output = Annotated[Path, typer.Option("--output", "-o", help="The run folder.")]
OptionalOutput = Annotated[
    Path | None, typer.Option("--output", "-o", help="Also write what is printed to this folder.")
]
Seed = Annotated[int | None, typer.Option("--seed", help="Overrides the config's seed.")]
Device = Annotated[str | None, typer.Option("--device", help="auto, cpu, cuda or mps.")]


def _without_bars(quiet: bool) -> bool:
    """Switch progress bars off for --quiet and where nobody watches; tqdm reads this on import."""
    if quiet or not sys.stderr.isatty():
        os.environ["TQDM_DISABLE"] = "1"
    return quiet


Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="No progress, results only.", callback=_without_bars),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace results of another config, seed or data.")
]
DEFAULT_OUTPUT = Path("runs/default")


@app.command("train-teacher")
def train_teacher(
    config: ConfigFile = None,
    set_: Overrides = None,
    output: Output = DEFAULT_OUTPUT,
    seed: Seed = None,
    device: Device = None,
    quiet: Quiet = False,
    overwrite: Overwrite = False,
) -> None:
    """Fine-tune the teacher.

    Examples:

        dedier train-teacher

        dedier train-teacher --config mnli --set teacher.training.num_train_epochs=2
    """
    loaded = _load(config, set_, seed, device)
    with _workspace(loaded, output, quiet) as workspace:
        from dedier_laplace import pipeline

        print(pipeline.train_teacher(workspace, overwrite=overwrite))


@app.command("train-student")
def train_student(
    config: ConfigFile = None,
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            "-m",
            help="erm, kd, dedier, laplace, jtt, group_dro, simkd, dett, or a control: shuffled, "
            "uniform.",
        ),
    ] = None,
    aux_layer: Annotated[
        int | None, typer.Option("--aux-layer", help="Student layer the readout reads, from 1.")
    ] = None,
    teacher: Annotated[
        Path | None, typer.Option("--teacher", help="A trained model folder [the run's own].")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Folder name [method and layer].")
    ] = None,
    set_: Overrides = None,
    output: Output = DEFAULT_OUTPUT,
    seed: Seed = None,
    device: Device = None,
    quiet: Quiet = False,
    overwrite: Overwrite = False,
) -> None:
    """Train a student by one method.

    Examples:

        dedier train-student --aux-layer 3

        dedier train-student --method kd --set student.temperature=4 --name kd-t4

        dedier train-student --method laplace --teacher models/my-teacher
    """
    shorthands = {
        "student.method": method,
        "aux.layers": None if aux_layer is None else [aux_layer],
    }
    loaded = _load(config, set_, seed, device, **shorthands)
    with _workspace(loaded, output, quiet) as workspace:
        from dedier_laplace import pipeline

        folder = pipeline.train_student(workspace, teacher=teacher, name=name, overwrite=overwrite)
        print(folder)


@app.command("eval")
def evaluate(
    config: ConfigFile = None,
    model: Annotated[
        list[Path] | None,
        typer.Option("--model", help="A trained model folder; repeatable [all of the run]."),
    ] = None,
    groups: Annotated[
        str | None, typer.Option("--groups", help="Attribute of the groups, such as negation.")
    ] = None,
    split: Annotated[str | None, typer.Option("--split", help="validation or test.")] = None,
    exits: Annotated[
        bool, typer.Option("--exits", help="Also fit a readout on every layer and evaluate each.")
    ] = False,
    set_: Overrides = None,
    output: Output = DEFAULT_OUTPUT,
    seed: Seed = None,
    device: Device = None,
    quiet: Quiet = False,
    overwrite: Overwrite = False,
) -> None:
    """Evaluate models per group: accuracy, worst group, mean of groups; with --exits their layers.

    Examples:

        dedier eval --groups negation

        dedier eval --exits --model runs/default/students/kd

        dedier eval --model my-model --config mnli --split validation
    """
    loaded = _load(config, set_, seed, device, **{"eval.groups": groups, "eval.split": split})
    with _workspace(loaded, output, quiet) as workspace:
        from dedier_laplace import pipeline

        if exits:
            pipeline.check_split(loaded)
        models = pipeline.named_models(model) if model else None
        evaluations = pipeline.evaluate(workspace, models, overwrite=overwrite)
        _print_tables(pipeline.tables(evaluations))
        if exits:
            for record in pipeline.evaluate_exits(workspace, evaluations, overwrite=overwrite):
                _print_tables(pipeline.exits_tables(record))


@app.command()
def run(
    config: ConfigFile = None,
    set_: Overrides = None,
    output: Output = DEFAULT_OUTPUT,
    seed: Seed = None,
    device: Device = None,
    quiet: Quiet = False,
    overwrite: Overwrite = False,
) -> None:
    """Teacher, every student, every seed, evaluation, one table; what is there is not done again.

    Examples:

        dedier run

        dedier run --config mnli --set 'seeds=[0,1,2,3,4]' --output runs/mnli
    """
    loaded = _load(config, set_, seed, device, seeds=None if seed is None else [seed])
    with _workspace(loaded, output, quiet) as workspace:
        from dedier_laplace import pipeline

        _print_tables(pipeline.tables(pipeline.run(workspace, overwrite=overwrite)))


@app.command()
def inspect(
    config: ConfigFile = None,
    groups: Annotated[
        str | None, typer.Option("--groups", help="Attribute of the groups, such as negation.")
    ] = None,
    set_: Overrides = None,
    output: OptionalOutput = None,
    seed: Seed = None,
    device: Device = None,
    quiet: Quiet = False,
) -> None:
    """Look at a corpus before training: rows, groups, what the attribute tells of the label.

    Examples:

        dedier inspect

        dedier inspect --config mnli_local --set data.files.train=train.jsonl
    """
    loaded = _load(config, set_, seed, device, **{"eval.groups": groups})
    with _messages(quiet):
        from dedier_laplace.pipeline.inspect import inspect_corpus
        from dedier_laplace.report.corpus import print_summary

        summary = inspect_corpus(loaded)
        print_summary(summary, _console())
        if output is not None:
            from dedier_laplace.run_folder import write_json

            write_json(output / "corpus.json", summary)


@app.command("config")
def show_config(
    config: ConfigFile = None,
    set_: Overrides = None,
    schema: Annotated[bool, typer.Option("--schema", help="The JSON schema instead.")] = False,
    output: OptionalOutput = None,
    seed: Seed = None,
    device: Device = None,
    quiet: Quiet = False,
) -> None:
    """Print the resolved config, each field's help beside it.

    Examples:

        dedier config --config mnli --set weights.beta=2

        dedier config --schema > dedier.schema.json
    """
    from dedier_laplace.config.explain import explained, json_schema

    if schema:
        text = json_schema()
    else:
        from dedier_laplace.pipeline.run import named_students

        loaded = _load(config, set_, seed, device)
        named_students(loaded)
        text = explained(loaded)
    if not quiet:
        print(text, end="")
    if output is not None:
        from dedier_laplace.run_folder import write_text

        write_text(output / ("config.schema.json" if schema else "config.yaml"), text)


def main() -> None:
    """Run the command line: exit code 2 and one sentence for a user's mistake, 130 interrupted."""
    try:
        app()
    except UserError as error:
        print(f"dedier: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("dedier: interrupted.", file=sys.stderr)
        sys.exit(130)


def _load(
    config: Path | None,
    overrides: list[str] | None,
    seed: int | None,
    device: str | None,
    **shorthands: Any,
) -> Config:
    """The config, with what the options say laid over `--set`."""
    import json

    from dedier_laplace.config import load_config

    said = {"seed": seed, "device": device, **shorthands}
    options = [f"{key}={json.dumps(value)}" for key, value in said.items() if value is not None]
    return load_config(config, [*(overrides or []), *options])


@contextmanager
def _messages(quiet: bool) -> Iterator[bool]:
    """Progress for a person at a terminal, plain lines elsewhere, only warnings when quiet."""
    progress = sys.stderr.isatty() and not quiet
    import datasets
    import transformers

    logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr, force=True)
    logging.getLogger("dedier_laplace").setLevel(logging.WARNING if quiet else logging.INFO)
    transformers.utils.logging.set_verbosity_error()
    if not progress:
        datasets.disable_progress_bars()
        transformers.utils.logging.disable_progress_bar()
    yield progress


@contextmanager
def _workspace(config: Config, output: Path, quiet: bool) -> Iterator[Workspace]:
    with _messages(quiet) as progress:
        from dedier_laplace.pipeline import Workspace

        yield Workspace.open(config, output, progress)


def _console() -> Any:
    """A console as wide as the terminal; wide enough for the tables where there is none."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=200)


def _print_tables(tables: list[Table]) -> None:
    console = _console()
    for table in tables:
        console.print(table.rich())
