"""Recurrent cells: one step of a recurrent layer."""

from __future__ import annotations

import math
from typing import Any

from firesteel._core import Tensor, empty, gru_cell, lstm_cell, rnn_relu_cell, rnn_tanh_cell, zeros

from . import init
from .module import Module
from .parameter import Parameter


class RNNCellBase(Module):
    """What `RNNCell`, `LSTMCell` and `GRUCell` share.

    Args:
        num_chunks: number of gates; all others as in those cells.
    """

    weight_ih: Parameter
    weight_hh: Parameter
    bias_ih: Parameter | None
    bias_hh: Parameter | None

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool,
        num_chunks: int,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.bias = bias
        rows = num_chunks * hidden_size
        self.weight_ih = Parameter(empty((rows, input_size), device=device, dtype=dtype))
        self.weight_hh = Parameter(empty((rows, hidden_size), device=device, dtype=dtype))
        for name in ("bias_ih", "bias_hh"):
            parameter = Parameter(empty(rows, device=device, dtype=dtype)) if bias else None
            self.register_parameter(name, parameter)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws all parameters anew, uniformly from (-1, 1) / sqrt(hidden_size)."""
        bound = 1 / math.sqrt(self.hidden_size) if self.hidden_size > 0 else 0
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def _check(self, what: str, given: Tensor) -> None:
        if given.dim() not in (1, 2):
            raise ValueError(
                f"{type(self).__name__}: Expected {what} to be 1D or 2D, got {given.dim()}D instead (shape "
                f"{tuple(given.shape)}); reshape it"
            )

    def _step(self, function: Any, input: Tensor, hx: Any) -> Any:
        return function(input, hx, self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)

    def _one_state(self, function: Any, input: Tensor, hx: Tensor | None) -> Tensor:
        """A step of a cell with one state."""
        self._check("input", input)
        if hx is not None:
            self._check("hidden", hx)
        is_batched = input.dim() == 2
        if not is_batched:
            input, hx = input.unsqueeze(0), None if hx is None else hx.unsqueeze(0)
        if hx is None:
            hx = zeros((input.size(0), self.hidden_size), dtype=input.dtype)
        after: Tensor = self._step(function, input, hx)
        return after if is_batched else after.squeeze(0)

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        return text if self.bias is True else f"{text}, bias={self.bias}"


class RNNCell(RNNCellBase):
    """One step h = tanh(W_ih x + b_ih + W_hh h + b_hh).

    Args:
        input_size: last size of the input (N, input_size) or (input_size,).
        hidden_size: last size of the state (N, hidden_size) or (hidden_size,), which is zeros if not given.
        bias: whether there are `bias_ih` and `bias_hh` (hidden_size,).
        nonlinearity: "tanh" or "relu".
        device: only "cpu" exists.
        dtype: of the parameters, `weight_ih` (hidden_size, input_size), `weight_hh` and so on.

    Returns:
        The new state.

    Example:
        >>> import firesteel as torch
        >>> torch.nn.RNNCell(10, 20)(torch.ones(3, 10)).shape
        torch.Size([3, 20])
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 1, device, dtype)
        self.nonlinearity = nonlinearity

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        if self.nonlinearity not in ("tanh", "relu"):
            raise RuntimeError(f"Unknown nonlinearity: {self.nonlinearity}; use 'tanh' or 'relu'")
        return self._one_state(rnn_tanh_cell if self.nonlinearity == "tanh" else rnn_relu_cell, input, hx)

    def extra_repr(self) -> str:
        text = super().extra_repr()
        return text if self.nonlinearity == "tanh" else f"{text}, nonlinearity={self.nonlinearity}"


class GRUCell(RNNCellBase):
    """One step of a gated recurrent unit, see `GRU`; arguments and results are those of `RNNCell`.

    Example:
        >>> import firesteel as torch
        >>> torch.nn.GRUCell(10, 20)(torch.ones(10), torch.zeros(20)).shape
        torch.Size([20])
    """

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 3, device, dtype)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        return self._one_state(gru_cell, input, hx)


class LSTMCell(RNNCellBase):
    """One step of long short-term memory, see `LSTM`: as `RNNCell`, but the state is the pair (h, c).

    Example:
        >>> import firesteel as torch
        >>> h, c = torch.nn.LSTMCell(10, 20)(torch.ones(3, 10))
        >>> h.shape, c.shape
        (torch.Size([3, 20]), torch.Size([3, 20]))
    """

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 4, device, dtype)

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        self._check("input", input)
        for index, state in enumerate(hx or ()):
            self._check(f"hx[{index}]", state)
        is_batched = input.dim() == 2
        if not is_batched:
            input = input.unsqueeze(0)
        if hx is None:
            empty_state = zeros((input.size(0), self.hidden_size), dtype=input.dtype)
            hx = (empty_state, empty_state)
        elif not is_batched:
            hx = (hx[0].unsqueeze(0), hx[1].unsqueeze(0))
        h, c = self._step(lstm_cell, input, hx)
        return (h, c) if is_batched else (h.squeeze(0), c.squeeze(0))
