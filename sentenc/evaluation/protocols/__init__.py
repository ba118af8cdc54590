"""Evaluation protocols: the procedures that turn the vectors of a task into its scores."""
