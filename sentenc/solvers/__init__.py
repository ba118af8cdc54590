"""Solvers of logistic regressions, in NumPy.

``logistic_folds`` solves the same problem on many subsets of rows to convergence, for the probes of the
evaluation. ``logistic`` solves one problem with example weights and soft targets in single precision, for
classifier heads.
"""
