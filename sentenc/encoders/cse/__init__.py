"""The CSE encoder: n-gram CNN sentence embeddings by table look-up."""
