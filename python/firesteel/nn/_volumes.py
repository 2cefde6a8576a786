"""Convolutions of volumes, as convolutions of images: what lies along the depth becomes channels."""

from __future__ import annotations

from collections.abc import Sequence

from firesteel._core import ShapeError, Tensor, bfloat16, cat, conv2d, conv_transpose2d, float16, stack, zeros

_Size = int | Sequence[int]


def _triple(op: str, role: str, value: _Size, least: int) -> tuple[int, int, int]:
    triple = (value,) * 3 if isinstance(value, int) else tuple(value)
    if len(triple) == 1:
        triple *= 3
    if len(triple) != 3:
        raise RuntimeError(
            f"{op}: {role} should be a single int or a tuple of three ints, got {len(triple)} values; "
            "give one or three"
        )
    if any(n < least for n in triple):
        bad = "non-positive" if least else "negative"
        raise RuntimeError(f"{op}: {bad} {role} is not supported, got {triple}; use at least {least}")
    return triple


def _check(op: str, input: Tensor, weight: Tensor, channels: int, groups: int) -> None:
    """Refuses what the convolution of images would call by other names."""
    if weight.ndim != 5 or input.ndim not in (4, 5):
        raise ShapeError(
            f"{op}: Expected 4D (unbatched) or 5D (batched) input and a 5D weight, but got "
            f"{list(input.shape)} and {list(weight.shape)}; unsqueeze or reshape them"
        )
    if groups <= 0:
        raise RuntimeError(f"{op}: non-positive groups is not supported, got groups={groups}; use at least 1")
    if input.shape[-4] != channels or weight.shape[0] % groups:
        raise ShapeError(
            f"{op}: Given groups={groups}, weight of size {list(weight.shape)}, expected input "
            f"{list(input.shape)} to have {channels} channels, but got {input.shape[-4]} channels instead; "
            "change groups, or the number of channels of one of them"
        )
    if 0 in input.shape[-3:] or 0 in weight.shape[2:]:
        raise ShapeError(
            f"{op}: only zero batch or zero channel inputs are supported, but got input "
            f"{list(input.shape)} and weight {list(weight.shape)}; give every dimension an extent"
        )


def conv3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: _Size = 1,
    padding: _Size | str = 0,
    dilation: _Size = 1,
    groups: int = 1,
) -> Tensor:
    """Returns the convolution of volumes.

    y[n, o, i, j, k] = bias[o] + sum over c, p, q, r of
    weight[o, c, p, q, r] * x[n, c, i * stride + p * dilation - padding, ...].

    Args:
        input: (N, C, D, H, W) or (C, D, H, W), float.
        weight: (O, C / groups, d, h, w), of the same dtype.
        bias: (O,), or None.
        stride: step of the window, one number or three.
        padding: zeros at all sides, or "valid" (none) or "same" (as many as keep the extents).
        dilation: distance between the elements of the window.
        groups: groups of channels that do not see each other.

    Raises:
        ShapeError: the shapes do not fit each other.

    Example:
        >>> import firesteel as torch
        >>> torch.nn.functional.conv3d(torch.ones(1, 2, 4, 4, 4), torch.ones(3, 2, 3, 3, 3)).shape
        torch.Size([1, 3, 2, 2, 2])
    """
    steps = _triple("conv3d", "stride", stride, 1)
    distances = _triple("conv3d", "dilation", dilation, 1)
    _check("conv3d", input, weight, weight.shape[1] * groups if weight.ndim == 5 else 0, groups)
    kernel = weight.shape[2:]
    if isinstance(padding, str):
        if padding not in ("same", "valid"):
            raise RuntimeError(f"conv3d: Invalid padding string: '{padding}'; use 'same' or 'valid'")
        if padding == "same" and steps != (1, 1, 1):
            raise RuntimeError(
                f"conv3d: padding='same' is not supported for strided convolutions, stride is {steps}; "
                "use a stride of 1 or give the padding in numbers"
            )
        same = padding == "same"
        totals = [d * (k - 1) if same else 0 for d, k in zip(distances, kernel, strict=True)]
        margins = [(total // 2, total - total // 2) for total in totals]
    else:
        margins = [(n, n) for n in _triple("conv3d", "padding", padding, 0)]
    if input.ndim == 4:
        return conv3d(input.unsqueeze(0), weight, bias, stride, padding, dilation, groups).squeeze(0)
    images = tuple(before for before, _ in margins[1:])
    for dim, (before, after) in enumerate(margins, start=2):
        # The convolution of images adds what is the same at both ends.
        before, after = (before, after) if dim == 2 else (0, after - before)
        input = _padded(input, dim, before, after)
    window = distances[0] * (kernel[0] - 1) + 1
    if input.shape[2] < window:
        raise ShapeError(
            f"conv3d: Calculated padded input size per channel: {input.shape[2]} along the depth of "
            f"{list(input.shape)}. Kernel size: {tuple(kernel)} (dilation {distances}). Kernel size can't be "
            "greater than actual input size; use a smaller kernel or more padding"
        )
    depth = (input.shape[2] - window) // steps[0] + 1
    count = input.shape[0]
    # For each output plane the planes that it sees, beside each other: (N, D, C, d, H, W).
    slices = [
        input[:, :, at : at + (depth - 1) * steps[0] + 1 : steps[0]].transpose(1, 2)
        for at in range(0, window, distances[0])
    ]
    planes = stack(slices, 3).flatten(2, 3).flatten(0, 1)
    out = conv2d(planes, weight.flatten(1, 2), bias, steps[1:], images, distances[1:], groups)
    return out.reshape(count, depth, *out.shape[1:]).transpose(1, 2).contiguous()


def _padded(input: Tensor, dim: int, before: int, after: int) -> Tensor:
    """Returns the input with so many planes of zeros before and after it."""
    if not before and not after:
        return input
    ends = [[*input.shape[:dim], count, *input.shape[dim + 1 :]] for count in (before, after)]
    first, last = (zeros(shape, dtype=input.dtype) for shape in ends)
    return cat([first, input, last], dim)


def conv_transpose3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: _Size = 1,
    padding: _Size = 0,
    output_padding: _Size = 0,
    groups: int = 1,
    dilation: _Size = 1,
) -> Tensor:
    """Returns the transposed convolution of volumes: what the gradient of `conv3d`'s input is.

    Args:
        input: (N, C, D, H, W) or (C, D, H, W), float.
        weight: (C, O / groups, d, h, w), of the same dtype.
        bias: (O,), or None.
        stride: step between the windows that input elements are spread over, one number or three.
        padding: what is cut off at all sides.
        output_padding: what is added at the far sides; less than the stride or the dilation.
        groups: groups of channels that do not see each other.
        dilation: distance between the elements of the window.

    Raises:
        ShapeError: the shapes do not fit each other.

    Example:
        >>> import firesteel as torch
        >>> x, weight = torch.ones(1, 2, 4, 4, 4), torch.ones(2, 3, 2, 2, 2)
        >>> torch.nn.functional.conv_transpose3d(x, weight, stride=2).shape
        torch.Size([1, 3, 8, 8, 8])
    """
    op = "conv_transpose3d"
    steps, distances = _triple(op, "stride", stride, 1), _triple(op, "dilation", dilation, 1)
    cuts, extras = _triple(op, "padding", padding, 0), _triple(op, "output_padding", output_padding, 0)
    _check(op, input, weight, weight.shape[0], groups)
    if any(n >= max(s, d) for n, s, d in zip(extras, steps, distances, strict=True)):
        raise RuntimeError(
            f"{op}: output padding must be smaller than either stride or dilation, but got output_padding "
            f"{extras}, stride {steps}, dilation {distances}; use a smaller one"
        )
    if input.ndim == 4:
        batch = input.unsqueeze(0)
        return conv_transpose3d(
            batch, weight, bias, stride, padding, output_padding, groups, dilation
        ).squeeze(0)
    if input.dtype in (float16, bfloat16):  # what the planes add up to is rounded once
        wide = conv_transpose3d(
            input.float(),
            weight.float(),
            None if bias is None else bias.float(),
            stride,
            padding,
            output_padding,
            groups,
            dilation,
        )
        return wide.to(input.dtype)
    count, _, depth = input.shape[:3]
    kernel = weight.shape[2:]
    whole = (depth - 1) * steps[0] + distances[0] * (kernel[0] - 1) + 1 + extras[0]
    if whole <= 2 * cuts[0]:
        raise ShapeError(
            f"{op}: input {list(input.shape)}, weight {list(weight.shape)} and padding {cuts} leave no "
            "output; use less padding"
        )
    planes = conv_transpose2d(
        input.transpose(1, 2).flatten(0, 1),
        weight.flatten(1, 2),
        None,
        steps[1:],
        cuts[1:],
        extras[1:],
        groups,
        distances[1:],
    )
    # (N, O, d, D, H, W): what each input plane gives to the d output planes that it reaches.
    parts = planes.reshape(count, depth, -1, kernel[0], *planes.shape[2:]).permute(0, 2, 3, 1, 4, 5)
    out = zeros(count, parts.shape[1], whole, *parts.shape[4:], dtype=input.dtype)
    for tap in range(kernel[0]):
        first = tap * distances[0]
        out[:, :, first : first + (depth - 1) * steps[0] + 1 : steps[0]] += parts[:, :, tap]
    out = out[:, :, cuts[0] : whole - cuts[0]]
    return out.contiguous() if bias is None else out + bias.reshape(-1, 1, 1, 1)
