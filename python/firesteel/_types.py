"""`Size` and `device`: the small value types of PyTorch's API."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar, SupportsIndex, TypeVar, overload

    from firesteel._core import dtype as DType

    _T = TypeVar("_T")


class Size(tuple[int, ...]):
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

    if TYPE_CHECKING:

        @overload
        def __getitem__(self, index: SupportsIndex) -> int: ...
        @overload
        def __getitem__(self, index: slice) -> Size: ...

    def __getitem__(self, index: SupportsIndex | slice) -> int | Size:
        if isinstance(index, slice):
            return Size(tuple.__getitem__(self, index))
        return tuple.__getitem__(self, index)

    if TYPE_CHECKING:

        @overload
        def __add__(self, other: tuple[int, ...]) -> Size: ...
        @overload
        def __add__(self, other: tuple[_T, ...]) -> tuple[int | _T, ...]: ...

    def __add__(self, other: tuple[Any, ...]) -> tuple[Any, ...]:
        if not isinstance(other, tuple):
            raise TypeError(f'can only concatenate tuple (not "{type(other).__name__}") to torch.Size')
        return Size(tuple.__add__(self, other))

    def __mul__(self, count: SupportsIndex) -> Size:
        return Size(tuple.__mul__(self, count))

    __rmul__ = __mul__


class DeviceError(RuntimeError, AssertionError):
    """A device that is not here. PyTorch raises an AssertionError or a RuntimeError, as it was compiled."""


class device:
    """Where tensors live. There is one place: the CPU.

    Args:
        type: `"cpu"`, `"cpu:0"` or another `device`.

    Raises:
        DeviceError: for any other device; it is a RuntimeError and an AssertionError.
    """

    __slots__ = ("index", "type")
    type: str
    index: int | None

    def __new__(cls, type: str | device = "cpu", index: int | None = None) -> device:
        if isinstance(type, device):
            return type
        if isinstance(type, int) and not isinstance(type, bool):
            raise DeviceError(
                f"device: index {type} names no device here, Firesteel computes on the CPU; pass 'cpu'"
            )
        if not isinstance(type, str):
            raise TypeError(f"device(): argument 'type' must be str, not {type.__class__.__name__}")
        name, colon, number = type.partition(":")
        if name != "cpu" or (colon and not number.isdecimal()):
            raise DeviceError(f"device: {type!r} is not available, Firesteel computes on the CPU; pass 'cpu'")
        if index is not None and (number or index < 0):
            raise DeviceError(f"device: {type!r} with index {index} is no device; pass 'cpu'")
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

    def __reduce__(self) -> tuple[object, ...]:
        return device, (str(self),)


cpu = device("cpu")


class finfo:
    """Limits of a floating-point dtype.

    Args:
        dtype: a floating-point dtype; default float32.

    Example:
        >>> import firesteel as torch
        >>> torch.finfo(torch.float32).eps
        1.1920928955078125e-07
    """

    _LIMITS: ClassVar[dict[str, tuple[int, float, float, float, float]]] = {
        "float16": (16, 2.0**-10, 65504.0, 2.0**-14, 0.001),
        "bfloat16": (16, 2.0**-7, 3.3895313892515355e38, 2.0**-126, 0.01),
        "float32": (32, 2.0**-23, 3.4028234663852886e38, 2.0**-126, 1e-06),
        "float64": (64, 2.0**-52, 1.7976931348623157e308, 2.0**-1022, 1e-15),
    }

    def __init__(self, dtype: DType | None = None) -> None:
        self.dtype = "float32" if dtype is None else str(dtype).removeprefix("torch.")
        if self.dtype not in self._LIMITS:
            raise TypeError(f"finfo: {dtype} is not a floating-point dtype; use iinfo")
        self.bits, self.eps, self.max, self.tiny, self.resolution = self._LIMITS[self.dtype]
        self.min = -self.max
        self.smallest_normal = self.tiny

    def __repr__(self) -> str:
        return (
            f"finfo(resolution={self.resolution}, min={self.min:g}, max={self.max:g}, eps={self.eps:g}, "
            f"smallest_normal={self.tiny:g}, tiny={self.tiny:g}, dtype={self.dtype})"
        )


class iinfo:
    """Limits of an integer dtype.

    Args:
        dtype: an integer dtype.

    Example:
        >>> import firesteel as torch
        >>> torch.iinfo(torch.int32).max
        2147483647
    """

    _LIMITS: ClassVar[dict[str, tuple[int, int, int]]] = {
        "uint8": (8, 0, 255),
        "int32": (32, -(2**31), 2**31 - 1),
        "int64": (64, -(2**63), 2**63 - 1),
    }

    def __init__(self, dtype: DType) -> None:
        self.dtype = str(dtype).removeprefix("torch.")
        if self.dtype not in self._LIMITS:
            raise TypeError(f"iinfo: {dtype} is not an integer dtype; use finfo")
        self.bits, self.min, self.max = self._LIMITS[self.dtype]

    def __repr__(self) -> str:
        return f"iinfo(min={self.min:g}, max={self.max:g}, dtype={self.dtype})"
