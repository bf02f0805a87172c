"""Masked-language-model pre-training of tiny encoders, so that they behave like pre-trained ones.

Only for models built from a config block on the generated corpus; a pre-trained model from the hub
or a folder needs none of this.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import (
    AutoModelForMaskedLM,
    DataCollatorForLanguageModeling,
    PreTrainedTokenizerBase,
    Trainer,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_callback import PrinterCallback

from dedier_laplace.config.load import training_values
from dedier_laplace.models import model_config, model_from_config

log = logging.getLogger(__name__)

DEFAULTS = {
    "report_to": "none",
    "logging_strategy": "epoch",
    "dataloader_pin_memory": torch.cuda.is_available(),
}


def pretrain(
    fields: Mapping[str, Any],
    tokenizer: PreTrainedTokenizerBase,
    rows: Dataset,
    folder: Path,
    *,
    training: Mapping[str, Any],
    mlm_probability: float,
    max_length: int,
    seed: int,
    device: str,
    progress: bool,
) -> None:
    """Train a masked language model on unlabelled pairs and save it to `folder`.

    Args:
        fields: of the transformers config, `model_type` among them.
        rows: columns premise and hypothesis.
        training: TrainingArguments.
        mlm_probability: share of tokens masked.
    """
    set_seed(seed)
    config = model_config(fields, vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id)
    log.info("pre-training a %s encoder on %d pairs", config.model_type, len(rows))
    tokens = rows.map(
        lambda batch: tokenizer(
            batch["premise"], batch["hypothesis"], truncation=True, max_length=max_length
        ),
        batched=True,
        remove_columns=rows.column_names,
    )
    arguments = TrainingArguments(
        **{**DEFAULTS, **training_values(training)},
        output_dir=str(folder),
        save_strategy="no",
        seed=seed,
        use_cpu=device == "cpu",
        disable_tqdm=not progress,
    )
    model = model_from_config(AutoModelForMaskedLM, config)
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=tokens,
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm_probability=mlm_probability),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
