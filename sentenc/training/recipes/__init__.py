"""Recipes: complete training runs, from a configuration to a model folder."""
