"""Batches of sequences of different lengths: padded to the longest, or packed step by step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from firesteel import _core
from firesteel._core import Tensor, arange, as_tensor, cat, full, int64, sort

__all__ = [
    "PackedSequence",
    "invert_permutation",
    "pack_padded_sequence",
    "pack_sequence",
    "pad_packed_sequence",
    "pad_sequence",
    "unpack_sequence",
    "unpad_sequence",
]


class _Packed(NamedTuple):
    data: Tensor
    batch_sizes: Tensor
    sorted_indices: Tensor | None
    unsorted_indices: Tensor | None


class PackedSequence(_Packed):
    """Sequences of different lengths without padding: their first elements, then their second ones, and on.

    Made by `pack_padded_sequence` and `pack_sequence`, and taken by `nn.RNN`, `nn.LSTM` and `nn.GRU`.

    Attributes:
        data: the elements (N, *), the longest sequence's first at each step.
        batch_sizes: how many sequences each step has, int64 (T,).
        sorted_indices: the order by falling length that the sequences were brought into; None if they were.
        unsorted_indices: the way back.

    Example:
        >>> import firesteel as torch
        >>> from firesteel.nn.utils.rnn import pack_sequence
        >>> pack_sequence([torch.tensor([1, 2, 3]), torch.tensor([4])]).data
        tensor([1, 4, 2, 3])
    """

    def __new__(
        cls,
        data: Any,
        batch_sizes: Tensor | None = None,
        sorted_indices: Tensor | None = None,
        unsorted_indices: Tensor | None = None,
    ) -> PackedSequence:
        if unsorted_indices is None:
            unsorted_indices = invert_permutation(sorted_indices)
        if batch_sizes is None:  # PackedSequence((data, batch_sizes))
            if not (isinstance(data, (list, tuple)) and len(data) == 2):
                raise AssertionError(
                    f"PackedSequence: expected batch_sizes, or the pair (data, batch_sizes), got "
                    f"{type(data).__name__}; use pack_padded_sequence"
                )
            data, batch_sizes = data
        return super().__new__(cls, data, batch_sizes, sorted_indices, unsorted_indices)

    def to(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """The same with data of another dtype; itself if it is of that dtype."""
        data = self.data.to(*args, **kwargs)
        if data is self.data:
            return self
        return type(self)(data, self.batch_sizes, self.sorted_indices, self.unsorted_indices)

    def cpu(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """Itself: all tensors are on the CPU."""
        return self.to(*args, **kwargs) if args or kwargs else self

    def double(self) -> PackedSequence:
        """The same with float64 data."""
        return self.to(dtype=_core.float64)

    def float(self) -> PackedSequence:
        """The same with float32 data."""
        return self.to(dtype=_core.float32)

    def half(self) -> PackedSequence:
        """The same with float16 data."""
        return self.to(dtype=_core.float16)

    def long(self) -> PackedSequence:
        """The same with int64 data."""
        return self.to(dtype=_core.int64)

    def int(self) -> PackedSequence:
        """The same with int32 data."""
        return self.to(dtype=_core.int32)

    def byte(self) -> PackedSequence:
        """The same with uint8 data."""
        return self.to(dtype=_core.uint8)

    @property
    def is_cuda(self) -> bool:
        """Whether the data is on a GPU: never."""
        return False

    def is_pinned(self) -> bool:
        """Whether the data is in pinned memory: never."""
        return False


def invert_permutation(permutation: Tensor | None) -> Tensor | None:
    """Returns the permutation that undoes another; None for none.

    Example:
        >>> import firesteel as torch
        >>> torch.nn.utils.rnn.invert_permutation(torch.tensor([2, 0, 1]))
        tensor([1, 2, 0])
    """
    if permutation is None:
        return None
    numbers = arange(permutation.numel(), dtype=permutation.dtype)
    return _core.empty_like(permutation).scatter_(0, permutation, numbers)


def _places(lengths: Tensor, longest: int) -> Tensor:
    """Where a padded batch (longest, N) holds elements and no padding."""
    return arange(longest).unsqueeze(1) < lengths.unsqueeze(0)


def _padded(rows: Tensor, places: Tensor, numbers: Tensor, padding_value: float) -> Tensor:
    """Lays out rows: at each of the places the one of that number, elsewhere the padding."""
    padding = full((1, *rows.shape[1:]), padding_value, dtype=rows.dtype)
    index = numbers.masked_fill(~places, rows.size(0))
    padded = cat([rows, padding]).index_select(0, index.flatten())
    return padded.view(*index.shape, *rows.shape[1:])


def _lengths_of(lengths: Any) -> Tensor:
    return lengths.to(int64) if isinstance(lengths, Tensor) else as_tensor(lengths, dtype=int64)


def pack_padded_sequence(
    input: Tensor, lengths: Tensor | Sequence[int], batch_first: bool = False, enforce_sorted: bool = True
) -> PackedSequence:
    """Packs a padded batch of sequences.

    Args:
        input: (T, N, *), or (N, T, *) with `batch_first`.
        lengths: of each sequence, N integers from 1 to T.
        batch_first: whether the batch comes before time.
        enforce_sorted: whether the lengths must not grow; if not, the sequences are sorted first.

    Raises:
        RuntimeError: if the lengths do not fit.

    Example:
        >>> import firesteel as torch
        >>> from firesteel.nn.utils.rnn import pack_padded_sequence
        >>> padded = torch.tensor([[1, 2, 0], [3, 4, 5]])
        >>> packed = pack_padded_sequence(padded, [2, 3], batch_first=True, enforce_sorted=False)
        >>> packed.data, packed.batch_sizes
        (tensor([3, 1, 4, 2, 5]), tensor([2, 2, 1]))
    """
    lengths, order = _lengths_of(lengths), None
    if input.dim() < 2:
        raise RuntimeError(
            f"pack_padded_sequence: input must have dims for time and batch, got shape {tuple(input.shape)}; "
            "unsqueeze it"
        )
    if input.numel() == 0:
        raise RuntimeError(
            f"Cannot pack empty tensors, got shape {tuple(input.shape)}; give at least one element"
        )
    rows = input.transpose(0, 1) if batch_first else input
    steps, batch = rows.shape[:2]
    if tuple(lengths.shape) != (batch,):
        raise RuntimeError(
            f"Expected `len(lengths)` to be equal to batch_size, but got lengths of shape "
            f"{tuple(lengths.shape)} (batch_size={batch}); give one length for each sequence, and check "
            "batch_first"
        )
    if not enforce_sorted:
        lengths, order = sort(lengths, descending=True)
        rows = rows.index_select(1, order)
    given = lengths.tolist()
    if any(given[i] < given[i + 1] for i in range(batch - 1)):
        raise RuntimeError(
            "`lengths` array must be sorted in decreasing order when `enforce_sorted` is True, but is "
            f"{given}. You can pass `enforce_sorted=False` to pack_padded_sequence and/or pack_sequence"
        )
    if given[-1] <= 0:
        raise RuntimeError(
            "Length of all samples has to be greater than 0, but found an element in 'lengths' that is <= 0: "
            f"{given}; leave empty sequences out"
        )
    if given[0] > steps:
        raise RuntimeError(
            f"pack_padded_sequence: the longest of lengths, {given[0]}, exceeds the {steps} steps of input "
            f"(shape {tuple(input.shape)}); check batch_first"
        )
    places = _places(lengths, given[0])
    numbers = arange(given[0] * batch)[places.flatten()]
    data = rows[: given[0]].reshape(given[0] * batch, *rows.shape[2:]).index_select(0, numbers)
    return PackedSequence(data, places.sum(1), order)


def pad_packed_sequence(
    sequence: PackedSequence,
    batch_first: bool = False,
    padding_value: float = 0.0,
    total_length: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Pads a packed batch of sequences: the reverse of `pack_padded_sequence`.

    Args:
        sequence: the packed batch.
        batch_first: whether the batch comes before time in the result.
        padding_value: what stands where a sequence is over.
        total_length: T of the result; by default the longest length.

    Returns:
        The batch (T, N, *) or (N, T, *) in its first order, and the lengths, int64 (N,).

    Example:
        >>> import firesteel as torch
        >>> from firesteel.nn.utils.rnn import pack_sequence, pad_packed_sequence
        >>> packed = pack_sequence([torch.tensor([1, 2]), torch.tensor([3])])
        >>> pad_packed_sequence(packed, batch_first=True)
        (tensor([[1, 2],
                [3, 0]]), tensor([2, 1]))
    """
    sizes = sequence.batch_sizes
    longest, batch = sizes.size(0), int(sizes[0])
    if total_length is not None:
        if total_length < longest:
            raise ValueError(
                "Expected total_length to be at least the length of the longest sequence in input, but got "
                f"total_length={total_length} and max sequence length being {longest}"
            )
        sizes = cat([sizes, full((total_length - longest,), 0, dtype=sizes.dtype)])
    places = arange(batch).unsqueeze(0) < sizes.unsqueeze(1)
    numbers = (sizes.cumsum(0) - sizes).unsqueeze(1) + arange(batch)
    padded = _padded(sequence.data, places, numbers, padding_value)
    lengths = places.sum(0)
    if sequence.unsorted_indices is not None:
        padded = padded.index_select(1, sequence.unsorted_indices)
        lengths = lengths[sequence.unsorted_indices]
    return padded.transpose(0, 1) if batch_first else padded, lengths


def pad_sequence(
    sequences: Iterable[Tensor],
    batch_first: bool = False,
    padding_value: float = 0.0,
    padding_side: str = "right",
) -> Tensor:
    """Stacks sequences (L, *) of different lengths, padded to the longest.

    Args:
        sequences: equal in dtype and in all sizes but the first.
        batch_first: whether the result is (N, T, *), not (T, N, *).
        padding_value: what stands where a sequence is over.
        padding_side: "right", or "left" for padding before the sequences.

    Example:
        >>> import firesteel as torch
        >>> from firesteel.nn.utils.rnn import pad_sequence
        >>> pad_sequence([torch.tensor([1, 2]), torch.tensor([3])], batch_first=True)
        tensor([[1, 2],
                [3, 0]])
    """
    if not isinstance(sequences, Iterable):
        raise RuntimeError(
            f"pad_sequence: Expected iterable for input sequences, but got arg of type: {type(sequences)}"
        )
    sequences = tuple(sequences)
    if not sequences:
        raise RuntimeError("pad_sequence: received an empty list of sequences; give at least one")
    if padding_side not in ("left", "right"):
        raise RuntimeError(f"Expected padding_side to be one of left or right, but got {padding_side}.")
    rest = sequences[0].shape[1:]
    for sequence in sequences:
        if sequence.dim() == 0 or sequence.shape[1:] != rest:
            raise RuntimeError(
                f"pad_sequence: sequences must be equal in all sizes but the first, got shapes "
                f"{tuple(sequences[0].shape)} and {tuple(sequence.shape)}; reshape them"
            )
    lengths = as_tensor([sequence.size(0) for sequence in sequences], dtype=int64).unsqueeze(1)
    longest = int(lengths.max())
    time = arange(longest).unsqueeze(0)
    if padding_side == "left":
        time = time - (longest - lengths)
    places = (time >= 0) & (time < lengths)
    padded = _padded(cat(list(sequences)), places, time + (lengths.cumsum(0) - lengths), padding_value)
    return padded if batch_first else padded.transpose(0, 1).contiguous()


def unpad_sequence(
    padded_sequences: Tensor, lengths: Tensor | Sequence[int], batch_first: bool = False
) -> list[Tensor]:
    """Takes a padded batch apart: the reverse of `pad_sequence`.

    Args:
        padded_sequences: (T, N, *), or (N, T, *) with `batch_first`.
        lengths: of each sequence, N integers.
        batch_first: whether the batch comes before time.

    Example:
        >>> import firesteel as torch
        >>> torch.nn.utils.rnn.unpad_sequence(torch.tensor([[1, 2], [3, 0]]), [2, 1], batch_first=True)
        [tensor([1, 2]), tensor([3])]
    """
    rows = padded_sequences if batch_first else padded_sequences.transpose(0, 1)
    given = _lengths_of(lengths).tolist()
    if len(given) != rows.size(0):
        raise ValueError(
            f"unpad_sequence: got {len(given)} lengths for {rows.size(0)} sequences (shape "
            f"{tuple(padded_sequences.shape)}); give one for each, and check batch_first"
        )
    return [row[: max(length, 0)].clone() for row, length in zip(rows, given, strict=True)]


def pack_sequence(sequences: Sequence[Tensor], enforce_sorted: bool = True) -> PackedSequence:
    """Packs sequences (L, *) of different lengths.

    Args:
        sequences: equal in dtype and in all sizes but the first.
        enforce_sorted: whether the lengths must not grow; if not, the sequences are sorted first.

    Example:
        >>> import firesteel as torch
        >>> torch.nn.utils.rnn.pack_sequence([torch.tensor([1, 2, 3]), torch.tensor([4, 5])]).data
        tensor([1, 4, 2, 5, 3])
    """
    lengths = [sequence.size(0) for sequence in sequences]
    return pack_padded_sequence(pad_sequence(sequences), lengths, enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences: PackedSequence) -> list[Tensor]:
    """Takes a packed batch apart: the reverse of `pack_sequence`.

    Example:
        >>> import firesteel as torch
        >>> packed = torch.nn.utils.rnn.pack_sequence([torch.tensor([1, 2]), torch.tensor([3])])
        >>> torch.nn.utils.rnn.unpack_sequence(packed)
        [tensor([1, 2]), tensor([3])]
    """
    padded, lengths = pad_packed_sequence(packed_sequences, batch_first=True)
    return unpad_sequence(padded, lengths, batch_first=True)
