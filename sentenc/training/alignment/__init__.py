"""Alignment: fits a CSE into the vector space of another encoder, from that encoder's vectors alone."""

from sentenc.training.alignment.aligning import Alignment, align
from sentenc.training.alignment.report import AlignmentReport
from sentenc.training.alignment.settings import AlignmentSettings
from sentenc.training.alignment.vectors_alone import align_vectors

__all__ = ["Alignment", "AlignmentReport", "AlignmentSettings", "align", "align_vectors"]
