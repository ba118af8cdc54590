"""Static models: the vector of a text is pooled from rows of its tokens, which do not depend on their neighbors."""
