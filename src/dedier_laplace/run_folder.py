"""Where a run keeps what; atomic writes; fingerprints; the record of versions, hardware, timings.

DIR/run.json, config.yaml        what ran, with what, how long
DIR/teacher/, students/<name>/   Hugging Face model folders, and our own parts beside them
DIR/evaluations/<model>/<split>-<groups>/
DIR/cache/                       pre-trained backbones, teacher logits: safe to delete
DIR/report/                      tables
DIR/seed-<n>/                    the same for every further seed of `dedier run`
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from dedier_laplace.errors import UserError

RECORD = "training.json"  # in a model folder that is complete
PACKAGES = (
    "dedier-laplace",
    "torch",
    "transformers",
    "datasets",
    "accelerate",
    "laplace-torch",
    "numpy",
)


@dataclass(frozen=True)
class RunFolder:
    """Paths of one run; `cache` may be shared between the seeds of a run."""

    root: Path
    cache: Path

    @classmethod
    def at(cls, root: Path) -> RunFolder:
        """The run folder at a path, its cache inside."""
        return cls(root, root / "cache")

    def for_seed(self, seed: int, base_seed: int) -> RunFolder:
        """This folder for the config's own seed, `seed-<n>/` in it for another; one cache."""
        return self if seed == base_seed else RunFolder(self.root / f"seed-{seed}", self.cache)

    @property
    def teacher(self) -> Path:
        """The teacher's model folder."""
        return self.root / "teacher"

    def student(self, name: str) -> Path:
        """A student's model folder."""
        return self.root / "students" / name

    def evaluation(self, model: str, split: str, groups: str) -> Path:
        """The folder of one model's evaluation."""
        return self.root / "evaluations" / model / f"{split}-{groups}"

    def models(self) -> dict[str, Path]:
        """Complete models by name, the teacher first."""
        students = sorted((self.root / "students").glob(f"*/{RECORD}"))
        folders = [self.teacher] if (self.teacher / RECORD).exists() else []
        folders += [record.parent for record in students]
        return {folder.name: folder for folder in folders}

    def record_stage(self, stage: str, seconds: float, config: str, seed: int) -> None:
        """Put a finished stage into run.json and the resolved config into config.yaml."""
        path = self.root / "run.json"
        run = read_json(path) if path.exists() else {"stages": {}}
        run |= {"seed": seed, **environment()}
        finished = datetime.now(UTC).isoformat(timespec="seconds")
        run["stages"][stage] = {"seconds": round(seconds, 3), "finished": finished}
        write_json(path, run)
        write_text(self.root / "config.yaml", config)


def already_there(folder: Path, fingerprint: str, overwrite: bool, otherwise: str) -> bool:
    """Whether `folder` holds this very result already.

    Args:
        fingerprint: of all that decides the result.
        overwrite: replace whatever else is there.
        otherwise: what the user can do instead of overwriting.

    Raises:
        UserError: it holds another run's result, and `overwrite` is not set.
    """
    record = folder / RECORD
    if record.exists() and read_json(record).get("fingerprint") == fingerprint:
        return True
    if overwrite or not folder.exists():
        return False
    raise UserError(
        f"{folder} holds the results of another config, seed or data; {otherwise}, or pass "
        "--overwrite to replace them."
    )


@contextmanager
def building(folder: Path) -> Iterator[Path]:
    """A folder beside `folder` to write into, which takes its place when all went well."""
    partial = folder.with_name(f".{folder.name}.partial")
    try:
        if partial.exists():
            shutil.rmtree(partial)
        partial.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"The output folder {folder} cannot be written: {error}.") from error
    try:
        yield partial
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
    finally:
        if partial.exists():
            shutil.rmtree(partial)


def fingerprint_of(**parts: Any) -> str:
    """A hash of JSON-like parts, whatever their order."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def model_fingerprint(model_folder: Path) -> str:
    """A hash of a model folder's weights, config and tokenizer."""
    digest = hashlib.sha256()
    parts = ("*.safetensors", "config.json", "tokenizer*.json", "vocab.*")
    for path in sorted(path for part in parts for path in model_folder.glob(part)):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write a file beside, then rename it into place."""
    _written_whole(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def write_parquet(path: Path, table: Any) -> None:
    """Write a pyarrow table atomically."""
    from pyarrow import parquet

    _written_whole(path, lambda partial: parquet.write_table(table, partial))


def _written_whole(path: Path, write: Callable[[Path], Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        write(partial)
        os.replace(partial, path)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error}.") from error


def write_json(path: Path, data: Any) -> None:
    """Write JSON atomically."""
    write_text(path, json.dumps(data, indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object this package wrote.

    Raises:
        UserError: it is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); remove it or its folder.") from error


def environment() -> dict[str, Any]:
    """Versions, git commit and hardware."""
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "versions": {"python": platform.python_version(), **_versions()},
        "git_commit": _git_commit(),
        "hardware": {
            "machine": platform.machine(),
            "cpus": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "gpus": gpus,
        },
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _git_commit() -> str | None:
    """Commit of this package's source, `-dirty` behind it if changed; None outside git."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        commit, changes = git("rev-parse", "HEAD"), git("status", "--porcelain")
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{commit}-dirty" if changes else commit
