"""The type of a training example."""

# The texts that a loss compares: one, two (a pair) or three (a triplet).
Example = tuple[str, ...]
