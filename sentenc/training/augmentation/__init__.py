"""Data augmentation for task distillation (Algorithm 1 of TinyBERT)."""
