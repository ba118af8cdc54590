"""The training loop: trainer, optimizer, checkpoints, processes and logs."""
