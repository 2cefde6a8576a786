"""Recurrent layers: RNN, LSTM and GRU over whole sequences."""

from __future__ import annotations

import math
import warnings
from typing import Any

from firesteel._core import Tensor, empty, gru, lstm, rnn_relu, rnn_tanh, zeros

from . import init
from .module import Module
from .parameter import Parameter
from .utils.rnn import PackedSequence

# Of each mode: the function, and the number of gates.
_MODES = {"LSTM": (lstm, 4), "GRU": (gru, 3), "RNN_TANH": (rnn_tanh, 1), "RNN_RELU": (rnn_relu, 1)}


class RNNBase(Module):
    """What `RNN`, `LSTM` and `GRU` share: parameters, checks, and packed or unbatched inputs.

    Args:
        mode: "RNN_TANH", "RNN_RELU", "LSTM" or "GRU"; all others as in those layers.
    """

    def __init__(
        self,
        mode: str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.mode = mode
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = _probability(dropout)
        self.bidirectional = bidirectional
        self.proj_size = proj_size
        if self.dropout > 0 and num_layers == 1:
            warnings.warn(
                "dropout option adds dropout after all but last recurrent layer, so non-zero dropout expects "
                f"num_layers greater than 1, but got dropout={dropout} and num_layers={num_layers}",
                stacklevel=3,
            )
        self._check_arguments()
        self._all_weights: list[list[str]] = []
        directions = 2 if bidirectional else 1
        for layer in range(num_layers):
            input_size = self.input_size if layer == 0 else (proj_size or hidden_size) * directions
            for suffix in ("", "_reverse")[:directions]:
                shapes = self._shapes(input_size)
                names = [f"{name}_l{layer}{suffix}" for name in shapes]
                for name, shape in zip(names, shapes.values(), strict=True):
                    self.register_parameter(name, Parameter(empty(shape, device=device, dtype=dtype)))
                self._all_weights.append(names)
        self.reset_parameters()

    def _check_arguments(self) -> None:
        for name, kind in (("bias", bool), ("batch_first", bool), ("input_size", int), ("hidden_size", int)):
            value = getattr(self, name)
            if not isinstance(value, kind):
                raise TypeError(f"{name} should be of type {kind.__name__}, got: {type(value).__name__}")
        for name in ("input_size", "hidden_size", "num_layers"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be greater than zero, but is {getattr(self, name)}")
        if self.proj_size < 0:
            raise ValueError(
                "proj_size should be a positive integer or zero to disable projections, but is "
                f"{self.proj_size}"
            )
        if self.proj_size >= self.hidden_size:
            raise ValueError(
                f"proj_size has to be smaller than hidden_size, but they are {self.proj_size} and "
                f"{self.hidden_size}"
            )
        if self.mode not in _MODES:
            raise ValueError(f"Unrecognized RNN mode: {self.mode}; use one of {', '.join(_MODES)}")

    def _shapes(self, input_size: int) -> dict[str, tuple[int, ...]]:
        """Names, without layer and direction, and shapes of one direction's parameters."""
        rows = _MODES[self.mode][1] * self.hidden_size
        shapes: dict[str, tuple[int, ...]] = {
            "weight_ih": (rows, input_size),
            "weight_hh": (rows, self.proj_size or self.hidden_size),
        }
        if self.bias:
            shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
        if self.proj_size:
            shapes["weight_hr"] = (self.proj_size, self.hidden_size)
        return shapes

    @property
    def all_weights(self) -> list[list[Tensor]]:
        """The parameters of each layer and direction."""
        return [[getattr(self, name) for name in names] for names in self._all_weights]

    @property
    def _flat_weights(self) -> list[Tensor]:
        own = self._parameters
        # `getattr` finds those that were replaced by something else, such as a product of two.
        return [
            getattr(self, name) if (weight := own.get(name)) is None else weight
            for names in self._all_weights
            for name in names
        ]

    def flatten_parameters(self) -> None:
        """Does nothing: PyTorch lays parameters side by side for GPUs."""

    def reset_parameters(self) -> None:
        """Draws all parameters anew, uniformly from (-1, 1) / sqrt(hidden_size)."""
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def check_input(self, input: Tensor, batch_sizes: Tensor | None) -> None:
        """Raises an error if an input, as the core takes it, does not fit the layer."""
        dtype = self._flat_weights[0].dtype
        if input.dtype is not dtype:
            raise ValueError(
                f"RNN input dtype ({input.dtype}) does not match weight dtype ({dtype}). "
                f"Convert input: input.to({dtype}), or convert model: model.to({input.dtype})"
            )
        expected = 3 if batch_sizes is None else 2
        if input.dim() != expected:
            raise RuntimeError(f"input must have {expected} dimensions, got {input.dim()}; reshape it")
        if input.size(-1) != self.input_size:
            raise RuntimeError(
                f"input.size(-1) must be equal to input_size. Expected {self.input_size}, "
                f"got {input.size(-1)} (input of shape {tuple(input.shape)}); use a layer of that "
                "input_size, or transpose the input"
            )

    def get_expected_hidden_size(self, input: Tensor, batch_sizes: Tensor | None) -> tuple[int, int, int]:
        """The shape that a hidden state must have."""
        return self._state_size(input, batch_sizes, self.proj_size or self.hidden_size)

    def _state_size(self, input: Tensor, batch_sizes: Tensor | None, width: int) -> tuple[int, int, int]:
        if batch_sizes is not None:
            batch = int(batch_sizes[0])
        else:
            batch = input.size(0 if self.batch_first else 1)
        return self.num_layers * (2 if self.bidirectional else 1), batch, width

    def check_hidden_size(
        self,
        hx: Tensor,
        expected_hidden_size: tuple[int, int, int],
        msg: str = "Expected hidden size {}, got {}",
    ) -> None:
        """Raises an error if a state has another shape than that."""
        if tuple(hx.shape) != expected_hidden_size:
            text = msg.format(expected_hidden_size, list(hx.shape))
            raise RuntimeError(f"{text}; a state is (layers * directions, batch, size)")

    def check_forward_args(self, input: Tensor, hidden: Any, batch_sizes: Tensor | None) -> None:
        """Raises an error if input or state, as the core takes them, do not fit the layer."""
        self.check_input(input, batch_sizes)
        self.check_hidden_size(hidden, self.get_expected_hidden_size(input, batch_sizes))

    def permute_hidden(self, hx: Any, permutation: Tensor | None) -> Any:
        """The state with its batch in another order."""
        return hx if permutation is None else hx.index_select(1, permutation)

    # What LSTM, which has two states, does in another way.

    def _zeros(self, input: Tensor, batch_sizes: Tensor | None) -> Any:
        return zeros(self.get_expected_hidden_size(input, batch_sizes), dtype=input.dtype)

    def _batched(self, hx: Any, is_batched: bool) -> Any:
        """A state as if of a batch."""
        rank = 3 if is_batched else 2
        if hx.dim() != rank:
            kind = "batched" if is_batched else "unbatched"
            raise RuntimeError(
                f"For {kind} {rank}-D input, hx should also be {rank}-D but got {hx.dim()}-D tensor of shape "
                f"{tuple(hx.shape)}; reshape it"
            )
        return hx if is_batched else hx.unsqueeze(1)

    def _unbatched(self, hx: Any) -> Any:
        return hx.squeeze(1)

    def _call(self, *args: Any) -> tuple[Tensor, Any]:
        output, hidden = _MODES[self.mode][0](*args)
        return output, hidden

    def forward(self, input: Any, hx: Any = None) -> tuple[Any, Any]:
        rest = (
            self._flat_weights,
            self.bias,
            self.num_layers,
            self.dropout,
            self.training,
            self.bidirectional,
        )
        if isinstance(input, PackedSequence):
            data, sizes, order, back = input
            hx = self._zeros(data, sizes) if hx is None else self.permute_hidden(hx, order)
            self.check_forward_args(data, hx, sizes)
            output, hidden = self._call(data, sizes, hx, *rest)
            return PackedSequence(output, sizes, order, back), self.permute_hidden(hidden, back)
        if input.dim() not in (2, 3):
            raise ValueError(
                f"{type(self).__name__}: Expected input to be 2D or 3D, got {input.dim()}D instead (shape "
                f"{tuple(input.shape)}); reshape it"
            )
        is_batched, batch_dim = input.dim() == 3, 0 if self.batch_first else 1
        if not is_batched:
            input = input.unsqueeze(batch_dim)
        hx = self._zeros(input, None) if hx is None else self._batched(hx, is_batched)
        self.check_forward_args(input, hx, None)
        output, hidden = self._call(input, hx, *rest, self.batch_first)
        if not is_batched:
            return output.squeeze(batch_dim), self._unbatched(hidden)
        return output, hidden

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        defaults = dict(
            proj_size=0, num_layers=1, bias=True, batch_first=False, dropout=0, bidirectional=False
        )
        for name, default in defaults.items():
            value = getattr(self, name)
            if value != default:
                text += f", {name}={value}"
        return text


def _probability(dropout: Any) -> float:
    if not isinstance(dropout, (int, float)) or isinstance(dropout, bool) or not 0 <= dropout <= 1:
        raise ValueError(
            "dropout should be a number in range [0, 1] representing the probability of an element being "
            f"zeroed, but is {dropout!r}"
        )
    return float(dropout)


class RNN(RNNBase):
    """Layers of h = tanh(W_ih x + b_ih + W_hh h + b_hh), step by step over sequences.

    Args:
        input_size: last size of the input (T, N, input_size), or (N, T, input_size) with `batch_first`, or
            (T, input_size) without a batch, or a `PackedSequence`.
        hidden_size: last size of the output and of the state h (num_layers * directions, N, hidden_size),
            which is zeros if not given.
        num_layers: each layer reads the output of the one before.
        nonlinearity: "tanh" or "relu".
        bias: whether there are `bias_ih_l0`, `bias_hh_l0` and so on.
        batch_first: whether the batch comes before time in input and output; states are as ever.
        dropout: the probability that an element between two layers is dropped in training.
        bidirectional: whether each layer also reads the sequence backwards; its output is twice as wide.
        device: only "cpu" exists.
        dtype: of the parameters, `weight_ih_l0` (hidden_size, input_size), `weight_hh_l0` and so on.

    Returns:
        The last layer's output, and the state after the last step.

    Example:
        >>> import firesteel as torch
        >>> output, h = torch.nn.RNN(10, 20, num_layers=2)(torch.ones(5, 3, 10))
        >>> output.shape, h.shape
        (torch.Size([5, 3, 20]), torch.Size([2, 3, 20]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'.")
        super().__init__(
            f"RNN_{nonlinearity.upper()}",
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            device=device,
            dtype=dtype,
        )
        self.nonlinearity = nonlinearity


class GRU(RNNBase):
    """Layers of gated recurrent units, step by step over sequences.

    r, z = sigmoid(W_ih x + b_ih + W_hh h + b_hh), n = tanh(W_ih x + b_ih + r * (W_hh h + b_hh)), each with
    its rows of the weights; then h = (1 - z) * n + z * h. Arguments and results are those of `RNN`.

    Source: Cho et al., Learning phrase representations using RNN encoder-decoder, 2014, with r after the
    product.

    Example:
        >>> import firesteel as torch
        >>> output, h = torch.nn.GRU(10, 20, bidirectional=True, batch_first=True)(torch.ones(3, 5, 10))
        >>> output.shape, h.shape
        (torch.Size([3, 5, 40]), torch.Size([2, 3, 20]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            "GRU",
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            device=device,
            dtype=dtype,
        )


class LSTM(RNNBase):
    """Layers of long short-term memory, step by step over sequences.

    i, f, o = sigmoid(W_ih x + b_ih + W_hh h + b_hh) and g = tanh(the same), each with its rows of the weights
    (in the order i, f, g, o); then c = f * c + i * g and h = o * tanh(c). Arguments and results are those of
    `RNN`, but the state is the pair (h, c).

    Args:
        proj_size: if not 0, h is multiplied by `weight_hr_l0` (proj_size, hidden_size) and has that size.

    Source: Hochreiter and Schmidhuber, Long short-term memory, 1997, with Gers et al.'s forget gate, 2000.

    Example:
        >>> import firesteel as torch
        >>> output, (h, c) = torch.nn.LSTM(10, 20, num_layers=2)(torch.ones(5, 3, 10))
        >>> output.shape, h.shape, c.shape
        (torch.Size([5, 3, 20]), torch.Size([2, 3, 20]), torch.Size([2, 3, 20]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            "LSTM",
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            proj_size,
            device,
            dtype,
        )

    def get_expected_cell_size(self, input: Tensor, batch_sizes: Tensor | None) -> tuple[int, int, int]:
        """The shape that a cell state must have."""
        return self._state_size(input, batch_sizes, self.hidden_size)

    def check_forward_args(self, input: Tensor, hidden: Any, batch_sizes: Tensor | None) -> None:
        """Raises an error if input or states, as the core takes them, do not fit the layer."""
        self.check_input(input, batch_sizes)
        h, c = hidden
        expected = self.get_expected_hidden_size(input, batch_sizes)
        self.check_hidden_size(h, expected, "Expected hidden[0] size {}, got {}")
        expected = self.get_expected_cell_size(input, batch_sizes)
        self.check_hidden_size(c, expected, "Expected hidden[1] size {}, got {}")

    def permute_hidden(self, hx: Any, permutation: Tensor | None) -> Any:
        """The states with their batch in another order."""
        if permutation is None:
            return hx
        return hx[0].index_select(1, permutation), hx[1].index_select(1, permutation)

    def _zeros(self, input: Tensor, batch_sizes: Tensor | None) -> Any:
        sizes = (
            self.get_expected_hidden_size(input, batch_sizes),
            self.get_expected_cell_size(input, batch_sizes),
        )
        return zeros(sizes[0], dtype=input.dtype), zeros(sizes[1], dtype=input.dtype)

    def _batched(self, hx: Any, is_batched: bool) -> Any:
        rank = 3 if is_batched else 2
        if not isinstance(hx, (tuple, list)) or len(hx) != 2:
            raise RuntimeError(
                f"LSTM: hx must be the pair (h, c) of two tensors, got {type(hx).__name__}; give both"
            )
        if hx[0].dim() != rank or hx[1].dim() != rank:
            kind = "batched" if is_batched else "unbatched"
            raise RuntimeError(
                f"For {kind} {rank}-D input, hx and cx should also be {rank}-D but got ({hx[0].dim()}-D, "
                f"{hx[1].dim()}-D) tensors; reshape them"
            )
        return tuple(hx) if is_batched else (hx[0].unsqueeze(1), hx[1].unsqueeze(1))

    def _unbatched(self, hx: Any) -> Any:
        return hx[0].squeeze(1), hx[1].squeeze(1)

    def _call(self, *args: Any) -> tuple[Tensor, Any]:
        output, h, c = lstm(*args)
        return output, (h, c)
