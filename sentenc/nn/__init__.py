"""PyTorch modules for training."""
