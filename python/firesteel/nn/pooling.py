"""Pooling layers: one value for every window of an image or a sequence."""

from __future__ import annotations

from typing import Any

from firesteel._core import (
    Tensor,
    adaptive_avg_pool2d,
    adaptive_max_pool1d,
    adaptive_max_pool2d,
    avg_pool1d,
    avg_pool2d,
    max_pool1d,
    max_pool2d,
)

from .module import Module

Size = int | tuple[int, int]


def _single(value: int | tuple[int]) -> tuple[int]:
    return (value,) if isinstance(value, int) else value


class _MaxPool(Module):
    """What max poolings of any number of dimensions share."""

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        dilation: Size = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = stride if stride is not None else kernel_size
        self.padding = padding
        self.dilation = dilation
        self.return_indices = return_indices
        self.ceil_mode = ceil_mode

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )


class MaxPool1d(_MaxPool):
    """Takes the maximum of every window of a sequence (N, C, L) or (C, L); see `MaxPool2d`.

    Example:
        >>> import firesteel as torch
        >>> torch.nn.MaxPool1d(2)(torch.arange(4.0).view(1, 1, 4))
        tensor([[[1., 3.]]])
    """

    def forward(self, input: Tensor) -> Any:
        if self.return_indices:
            return max_pool1d(
                input,
                self.kernel_size,
                self.stride,
                self.padding,
                self.dilation,
                self.ceil_mode,
                return_indices=True,
            )
        return max_pool1d(input, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)


class MaxPool2d(_MaxPool):
    """Takes the maximum of every window.

    y[n, c, i, j] = max over k, l of x[n, c, i * stride + k, j * stride + l].

    Args:
        kernel_size: extent of the window, one number or a pair.
        stride: step between windows; None is the kernel size.
        padding: what is added at all sides, as minus infinity.
        dilation: distance between two elements of a window.
        return_indices: whether to return the places of the maxima too.
        ceil_mode: whether windows may reach over the end.

    Example:
        >>> import firesteel as torch
        >>> torch.nn.MaxPool2d(2)(torch.arange(4.0).view(1, 1, 2, 2))
        tensor([[[[3.]]]])
    """

    def forward(self, input: Tensor) -> Any:
        if self.return_indices:
            return max_pool2d(
                input,
                self.kernel_size,
                self.stride,
                self.padding,
                self.dilation,
                self.ceil_mode,
                return_indices=True,
            )
        return max_pool2d(input, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)


class AvgPool1d(Module):
    """Takes the mean of every window of a sequence (N, C, L) or (C, L); see `AvgPool2d`.

    Example:
        >>> import firesteel as torch
        >>> torch.nn.AvgPool1d(2)(torch.arange(4.0).view(1, 1, 4))
        tensor([[[0.5000, 2.5000]]])
    """

    def __init__(
        self,
        kernel_size: int | tuple[int],
        stride: int | tuple[int] | None = None,
        padding: int | tuple[int] = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__()
        self.kernel_size = _single(kernel_size)
        self.stride = _single(stride if stride is not None else kernel_size)
        self.padding = _single(padding)
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad

    def forward(self, input: Tensor) -> Tensor:
        return avg_pool1d(
            input, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad
        )

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool2d(Module):
    """Takes the mean of every window.

    Args:
        kernel_size: extent of the window, one number or a pair.
        stride: step between windows; None is the kernel size.
        padding: zeros added at all sides.
        ceil_mode: whether windows may reach over the end.
        count_include_pad: whether the added zeros count in the mean.
        divisor_override: divide the sum by this instead of the window's size.

    Example:
        >>> import firesteel as torch
        >>> torch.nn.AvgPool2d(2)(torch.arange(4.0).view(1, 1, 2, 2))
        tensor([[[[1.5000]]]])
    """

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = stride if stride is not None else kernel_size
        self.padding = padding
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad
        self.divisor_override = divisor_override

    def forward(self, input: Tensor) -> Tensor:
        return avg_pool2d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
        )

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AdaptiveAvgPool2d(Module):
    """Takes means over windows chosen so that the output has a given size.

    Args:
        output_size: height and width of the output, one number or a pair; None keeps the input's.

    Example:
        >>> import firesteel as torch
        >>> torch.nn.AdaptiveAvgPool2d(1)(torch.ones(2, 8, 7, 7)).shape
        torch.Size([2, 8, 1, 1])
    """

    def __init__(self, output_size: int | tuple[int | None, int | None] | None) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, input: Tensor) -> Tensor:
        return adaptive_avg_pool2d(input, self.output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveMaxPool1d(Module):
    """Takes the maximum of windows chosen so that the output has a given length; see `AdaptiveMaxPool2d`.

    Args:
        output_size: length of the output.
        return_indices: whether to return the places of the maxima too.

    Example:
        >>> import firesteel as torch
        >>> torch.nn.AdaptiveMaxPool1d(2)(torch.arange(5.0).view(1, 1, 5))
        tensor([[[2., 4.]]])
    """

    def __init__(self, output_size: int | tuple[int], return_indices: bool = False) -> None:
        super().__init__()
        self.output_size = output_size
        self.return_indices = return_indices

    def forward(self, input: Tensor) -> Any:
        out, indices = adaptive_max_pool1d(input, self.output_size)
        return (out, indices) if self.return_indices else out

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveMaxPool2d(Module):
    """Takes the maximum of windows chosen so that the output has a given size.

    y[n, c, i, j] is the largest x[n, c, k, l] with floor(i * H / out) <= k < ceil((i + 1) * H / out), and l
    likewise.

    Args:
        output_size: height and width of the output, one number or a pair; None keeps the input's.
        return_indices: whether to return the places of the maxima too.

    Example:
        >>> import firesteel as torch
        >>> torch.nn.AdaptiveMaxPool2d(1)(torch.arange(4.0).view(1, 1, 2, 2))
        tensor([[[[3.]]]])
    """

    def __init__(
        self, output_size: int | tuple[int | None, int | None] | None, return_indices: bool = False
    ) -> None:
        super().__init__()
        self.output_size = output_size
        self.return_indices = return_indices

    def forward(self, input: Tensor) -> Any:
        if self.return_indices:
            return adaptive_max_pool2d(input, self.output_size, return_indices=True)
        return adaptive_max_pool2d(input, self.output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"
