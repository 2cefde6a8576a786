"""Errors whose text is not "op: facts; a way out" yet, one to a line: a line goes when its text is mended."""

WORDING_GAPS = frozenset(
    """
    cat-none
    copy_-shape
    div-mode
    einsum-twice
    embedding-dtype
    empty-negative
    expand-size
    eye-negative
    gelu-approximate
    linspace-steps
    masked_select-dtype
    ones-negative
    setitem_bad-shapes
    stack-none
    tensor-ragged
    tensor-text
    zeros-negative
    """.split()
)
