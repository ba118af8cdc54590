"""The encoders, and the interface they share."""
