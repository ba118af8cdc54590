"""BERT encoders on ONNX Runtime, TinyBERT among them."""
