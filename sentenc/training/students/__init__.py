"""Torch modules that are trained and become encoders."""
