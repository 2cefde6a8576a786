"""Errors whose text is not "op: facts; a way out" yet, one to a line: a line goes when its text is mended."""

WORDING_GAPS = frozenset(
    """
    cat-none
    einsum-twice
    embedding-dtype
    masked_select-dtype
    stack-none
    """.split()
)
