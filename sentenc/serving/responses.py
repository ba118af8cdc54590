"""Formats vectors as JSON."""

from sentenc.encoders.encode_options import Vectors


def json_rows(matrix: Vectors) -> list[bytes]:
    """Formats each row of a matrix (n, d) as a JSON array; its nine digits restore a float32 exactly."""
    layout = "[" + ",".join(["%.9g"] * matrix.shape[1]) + "]"
    return [(layout % tuple(row.tolist())).encode() for row in matrix]
