"""What methods ask for before training: teacher outputs and JTT's error set, computed once."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import torch
from datasets import Dataset
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from dedier_laplace.data.tokens import INDEX, content_fingerprint
from dedier_laplace.inference import classifier_features, classify
from dedier_laplace.models import final_linear, label_order, load_tokenizer, load_trained
from dedier_laplace.pipeline.workspace import Workspace
from dedier_laplace.run_folder import fingerprint_of, model_fingerprint
from dedier_laplace.training import EpochTrainer, StopAfter

log = logging.getLogger(__name__)

Pass = Callable[[PreTrainedModel, Dataset, PreTrainedTokenizerBase, int], Tensor]


class TrainingSources:
    """Of one student's training; what is costly is kept in the run folder's cache.

    Args:
        workspace: config, run folder and corpus.
        student: the model that is about to be trained.
        teacher: a trained model folder; None for methods that need none.
    """

    def __init__(
        self, workspace: Workspace, student: PreTrainedModel, teacher: Path | None
    ) -> None:
        self.student = student
        self.groups = workspace.corpus.groups("train", workspace.config.eval.groups)
        self._workspace, self._teacher_folder = workspace, teacher

    def teacher_logits(self) -> Tensor:
        """[N, C], in the student's label order.

        Raises:
            UserError: the teacher cannot be loaded, or its labels are not the corpus's.
        """
        _, order = self._teacher
        return self._of_teacher("teacher_logits", classify)[:, order]

    def teacher_features(self) -> Tensor:
        """[N, D], what the teacher's last linear layer reads."""
        return self._of_teacher("teacher_features", classifier_features)

    def teacher_head(self) -> nn.Linear:
        """The teacher's last linear layer, its outputs in the student's label order."""
        teacher, order = self._teacher
        parent, name = final_linear(teacher)
        own = getattr(parent, name)
        head = nn.Linear(own.in_features, own.out_features)
        with torch.no_grad():
            head.weight.copy_(own.weight[order])
            head.bias.copy_(torch.zeros_like(head.bias) if own.bias is None else own.bias[order])
        return head

    def error_set(self, epochs: int) -> Tensor:
        """bool [N]: samples that the student, trained by ERM and stopped early, gets wrong."""
        workspace, config = self._workspace, self._workspace.config
        spec = config.student.model_copy(update={"select_by": "last"})
        key = fingerprint_of(
            data=workspace.data_fingerprint(),
            student=workspace.start_fingerprint(spec),
            training=spec.training,
            seed=config.seed,
            epochs=epochs,
        )

        def compute() -> Tensor:
            log.info("error set: training the student by ERM for %d epochs", epochs)
            with tempfile.TemporaryDirectory() as folder:
                model, tokenizer = workspace.start_model(spec)
                tokens = workspace.tokenized("train", model, tokenizer)
                trainer = EpochTrainer(
                    model,
                    workspace.training_arguments(spec, Path(folder)),
                    tokens.remove_columns(INDEX),
                    tokenizer,
                    validation=workspace.tokenized("validation", model, tokenizer),
                    metrics=workspace.validation_metrics(),
                    epochs_file=Path(folder) / "epochs.jsonl",
                )
                trainer.add_callback(StopAfter(epochs))
                trainer.train()
                logits = classify(model, tokens, tokenizer, config.eval.batch_size)
            return logits.argmax(1) != torch.tensor(workspace.corpus.splits["train"]["label"])

        return self._cached("error_sets", key, compute)

    @cached_property
    def _teacher(self) -> tuple[PreTrainedModel, list[int]]:
        """The teacher, and for each label of the corpus its number for it."""
        assert self._teacher_folder is not None
        teacher = load_trained(self._teacher_folder)
        names = self._workspace.corpus.label_names
        return teacher, label_order(teacher, names, self._teacher_folder)

    def _of_teacher(self, kind: str, forward: Pass) -> Tensor:
        """What a forward pass of the teacher over the training split gives."""
        assert self._teacher_folder is not None
        workspace, (teacher, _) = self._workspace, self._teacher
        tokenizer = load_tokenizer(self._teacher_folder)
        tokens = workspace.tokenized("train", teacher, tokenizer)
        key = fingerprint_of(
            teacher=model_fingerprint(self._teacher_folder), tokens=content_fingerprint(tokens)
        )

        def compute() -> Tensor:
            log.info("%s of %d training pairs", kind.replace("_", " "), len(tokens))
            teacher.to(workspace.device())  # type: ignore[arg-type]
            return forward(teacher, tokens, tokenizer, workspace.config.eval.batch_size)

        return self._cached(kind, key, compute)

    def _cached(self, kind: str, key: str, compute: Callable[[], Tensor]) -> Tensor:
        """A tensor of the cache, computed now if it is not there yet."""
        path = self._workspace.folder.cache / kind / f"{key}.safetensors"
        if not path.exists():
            tensor = compute()
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(f".{os.getpid()}.partial")
            save_file({kind: tensor.contiguous()}, partial)
            partial.rename(path)
        return load_file(path)[kind]
