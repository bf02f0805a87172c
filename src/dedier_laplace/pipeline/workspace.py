"""What every stage works on: config, run folder, corpus, and models ready to be trained."""

from __future__ import annotations

import dataclasses
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import (
    AutoConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainingArguments,
    set_seed,
)

from dedier_laplace.config import Config, with_overrides
from dedier_laplace.config.explain import resolved
from dedier_laplace.config.schema import ScratchModel, Student, Teacher
from dedier_laplace.data.corpus import Corpus, load_corpus, unlabelled_pairs
from dedier_laplace.data.generated import word_tokenizer
from dedier_laplace.data.tokens import tokenize
from dedier_laplace.errors import UserError
from dedier_laplace.evaluation.groups import group_metrics
from dedier_laplace.models import (
    accepted_inputs,
    check_fit,
    classifier_from_config,
    load_classifier,
    load_tokenizer,
    model_config,
)
from dedier_laplace.pretraining import pretrain
from dedier_laplace.run_folder import (
    RunFolder,
    building,
    fingerprint_of,
    model_fingerprint,
)
from dedier_laplace.training import check_device, training_arguments

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Workspace:
    """One config in one run folder, on one corpus."""

    config: Config
    folder: RunFolder
    corpus: Corpus
    run_config: Config  # what the run folder records: without one student's overrides
    progress: bool = False

    @classmethod
    def open(cls, config: Config, output: Path, progress: bool = False) -> Workspace:
        """Read the corpus a config names and say aloud what was decided about it."""
        check_device(config.device)
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise UserError("Several processes are not supported yet; start one, without torchrun.")
        corpus = load_corpus(config.data, config.eval.groups)
        for note in corpus.notes:
            log.info("data, %s", note)
        return cls(config, RunFolder.at(output), corpus, config, progress)

    def with_config(self, config: Config) -> Workspace:
        """The same run and corpus under one student's config."""
        return dataclasses.replace(self, config=config)

    def for_seed(self, seed: int) -> Workspace:
        """The same config and corpus under another seed, in that seed's folder."""
        config = with_overrides(self.config, {"seed": seed})
        folder = self.folder.for_seed(seed, self.config.seed)
        return dataclasses.replace(self, config=config, run_config=config, folder=folder)

    def data_fingerprint(self) -> str:
        """A hash of the rows that training sees and of how they are cut."""
        return fingerprint_of(
            train=self.corpus.splits["train"]._fingerprint,
            validation=self.corpus.splits["validation"]._fingerprint,
            labels=self.corpus.label_names,
            max_length=self.config.data.max_length,
        )

    def start_model(
        self, spec: Teacher | Student
    ) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """The model a `teacher` or `student` block names, its head new, and its tokenizer."""
        source, labels = spec.model, self.corpus.label_names
        if isinstance(source, str):
            name = source if spec.tokenizer == "same" else spec.tokenizer
            tokenizer = load_tokenizer(name)
            set_seed(self.config.seed)
            model = load_classifier(source, labels)
            check_fit(model, tokenizer, self.config.data.max_length)
            return model, tokenizer
        tokenizer = self._scratch_tokenizer(spec)
        if source.pretraining is None:
            set_seed(self.config.seed)
            model = classifier_from_config(source.config, tokenizer, labels)
            check_fit(model, tokenizer, self.config.data.max_length)
            return model, tokenizer
        backbone = self._pretrained(source, tokenizer)
        set_seed(self.config.seed)
        return load_classifier(backbone, labels), tokenizer

    def tokenized(
        self, split: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
    ) -> Dataset:
        """A split as this model reads it."""
        rows, max_length = self.corpus.splits[split], self.config.data.max_length
        return tokenize(rows, tokenizer, max_length, accepted_inputs(model))

    def validation_metrics(self) -> Callable[[Tensor], dict[str, Any]]:
        """Validation logits [N, C] to accuracy, worst group, mean of groups, every group."""
        labels = torch.tensor(self.corpus.splits["validation"]["label"]).numpy()
        groups = self.corpus.groups("validation", self.config.eval.groups)

        def metrics(logits: Tensor) -> dict[str, Any]:
            found = group_metrics(logits.argmax(1).numpy(), labels, groups)
            names = ("accuracy", "worst_group_accuracy", "group_mean_accuracy")
            by_group = {group["name"]: group["accuracy"] for group in found["groups"]}
            return {**{name: found[name] for name in names}, "groups": by_group}

        return metrics

    def device(self) -> torch.device:
        """Where forward passes outside training run."""
        if self.config.device != "auto":
            return torch.device(self.config.device)
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")

    def training_arguments(self, spec: Teacher | Student, output_dir: Path) -> TrainingArguments:
        """What transformers' Trainer gets from a `teacher` or `student` block."""
        return training_arguments(
            spec.training,
            output_dir=output_dir,
            seed=self.config.seed,
            device=self.config.device,
            select_by=spec.select_by,
            progress=self.progress,
            eval_batch_size=self.config.eval.batch_size,
        )

    def start_fingerprint(self, spec: Teacher | Student) -> list[Any]:
        """What a block starts from, the content of local folders and of pre-training included."""
        names = (spec.model, spec.tokenizer)
        folders = [Path(name) for name in names if isinstance(name, str) and Path(name).is_dir()]
        pretrained = isinstance(spec.model, ScratchModel) and spec.model.pretraining is not None
        return [
            *spec.model_dump(mode="json", include={"model", "tokenizer"}).values(),
            *(model_fingerprint(folder) for folder in folders),
            unlabelled_pairs(self.config.data)._fingerprint if pretrained else None,
        ]

    def record_stage(self, stage: str, began: float) -> None:
        """Note in the run folder that a stage which began then (monotonic clock) is finished."""
        seconds = time.monotonic() - began
        self.folder.record_stage(stage, seconds, resolved(self.run_config), self.run_config.seed)

    def _scratch_tokenizer(self, spec: Teacher | Student) -> PreTrainedTokenizerBase:
        if spec.tokenizer != "same":
            return load_tokenizer(spec.tokenizer)
        if self.config.data.corpus != "generated":
            raise UserError(
                "A model.config block needs a tokenizer on this corpus: set tokenizer beside model."
            )
        return word_tokenizer()

    def _pretrained(self, source: ScratchModel, tokenizer: PreTrainedTokenizerBase) -> Path:
        """The cached backbone of a config block, pre-trained now if it is not there yet."""
        rows = unlabelled_pairs(self.config.data)
        assert source.pretraining is not None
        key = fingerprint_of(
            source=source.model_dump(),
            rows=rows._fingerprint,
            vocabulary=tokenizer.get_vocab(),
            max_length=self.config.data.max_length,
        )
        folder = self.folder.cache / "pretrained" / key[:32]
        if not folder.exists():
            with building(folder) as partial:
                pretrain(
                    source.config,
                    tokenizer,
                    rows,
                    partial,
                    training=source.pretraining,
                    mlm_probability=source.mlm_probability,
                    max_length=self.config.data.max_length,
                    seed=source.pretraining_seed,
                    device=self.config.device,
                    progress=self.progress,
                )
        return folder


def depth_of(source: str | ScratchModel) -> int:
    """Layers of the model a block names, from its config alone.

    Raises:
        UserError: there is no such model.
    """
    try:
        if isinstance(source, str):
            return AutoConfig.from_pretrained(source, trust_remote_code=False).num_hidden_layers
        return model_config(source.config).num_hidden_layers
    except (OSError, ValueError, TypeError, AttributeError) as error:
        first = str(error).strip().splitlines()[0]
        raise UserError(f"The model {source} cannot be found: {first}") from error
