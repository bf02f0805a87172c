"""Training by epochs: `transformers.Trainer`, validated per group after each, one record an epoch.

Shared by teacher and student. Which epoch is kept is decided on validation (`select_by`); no test
sample is ever seen here.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from math import ceil
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import (
    DataCollatorWithPadding,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from dedier_laplace.config.load import training_values
from dedier_laplace.errors import UserError
from dedier_laplace.inference import classify

log = logging.getLogger(__name__)

Metrics = Callable[[Tensor], dict[str, Any]]  # validation logits [N, C] -> named metrics


def training_arguments(
    training: Mapping[str, Any],
    *,
    output_dir: Path,
    seed: int,
    device: str,
    select_by: str,
    progress: bool,
    eval_batch_size: int,
) -> TrainingArguments:
    """TrainingArguments of a `training:` block, with what this package decides itself.

    Raises:
        UserError: the device is not there, or transformers refuses a value.
    """
    check_device(device)
    keeps_best = select_by != "last"
    decided = {
        "output_dir": str(output_dir),
        "seed": seed,
        "use_cpu": device == "cpu",
        "disable_tqdm": not progress,
        "remove_unused_columns": False,
        "label_names": ["labels"],
        "eval_strategy": "epoch",
        "save_strategy": "epoch" if keeps_best else "no",
        "load_best_model_at_end": keeps_best,
        "metric_for_best_model": select_by if keeps_best else None,
        "greater_is_better": True if keeps_best else None,
    }
    defaults = {
        "report_to": "none",
        "logging_strategy": "epoch",
        "logging_nan_inf_filter": False,
        "save_only_model": True,
        "save_total_limit": 1,
        "dataloader_pin_memory": torch.cuda.is_available(),
        "per_device_eval_batch_size": eval_batch_size,
    }
    try:
        arguments = TrainingArguments(**{**defaults, **training_values(training), **decided})
    except (ValueError, ImportError, RuntimeError) as error:
        raise UserError(f"transformers refuses the training block: {error}") from error
    if arguments.n_gpu > 1:
        raise UserError(
            f"{arguments.n_gpu} GPUs are visible, and one is used; set CUDA_VISIBLE_DEVICES=0."
        )
    if arguments.num_train_epochs <= 0 and arguments.max_steps <= 0:
        raise UserError(f"num_train_epochs is {arguments.num_train_epochs}: it must be above 0.")
    return arguments


def check_device(device: str) -> None:
    """Refuse a device this machine lacks.

    Raises:
        UserError: it is not available.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(device, True):
        raise UserError(f"The device {device} is not available here; use --device auto or cpu.")


class StopAfter(TrainerCallback):
    """Ends training after an epoch, on the schedule of the whole training."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if ceil(state.epoch) >= self.epochs:
            control.should_training_stop = True


class _Bar(ProgressCallback):
    """The progress bar without the raw log lines between."""

    def on_log(self, *args: Any, **kwargs: Any) -> None:
        pass


class EpochTrainer(Trainer):
    """A Trainer whose evaluation is one pass batched by length, and whose epochs are recorded.

    Args:
        validation: tokenized validation split.
        metrics: validation logits to metrics; `accuracy` and `worst_group_accuracy` are shown.
        epochs_file: gets one JSON line an epoch.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        args: TrainingArguments,
        train: Dataset,
        tokenizer: PreTrainedTokenizerBase,
        *,
        validation: Dataset,
        metrics: Metrics,
        epochs_file: Path,
    ) -> None:
        try:
            super().__init__(
                model=model,
                args=args,
                train_dataset=train,
                eval_dataset=validation,
                data_collator=DataCollatorWithPadding(tokenizer),
                processing_class=tokenizer,
            )
        except (ValueError, ImportError, RuntimeError) as error:
            raise UserError(f"transformers refuses the training block: {error}") from error
        # Our losses and the models' own are means over the batch, so the Trainer has to divide them
        # by the accumulation steps.
        self.loss_is_scaled_for_ga = False
        self.model_accepts_loss_kwargs = False
        if not args.disable_tqdm:
            self.remove_callback(ProgressCallback)
            self.add_callback(_Bar)
        self.remove_callback(PrinterCallback)
        self.classifier, self.tokenizer = model, tokenizer
        self.train_split, self.validation, self.metrics = train, validation, metrics
        self.epochs_file = epochs_file
        self.epochs: list[dict[str, Any]] = []
        self._epoch_began = time.monotonic()

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Validate, append the epoch's record, and hand the Trainer what it selects by."""
        batch_size = self.args.per_device_eval_batch_size
        logits = classify(self.classifier, self.validation, self.tokenizer, batch_size)
        if not logits.isfinite().all():
            raise UserError(
                f"The model's logits are not finite after epoch {ceil(self.state.epoch or 0)}: "
                "training diverged; lower training.learning_rate."
            )
        metrics = self.metrics(logits)
        now = time.monotonic()
        record = {
            "epoch": ceil(self.state.epoch or 0),
            "train_loss": self._last_loss(),
            "validation": metrics,
            **self.epoch_extras(),
            "seconds": round(now - self._epoch_began, 3),
        }
        self._epoch_began = now
        self.epochs.append(record)
        with self.epochs_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        log.info(
            "epoch %d of %g: loss %.3f, validation accuracy %.1f, worst group %.1f",
            record["epoch"],
            self.args.num_train_epochs,
            record["train_loss"] or float("nan"),
            100 * metrics["accuracy"],
            100 * metrics["worst_group_accuracy"],
        )
        prefixed = {
            f"{metric_key_prefix}_{name}": value
            for name, value in metrics.items()
            if isinstance(value, float)
        }
        self.log(prefixed)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, prefixed
        )
        return prefixed

    def epoch_extras(self) -> dict[str, Any]:
        """What a method adds to an epoch's record."""
        return {}

    @property
    def best_epoch(self) -> int:
        """The epoch whose weights the model holds after training."""
        best = self.state.best_metric
        if not self.args.load_best_model_at_end or best is None:
            return self.epochs[-1]["epoch"]
        name = self.args.metric_for_best_model
        return next(e["epoch"] for e in self.epochs if e["validation"][name] == best)

    def _last_loss(self) -> float | None:
        return next(
            (entry["loss"] for entry in self.state.log_history[::-1] if "loss" in entry), None
        )
