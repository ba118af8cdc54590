"""Students: PyTorch modules that are trained and turned into encoders."""
