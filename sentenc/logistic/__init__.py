"""Logistic regression to convergence, many problems on the same features at once: for probes and classifiers."""
