"""Probes: classifiers that are trained on frozen sentence vectors."""
