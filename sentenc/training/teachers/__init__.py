"""Teachers, ensembles of teachers and their cached embeddings."""
