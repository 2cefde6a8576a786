"""Convolution layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from firesteel._core import (
    Tensor,
    conv1d,
    conv2d,
    conv3d,
    conv_transpose1d,
    conv_transpose2d,
    conv_transpose3d,
    empty,
)

from . import init
from .functional import pad
from .module import Module
from .parameter import Parameter

_PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


def _tuple(value: int | Sequence[int], n: int) -> tuple[int, ...]:
    return (value,) * n if isinstance(value, int) else tuple(value)


class _Conv(Module):
    """What convolutions of any number of dimensions share."""

    weight: Parameter
    bias: Parameter | None
    padding: str | tuple[int, ...]
    _ndim: int
    transposed = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: str | int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if groups <= 0:
            raise ValueError("groups must be a positive integer")
        if in_channels % groups != 0:
            raise ValueError("in_channels must be divisible by groups")
        if out_channels % groups != 0:
            raise ValueError("out_channels must be divisible by groups")
        if padding_mode not in _PADDING_MODES:
            raise ValueError(
                f"padding_mode must be one of {_PADDING_MODES}, but got padding_mode='{padding_mode}'"
            )
        n = self._ndim
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = _tuple(kernel_size, n)
        self.stride = _tuple(stride, n)
        self.padding = padding if isinstance(padding, str) else _tuple(padding, n)
        self.dilation = _tuple(dilation, n)
        self.groups = groups
        self.padding_mode = padding_mode
        self.output_padding = (0,) * n
        if isinstance(padding, str):
            if padding not in ("same", "valid"):
                raise ValueError(f"Invalid padding string '{padding}', should be one of 'valid', 'same'")
            if padding == "same" and any(s != 1 for s in self.stride):
                raise ValueError("padding='same' is not supported for strided convolutions")
        self._reversed_padding_repeated_twice = [n for margin in reversed(self._margins()) for n in margin]
        ends = (in_channels, out_channels) if self.transposed else (out_channels, in_channels)
        size = (ends[0], ends[1] // groups, *self.kernel_size)
        self.weight = Parameter(empty(size, device=device, dtype=dtype))
        self.register_parameter(
            "bias", Parameter(empty(out_channels, device=device, dtype=dtype)) if bias else None
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws weight and bias anew, uniformly from (-1, 1) / sqrt(fan_in)."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.weight.numel() == 0 and self.bias is not None and 0 in self.weight.shape[1:]:
            init.zeros_(self.bias)  # PyTorch draws nothing here, and leaves it as it is
        else:
            init._default_bias_(self.bias, self.weight)

    def _margins(self) -> list[tuple[int, int]]:
        """Returns how much is added before and after every dimension."""
        if self.padding == "valid":
            return [(0, 0)] * self._ndim
        if self.padding == "same":
            totals = [d * (k - 1) for d, k in zip(self.dilation, self.kernel_size, strict=True)]
            return [(total // 2, total - total // 2) for total in totals]
        return [(int(p), int(p)) for p in self.padding]

    def _padded(self, input: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        """Returns the input and the padding left for the convolution itself."""
        margins = self._margins()
        if self.padding_mode == "zeros" and all(before == after for before, after in margins):
            return input, tuple(before for before, _ in margins)
        mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
        return pad(input, self._reversed_padding_repeated_twice, mode), (0,) * self._ndim

    def extra_repr(self) -> str:
        n = self._ndim
        text = (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        )
        if self.padding != (0,) * n:
            text += f", padding={self.padding}"
        if self.dilation != (1,) * n:
            text += f", dilation={self.dilation}"
        if self.output_padding != (0,) * n:
            text += f", output_padding={self.output_padding}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        if self.bias is None:
            text += ", bias=False"
        if self.padding_mode != "zeros":
            text += f", padding_mode={self.padding_mode}"
        return text


class Conv1d(_Conv):
    """Slides trained kernels along a sequence.

    y[n, o, l] = bias[o] + sum over c, k of weight[o, c, k] * x[n, c, l * stride + k * dilation - padding].

    Args:
        in_channels: channels of the input (N, C_in, L) or (C_in, L).
        out_channels: channels of the output (N, C_out, L_out).
        kernel_size: extent of the kernel.
        stride: step between two outputs.
        padding: what is added at both ends; "same" keeps the length, "valid" adds nothing.
        dilation: distance between two kernel elements.
        groups: input and output channels are split into so many independent groups.
        bias: whether to add a vector (out_channels,).
        padding_mode: "zeros", "reflect", "replicate" or "circular".
        device: only "cpu" exists.
        dtype: of weight (out_channels, in_channels / groups, kernel_size) and bias.

    Example:
        >>> import firesteel as torch
        >>> torch.nn.Conv1d(16, 33, 3, stride=2)(torch.ones(20, 16, 50)).shape
        torch.Size([20, 33, 24])
    """

    _ndim = 1

    def forward(self, input: Tensor) -> Tensor:
        padding = self.padding
        if isinstance(padding, str) or self.padding_mode != "zeros":
            input, padding = self._padded(input)
        return conv1d(input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


class Conv2d(_Conv):
    """Slides trained kernels over an image.

    y[n, o, i, j] = bias[o] + sum over c, k, l of weight[o, c, k, l] * x[n, c, i*stride + k, j*stride + l],
    with padding and dilation as in `Conv1d`, one number for both dimensions or a pair.

    Args:
        in_channels: channels of the input (N, C_in, H, W) or (C_in, H, W).
        out_channels: channels of the output (N, C_out, H_out, W_out).
        kernel_size: extent of the kernel.
        stride: step between two outputs.
        padding: what is added at all sides; "same" keeps the size, "valid" adds nothing.
        dilation: distance between two kernel elements.
        groups: input and output channels are split into so many independent groups.
        bias: whether to add a vector (out_channels,).
        padding_mode: "zeros", "reflect", "replicate" or "circular".
        device: only "cpu" exists.
        dtype: of weight (out_channels, in_channels / groups, *kernel_size) and bias.

    Example:
        >>> import firesteel as torch
        >>> torch.nn.Conv2d(3, 8, 3, padding=1)(torch.ones(2, 3, 28, 28)).shape
        torch.Size([2, 8, 28, 28])
    """

    _ndim = 2

    def forward(self, input: Tensor) -> Tensor:
        padding = self.padding
        if isinstance(padding, str) or self.padding_mode != "zeros":
            input, padding = self._padded(input)
        return conv2d(input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


class Conv3d(_Conv):
    """Slides trained kernels through a volume.

    As `Conv2d`, with a depth before height and width.

    Args:
        in_channels: channels of the input (N, C_in, D, H, W) or (C_in, D, H, W).
        out_channels: channels of the output (N, C_out, D_out, H_out, W_out).
        kernel_size: extent of the kernel, one number for the three dimensions or three.
        stride: step between two outputs.
        padding: what is added at all sides; "same" keeps the size, "valid" adds nothing.
        dilation: distance between two kernel elements.
        groups: input and output channels are split into so many independent groups.
        bias: whether to add a vector (out_channels,).
        padding_mode: "zeros", "reflect", "replicate" or "circular".
        device: only "cpu" exists.
        dtype: of weight (out_channels, in_channels / groups, *kernel_size) and bias.

    Example:
        >>> import firesteel as torch
        >>> torch.nn.Conv3d(1, 8, 3, padding=1)(torch.ones(2, 1, 4, 8, 8)).shape
        torch.Size([2, 8, 4, 8, 8])
    """

    _ndim = 3

    def forward(self, input: Tensor) -> Tensor:
        padding = self.padding
        if isinstance(padding, str) or self.padding_mode != "zeros":
            input, padding = self._padded(input)
        return conv3d(input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


class _ConvTranspose(_Conv):
    """What transposed convolutions of any number of dimensions share."""

    padding: tuple[int, ...]
    transposed = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] = 0,
        output_padding: int | Sequence[int] = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: int | Sequence[int] = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        if padding_mode != "zeros":
            raise ValueError(
                f'Only "zeros" padding mode is supported for {type(self).__name__}, '
                f"got padding_mode='{padding_mode}'"
            )
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
            padding_mode,
            device,
            dtype,
        )
        self.output_padding = _tuple(output_padding, self._ndim)

    def _extra(self, input: Tensor, output_size: Sequence[int] | None) -> tuple[int, ...]:
        """Returns the output padding that gives the asked size."""
        if output_size is None:
            return self.output_padding
        n = self._ndim
        asked = tuple(output_size)
        if len(asked) == input.ndim:
            asked = asked[-n:]
        if len(asked) != n:
            raise ValueError(
                f"{type(self).__name__}: for {input.ndim}D input, output_size must have {n} or {input.ndim} "
                f"elements (got {len(asked)})"
            )
        least = [
            (extent - 1) * step - 2 * cut + distance * (kernel - 1) + 1
            for extent, step, cut, distance, kernel in zip(
                input.shape[-n:], self.stride, self.padding, self.dilation, self.kernel_size, strict=True
            )
        ]
        if any(
            not low <= size < low + step for size, low, step in zip(asked, least, self.stride, strict=True)
        ):
            most = [low + step - 1 for low, step in zip(least, self.stride, strict=True)]
            raise ValueError(
                f"requested an output size of {list(asked)}, but valid sizes range from {least} to {most} "
                f"(for an input of {list(input.shape[-n:])})"
            )
        return tuple(size - low for size, low in zip(asked, least, strict=True))


class ConvTranspose1d(_ConvTranspose):
    """Spreads each element of a sequence over trained kernels: what the gradient of `Conv1d`'s input is.

    y[n, o, l * stride + k * dilation - padding] += weight[c, o, k] * x[n, c, l], and bias[o] is added.

    Args:
        in_channels: channels of the input (N, C_in, L) or (C_in, L).
        out_channels: channels of the output (N, C_out, L_out), with
            L_out = (L - 1) * stride - 2 * padding + dilation * (kernel_size - 1) + output_padding + 1.
        kernel_size: extent of the kernel.
        stride: step between the kernels of two inputs.
        padding: what is cut off at both ends.
        output_padding: what is added at the far end; less than stride or dilation.
        groups: input and output channels are split into so many independent groups.
        bias: whether to add a vector (out_channels,).
        dilation: distance between two kernel elements.
        padding_mode: only "zeros".
        device: only "cpu" exists.
        dtype: of weight (in_channels, out_channels / groups, kernel_size) and bias.

    Example:
        >>> import firesteel as torch
        >>> torch.nn.ConvTranspose1d(4, 2, 4, stride=2, padding=1)(torch.ones(3, 4, 10)).shape
        torch.Size([3, 2, 20])
    """

    _ndim = 1

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        extra = self._extra(input, output_size)
        return conv_transpose1d(
            input, self.weight, self.bias, self.stride, self.padding, extra, self.groups, self.dilation
        )


class ConvTranspose2d(_ConvTranspose):
    """Spreads each pixel over trained kernels: what the gradient of `Conv2d`'s input is.

    As `ConvTranspose1d`, with one number for both dimensions or a pair.

    Args:
        in_channels: channels of the input (N, C_in, H, W) or (C_in, H, W).
        out_channels: channels of the output (N, C_out, H_out, W_out).
        kernel_size: extent of the kernel.
        stride: step between the kernels of two inputs.
        padding: what is cut off at all sides.
        output_padding: what is added at the far sides; less than stride or dilation.
        groups: input and output channels are split into so many independent groups.
        bias: whether to add a vector (out_channels,).
        dilation: distance between two kernel elements.
        padding_mode: only "zeros".
        device: only "cpu" exists.
        dtype: of weight (in_channels, out_channels / groups, *kernel_size) and bias.

    Example:
        >>> import firesteel as torch
        >>> up = torch.nn.ConvTranspose2d(4, 2, 3, stride=2, padding=1)
        >>> up(torch.ones(1, 4, 5, 5)).shape
        torch.Size([1, 2, 9, 9])
        >>> up(torch.ones(1, 4, 5, 5), output_size=(10, 10)).shape
        torch.Size([1, 2, 10, 10])
    """

    _ndim = 2

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        extra = self._extra(input, output_size)
        return conv_transpose2d(
            input, self.weight, self.bias, self.stride, self.padding, extra, self.groups, self.dilation
        )


class ConvTranspose3d(_ConvTranspose):
    """Spreads each element of a volume over trained kernels: what the gradient of `Conv3d`'s input is.

    As `ConvTranspose1d`, with one number for the three dimensions or three.

    Args:
        in_channels: channels of the input (N, C_in, D, H, W) or (C_in, D, H, W).
        out_channels: channels of the output (N, C_out, D_out, H_out, W_out).
        kernel_size: extent of the kernel.
        stride: step between the kernels of two inputs.
        padding: what is cut off at all sides.
        output_padding: what is added at the far sides; less than stride or dilation.
        groups: input and output channels are split into so many independent groups.
        bias: whether to add a vector (out_channels,).
        dilation: distance between two kernel elements.
        padding_mode: only "zeros".
        device: only "cpu" exists.
        dtype: of weight (in_channels, out_channels / groups, *kernel_size) and bias.

    Example:
        >>> import firesteel as torch
        >>> torch.nn.ConvTranspose3d(4, 2, 2, stride=2)(torch.ones(1, 4, 2, 3, 4)).shape
        torch.Size([1, 2, 4, 6, 8])
    """

    _ndim = 3

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        extra = self._extra(input, output_size)
        return conv_transpose3d(
            input, self.weight, self.bias, self.stride, self.padding, extra, self.groups, self.dilation
        )
