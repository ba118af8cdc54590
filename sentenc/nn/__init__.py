"""Torch modules, for training."""
