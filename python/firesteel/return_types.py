"""Named results of functions that return several tensors, as in `torch.return_types`."""

from collections import namedtuple


class _Shown:
    """Prints one field per line, as PyTorch does."""

    __slots__ = ()

    def __repr__(self) -> str:
        fields = ",\n".join(f"{name}={value!r}" for name, value in zip(self._fields, self, strict=True))
        return f"torch.return_types.{type(self).__name__}(\n{fields})"


def _result(name: str, *fields: str) -> type:
    base = namedtuple(name, fields)
    return type(name, (_Shown, base), {"__slots__": (), "__module__": __name__})


max = _result("max", "values", "indices")
min = _result("min", "values", "indices")
sort = _result("sort", "values", "indices")
topk = _result("topk", "values", "indices")
