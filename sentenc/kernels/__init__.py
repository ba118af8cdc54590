"""The native inner loops: tokenization, table look-up, pooling and top-k selection."""
