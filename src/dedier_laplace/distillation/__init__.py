"""Distillation: teacher logits, per-sample weights, the loss, the trainer, one file a method.

May import `data`, `models`, `readout` and `training`; knows nothing of run folders or reports.
Sources: Hinton et al. 2015 (1503.02531), DeDiER (2310.18590), 2505.01070.
"""
