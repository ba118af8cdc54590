"""English function words, which lexical search leaves out.

The list contains the closed classes of English words. Question words matter most: they are frequent in queries
and rare in documents, so that BM25 would give them much weight. ``us`` is not in the list because of the US.
"""

_CLASSES = (
    # Articles and demonstratives
    "a an the this that these those",
    # Pronouns
    "i me my mine myself we our ours ourselves you your yours yourself yourselves he him his himself she her hers "
    "herself it its itself they them their theirs themselves",
    # Question words
    "what which who whom whose when where why how",
    # Auxiliary verbs
    "am is are was were be been being have has had having do does did doing can could may might must shall should "
    "will would",
    # The parts of contractions
    "s t d m ll re ve don doesn didn isn aren wasn weren haven hasn hadn won wouldn shouldn couldn",
    # Conjunctions
    "and or but nor so if because although though while than as whether until",
    # Prepositions
    "of in on at to from by with without about against between into through during before after above below over "
    "under for up down out off",
    # Determiners and adverbs
    "not no any some all each every both either neither more most other such only also too very just then there "
    "here same many much few",
)

FUNCTION_WORDS = frozenset(" ".join(_CLASSES).split())
