"""`Size` and `device`: the small value types of PyTorch's API."""

from __future__ import annotations


class Size(tuple):
    """Extents of a tensor: a tuple of ints with `numel()`."""

    __slots__ = ()

    def numel(self) -> int:
        """Product of the extents."""
        product = 1
        for extent in self:
            product *= extent
        return product

    def __repr__(self) -> str:
        return f"torch.Size([{', '.join(map(str, self))}])"

    def __getitem__(self, index):
        item = tuple.__getitem__(self, index)
        return Size(item) if isinstance(index, slice) else item

    def __add__(self, other):
        return Size(tuple.__add__(self, tuple(other)))


class device:
    """Where tensors live. There is one place: the CPU.

    Args:
        type: `"cpu"`, `"cpu:0"` or another `device`.

    Raises:
        RuntimeError: for any other device.
    """

    __slots__ = ("index", "type")

    def __new__(cls, type: str | device = "cpu", index: int | None = None):
        if isinstance(type, device):
            return type
        if not isinstance(type, str):
            raise TypeError(f"device(): argument 'type' must be str, not {type.__class__.__name__}")
        name, _, number = type.partition(":")
        if name != "cpu" or number not in ("", "0"):
            raise RuntimeError(f"device: {type!r} is not available; Firesteel computes on 'cpu'")
        self = object.__new__(cls)
        self.type = name
        self.index = int(number) if number else index
        return self

    def __repr__(self) -> str:
        return "device(type='cpu')" if self.index is None else f"device(type='cpu', index={self.index})"

    def __str__(self) -> str:
        return "cpu" if self.index is None else f"cpu:{self.index}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, device) and (self.type, self.index) == (other.type, other.index)

    def __hash__(self) -> int:
        return hash((self.type, self.index))

    def __reduce__(self):
        return device, (str(self),)


cpu = device("cpu")
