//! Convolution of volumes, images and signals. Three operations are each other's gradients: the convolution,
//! the gradient of its input (a transposed convolution), and the gradient of its weight.

use std::fmt;

use super::promote::compute_dtype;
use crate::array::Array;
use crate::autograd::{apply::apply, Grads, Op, Saved, Saves, Ties};
use crate::format::MemoryFormat;
use crate::kernels::conv::{self, ConvGeometry, Wanted};
use crate::layout::Dims;
use crate::tensor::Tensor;
use crate::{dispatch_float, ensure, DType, Layout, Result};

/// What a convolution is, besides its operands, along slices, rows and columns: an image is a volume of one slice, a
/// signal an image of one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvOptions {
    /// Steps of the window.
    pub stride: [usize; 3],
    /// Zeros around the input.
    pub padding: [usize; 3],
    /// Distances between the taps.
    pub dilation: [usize; 3],
    /// Groups of channels that do not see each other.
    pub groups: usize,
}

impl Default for ConvOptions {
    fn default() -> Self {
        Self { stride: [1; 3], padding: [0; 3], dilation: [1; 3], groups: 1 }
    }
}

impl ConvOptions {
    /// With what says nothing for the dims before the last `spatial` ones.
    pub(super) fn of_last(mut self, spatial: usize) -> Self {
        let none = Self::default();
        for dim in 0..3 - spatial {
            self.stride[dim] = none.stride[dim];
            self.padding[dim] = none.padding[dim];
            self.dilation[dim] = none.dilation[dim];
        }
        self
    }
}

/// `padding=` as users give it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConvPadding {
    /// As many zeros on both sides of each dim.
    Zeros([usize; 3]),
    /// As many as keep the extents.
    Same,
}

/// Shapes of the operands, with batch dim, and the attributes.
#[derive(Clone)]
pub(super) struct Conv {
    pub options: ConvOptions,
    pub x: Dims,
    pub weight: Dims,
    /// Whether the channels of the input, of the result and of their gradients come last in memory.
    pub channels_last: bool,
}

/// As graphs show it: with the attributes of its own dims.
impl fmt::Debug for Conv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ConvOptions { stride, padding, dilation, groups } = &self.options;
        let [stride, padding, dilation] = [stride, padding, dilation].map(|sizes| &sizes[5 - self.x.len()..]);
        f.debug_struct("Conv")
            .field("stride", &stride)
            .field("padding", &padding)
            .field("dilation", &dilation)
            .field("groups", groups)
            .field("x", &self.x)
            .field("weight", &self.weight)
            .field("channels_last", &self.channels_last)
            .finish()
    }
}

/// The order of tensors in memory in which a kernel computes.
#[derive(Clone, Copy)]
struct Order {
    channels_last: bool,
}

/// The format of tensors of that rank whose channels come last.
fn last_format(rank: usize) -> MemoryFormat {
    if rank == 5 {
        MemoryFormat::ChannelsLast3d
    } else {
        MemoryFormat::ChannelsLast
    }
}

/// Its dims, from the outermost to the innermost.
fn last_dims(rank: usize) -> Dims {
    std::iter::once(0).chain(2..rank).chain([1]).collect()
}

impl Order {
    /// An input in that order.
    fn ready(self, x: &Array) -> Result<Array> {
        if !self.channels_last {
            return x.contiguous();
        }
        let x = x.in_format(last_format(x.rank()))?;
        Ok(x.with_layout(x.layout().permute(&last_dims(x.rank()))))
    }

    /// Room for a result, in the order of a kernel, and the same memory as the tensor that it is.
    fn room(self, shape: &[usize], dtype: DType) -> Result<(Array, Layout)> {
        if !self.channels_last {
            return Ok((Array::empty(shape, dtype)?, Layout::contiguous(shape)));
        }
        let layout = last_format(shape.len()).layout(shape)?;
        let memory: Dims = last_dims(shape.len()).into_iter().map(|dim| shape[dim]).collect();
        Ok((Array::empty(&memory, dtype)?, layout))
    }
}

/// Slices, rows and columns: the dims after the first two, after ones where there are fewer.
pub(super) fn extents(shape: &[usize]) -> [usize; 3] {
    let missing = 5 - shape.len();
    [0, 1, 2].map(|dim| if dim < missing { 1 } else { shape[2 + dim - missing] })
}

impl Conv {
    /// The order for a kernel: that of the tensors, if the kernel takes it.
    fn order(&self, wanted: Wanted, dtype: DType) -> Order {
        let takes = || match dtype {
            DType::F64 => {
                conv::takes_channels_last::<f64>(wanted, &self.geometry(Order { channels_last: false }))
            }
            _ => conv::takes_channels_last::<f32>(wanted, &self.geometry(Order { channels_last: false })),
        };
        Order { channels_last: self.channels_last && takes() }
    }

    /// The result in the memory format of the tensors.
    fn finish(&self, out: Array) -> Result<Array> {
        out.in_format(if self.channels_last { last_format(out.rank()) } else { MemoryFormat::Contiguous })
    }

    fn geometry(&self, order: Order) -> ConvGeometry {
        let ConvOptions { stride, padding, dilation, groups } = self.options;
        ConvGeometry {
            batch: self.x[0],
            in_channels: self.x[1],
            in_extents: extents(&self.x),
            out_channels: self.weight[0],
            kernel: extents(&self.weight),
            stride,
            padding,
            dilation,
            groups,
            channels_last: order.channels_last,
        }
    }

    fn out_shape(&self) -> Dims {
        let extents = self.geometry(Order { channels_last: false }).out_extents();
        let mut shape = Dims::from_slice(&[self.x[0], self.weight[0]]);
        shape.extend_from_slice(&extents[5 - self.x.len()..]);
        shape
    }

    fn forward(&mut self, x: &Array, weight: &Array, bias: Option<&Array>) -> Result<Array> {
        let dtype = compute_dtype(x.dtype());
        self.channels_last = has_channels_last(x, weight);
        let order = self.order(Wanted::Output, dtype);
        let ready = |a: &Array| a.to_dtype(dtype)?.contiguous();
        let (weight, bias) = (ready(weight)?, bias.map(ready).transpose()?);
        let x = order.ready(&x.to_dtype(dtype)?)?;
        let (mut out, layout) = order.room(&self.out_shape(), dtype)?;
        dispatch_float!(dtype, "convolution", T => {
            let bias = bias.as_ref().map(|bias| bias.slice::<T>());
            conv::conv(&self.geometry(order), x.slice::<T>(), weight.slice(), bias, out.slice_mut())?;
        });
        self.finish(out.with_layout(layout))
    }

    /// The gradients of input and weight that are asked for.
    fn grads<const N: usize>(&self, saved: &Saved<N>, grad: &Tensor) -> Result<[Option<Tensor>; 2]> {
        let (x, weight) = (saved.needs(1).then(|| saved.input(0)), saved.needs(0).then(|| saved.input(1)));
        let by_x = weight.transpose()?.map(|weight| apply(ConvInput(self.clone()), [grad, &weight]));
        let by_weight = x.transpose()?.map(|x| apply(ConvWeight(self.clone()), [grad, &x]));
        Ok([by_x.transpose()?, by_weight.transpose()?])
    }
}

/// Whether the result takes over the memory format of operands whose channels come last; one is enough.
pub(super) fn has_channels_last(x: &Array, weight: &Array) -> bool {
    [x, weight].iter().any(|x| MemoryFormat::of(x.layout()) != MemoryFormat::Contiguous)
}

/// A convolution, with or without bias.
#[derive(Debug)]
struct Convolve(Conv);

impl Op<2> for Convolve {
    const NAME: &'static str = "conv2d";

    fn grad_fn_name(&self) -> String {
        "ConvolutionBackward0".into()
    }

    fn ties(&self) -> Ties {
        Ties::Unused(2)
    }

    fn saves(&self, [x, weight]: [bool; 2]) -> Saves<2> {
        Saves::inputs([weight, x])
    }

    fn forward(&mut self, [x, weight]: [&Array; 2]) -> Result<Array> {
        self.0.forward(x, weight, None)?.to_dtype(x.dtype())
    }

    fn backward(&self, saved: &Saved<2>, grad: &Tensor) -> Result<Grads<2>> {
        self.0.grads(saved, grad)
    }
}

impl Op<3> for Convolve {
    const NAME: &'static str = "conv2d";

    fn grad_fn_name(&self) -> String {
        "ConvolutionBackward0".into()
    }

    fn ties(&self) -> Ties {
        Ties::Unused(2)
    }

    fn saves(&self, [x, weight, _]: [bool; 3]) -> Saves<3> {
        Saves::inputs([weight, x, false])
    }

    fn forward(&mut self, [x, weight, bias]: [&Array; 3]) -> Result<Array> {
        self.0.forward(x, weight, Some(bias))?.to_dtype(x.dtype())
    }

    fn backward(&self, saved: &Saved<3>, grad: &Tensor) -> Result<Grads<3>> {
        let [by_x, by_weight] = self.0.grads(saved, grad)?;
        let by_bias = saved.needs(2).then(|| apply(ConvBias, [grad])).transpose()?;
        Ok([by_x, by_weight, by_bias])
    }
}

/// The gradient of the input from that of the output and the weight: a transposed convolution.
#[derive(Debug)]
pub(super) struct ConvInput(pub Conv);

impl Op<2> for ConvInput {
    const NAME: &'static str = "conv_transpose2d";

    fn grad_fn_name(&self) -> String {
        "ConvolutionBackward0".into()
    }

    fn ties(&self) -> Ties {
        Ties::Unused(2)
    }

    fn saves(&self, [grad, weight]: [bool; 2]) -> Saves<2> {
        Saves::inputs([weight, grad])
    }

    fn forward(&mut self, [grad, weight]: [&Array; 2]) -> Result<Array> {
        let dtype = compute_dtype(grad.dtype());
        let result_dtype = grad.dtype();
        let order = self.0.order(Wanted::GradInput, dtype);
        let (grad, weight) = (order.ready(&grad.to_dtype(dtype)?)?, weight.to_dtype(dtype)?.contiguous()?);
        let (mut out, layout) = order.room(&self.0.x, dtype)?;
        dispatch_float!(dtype, "convolution", T => {
            let geometry = self.0.geometry(order);
            conv::conv_grad_input(&geometry, grad.slice::<T>(), weight.slice(), out.slice_mut())?;
        });
        self.0.finish(out.with_layout(layout))?.to_dtype(result_dtype)
    }

    fn backward(&self, saved: &Saved<2>, v: &Tensor) -> Result<Grads<2>> {
        let conv = &self.0;
        let by_grad = saved.needs(0).then(|| apply::<_, 2>(Convolve(conv.clone()), [v, &saved.input(1)?]));
        let by_weight = saved.needs(1).then(|| apply(ConvWeight(conv.clone()), [&saved.input(0)?, v]));
        Ok([by_grad.transpose()?, by_weight.transpose()?])
    }
}

/// The gradient of the weight from that of the output and the input.
#[derive(Debug)]
struct ConvWeight(Conv);

impl Op<2> for ConvWeight {
    const NAME: &'static str = "conv2d_weight";

    fn saves(&self, [grad, x]: [bool; 2]) -> Saves<2> {
        Saves::inputs([x, grad])
    }

    fn forward(&mut self, [grad, x]: [&Array; 2]) -> Result<Array> {
        let dtype = compute_dtype(grad.dtype());
        let result_dtype = grad.dtype();
        let order = self.0.order(Wanted::GradWeight, dtype);
        let (grad, x) = (order.ready(&grad.to_dtype(dtype)?)?, order.ready(&x.to_dtype(dtype)?)?);
        let mut out = Array::empty(&self.0.weight, dtype)?;
        dispatch_float!(dtype, "convolution", T => {
            conv::conv_grad_weight(&self.0.geometry(order), grad.slice::<T>(), x.slice(), out.slice_mut())?;
        });
        self.0.finish(out)?.to_dtype(result_dtype)
    }

    fn backward(&self, saved: &Saved<2>, v: &Tensor) -> Result<Grads<2>> {
        let conv = &self.0;
        let by_grad = saved.needs(0).then(|| apply::<_, 2>(Convolve(conv.clone()), [&saved.input(1)?, v]));
        let by_x = saved.needs(1).then(|| apply(ConvInput(conv.clone()), [&saved.input(0)?, v]));
        Ok([by_grad.transpose()?, by_x.transpose()?])
    }
}

/// The sum of each channel: the gradient of the bias.
#[derive(Debug)]
struct ConvBias;

impl Op<1> for ConvBias {
    const NAME: &'static str = "conv2d_bias";

    fn forward(&mut self, [grad]: [&Array; 1]) -> Result<Array> {
        let dtype = compute_dtype(grad.dtype());
        let result_dtype = grad.dtype();
        let grad = grad.to_dtype(dtype)?.contiguous()?;
        let shape = grad.shape();
        // The kernel reads only the extents of the output.
        let geometry = ConvGeometry {
            batch: shape[0],
            in_channels: shape[1],
            in_extents: extents(shape),
            out_channels: shape[1],
            kernel: [1; 3],
            stride: [1; 3],
            padding: [0; 3],
            dilation: [1; 3],
            groups: 1,
            channels_last: false,
        };
        let mut out = Array::empty(&[shape[1]], dtype)?;
        dispatch_float!(dtype, "convolution", T => {
            conv::conv_grad_bias(&geometry, grad.slice::<T>(), out.slice_mut());
        });
        out.to_dtype(result_dtype)
    }

    fn backward(&self, saved: &Saved<1>, v: &Tensor) -> Result<Grads<1>> {
        let shape = saved.shape(0);
        let mut one_per_channel = Dims::from_elem(1, shape.len());
        one_per_channel[1] = shape[1];
        Ok([Some(v.reshape(&one_per_channel)?.expand(&shape)?)])
    }
}

/// Numbers of a window from here on are refused: their products would not fit 64 bits.
const TOO_LARGE: usize = 1 << 31;

/// Refuses strides, paddings and the like that no memory could serve.
pub(super) fn check_sizes(op: &str, sizes: &[(&str, &[usize])]) -> Result<()> {
    for (role, sizes) in sizes {
        ensure!(
            sizes.iter().all(|&size| size < TOO_LARGE),
            Value,
            "{op}: {role} {sizes:?} would overflow the sizes computed from it; use less than 2^31 for each"
        );
    }
    Ok(())
}

/// Refuses operands that do not fit; `spatial` is the number of dims that the window moves along.
fn check(
    op: &str,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    options: &ConvOptions,
    spatial: usize,
) -> Result<()> {
    let (n, c) = (x.shape(), weight.shape());
    ensure!(
        x.rank() == spatial + 2 || x.rank() == spatial + 1,
        Shape,
        "{op}: Expected {}D (unbatched) or {}D (batched) input to {op}, but got input of size: {n:?}; \
         unsqueeze or reshape it",
        spatial + 1,
        spatial + 2
    );
    ensure!(
        weight.rank() == spatial + 2,
        Shape,
        "{op}: expected a {}-dimensional weight (out_channels, in_channels / groups, kernel), got shape {c:?}; \
         reshape it",
        spatial + 2
    );
    check_options(op, options, spatial)?;
    ensure!(
        !n[n.len() - spatial..].contains(&0),
        Shape,
        "{op}: Only zero batch or zero channel inputs are supported, but got input shape: {n:?}; \
         pad it first"
    );
    check_channels(op, n[n.len() - spatial - 1], n, c, options.groups)?;
    ensure!(!c[2..].contains(&0), Shape, "{op}: kernel size {:?} has a zero; use at least 1", &c[2..]);
    check_sizes(op, &[("kernel size", &c[2..])])?;
    if let Some(bias) = bias {
        check_bias(op, bias, c[0], c)?;
    }
    check_dtypes(op, x, weight, bias)
}

pub(super) fn check_options(op: &str, options: &ConvOptions, spatial: usize) -> Result<()> {
    let [stride, padding, dilation] =
        [&options.stride, &options.padding, &options.dilation].map(|sizes| &sizes[3 - spatial..]);
    ensure!(
        !stride.contains(&0),
        Value,
        "{op}: non-positive stride is not supported, got {stride:?}; use at least 1"
    );
    ensure!(
        !dilation.contains(&0),
        Value,
        "{op}: dilation should be greater than zero, got {dilation:?}; use at least 1"
    );
    ensure!(
        options.groups > 0,
        Value,
        "{op}: non-positive groups is not supported, got groups={}; use at least 1",
        options.groups
    );
    check_sizes(op, &[("stride", stride), ("padding", padding), ("dilation", dilation)])
}

fn check_channels(op: &str, channels: usize, n: &[usize], c: &[usize], groups: usize) -> Result<()> {
    ensure!(
        c[1].checked_mul(groups) == Some(channels),
        Shape,
        "{op}: Given groups={groups}, weight of size {c:?}, expected input {n:?} to have {} channels, but got \
         {channels} channels instead; change groups, or the number of channels of one of them",
        c[1].saturating_mul(groups)
    );
    ensure!(
        c[0] > 0 && c[0].is_multiple_of(groups),
        Shape,
        "{op}: Given groups={groups}, expected weight to be at least {groups} at dimension 0 and divisible by it, \
         but got weight of size {c:?} instead; use other groups"
    );
    Ok(())
}

pub(super) fn check_bias(op: &str, bias: &Tensor, channels: usize, weight: &[usize]) -> Result<()> {
    ensure!(
        bias.rank() == 1 && bias.numel() == channels,
        Shape,
        "{op}: Given weight of size {weight:?}, expected bias to be 1-dimensional with {channels} elements, but got \
         bias of size {:?} instead; give one number per output channel",
        bias.shape()
    );
    Ok(())
}

pub(super) fn check_dtypes(op: &str, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<()> {
    let dtype = x.dtype();
    ensure!(dtype.is_float(), DType, "{op}: not defined for {dtype}; convert with .float() first");
    for (role, other) in [("weight", Some(weight)), ("bias", bias)] {
        let Some(other) = other else { continue };
        ensure!(
            other.dtype() == x.dtype(),
            DType,
            "{op}: Input type ({}) and {role} type ({}) should be the same; convert one of them",
            x.dtype().scalar_name(),
            other.dtype().scalar_name()
        );
    }
    Ok(())
}

fn check_window(op: &str, conv: &Conv) -> Result<()> {
    let (shape, kernel) = (&conv.x[2..], &conv.weight[2..]);
    let ConvOptions { padding, dilation, .. } = &conv.options;
    let [padding, dilation] = [padding, dilation].map(|sizes| &sizes[3 - shape.len()..]);
    for dim in 0..shape.len() {
        let (padded, window) = (shape[dim] + 2 * padding[dim], dilation[dim] * (kernel[dim] - 1) + 1);
        ensure!(
            padded >= window,
            Shape,
            "{op}: Calculated padded input size per channel: {padded} at dim {dim} of {shape:?} (padding \
             {padding:?}). Kernel size: {kernel:?} (dilation {dilation:?}). Kernel size can't be greater than actual \
             input size; use a smaller kernel or more padding"
        );
    }
    Ok(())
}

impl Tensor {
    /// Convolution of volumes `(N, C, D, H, W)` or `(C, D, H, W)` with `weight` `(O, C / groups, d, h, w)`.
    pub fn conv3d(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
        padding: ConvPadding,
        options: ConvOptions,
    ) -> Result<Tensor> {
        self.convolve("conv3d", weight, bias, padding, options, 3)
    }

    /// Convolution of images `(N, C, H, W)` or `(C, H, W)` with `weight` `(O, C / groups, h, w)`; of the
    /// options' numbers only the last two count.
    pub fn conv2d(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
        padding: ConvPadding,
        options: ConvOptions,
    ) -> Result<Tensor> {
        self.convolve("conv2d", weight, bias, padding, options, 2)
    }

    /// Convolution of signals `(N, C, L)` or `(C, L)` with `weight` `(O, C / groups, l)`; of the options'
    /// numbers only the last ones count.
    pub fn conv1d(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
        padding: ConvPadding,
        options: ConvOptions,
    ) -> Result<Tensor> {
        self.convolve("conv1d", weight, bias, padding, options, 1)
    }

    fn convolve(
        &self,
        op: &str,
        weight: &Tensor,
        bias: Option<&Tensor>,
        padding: ConvPadding,
        mut options: ConvOptions,
        spatial: usize,
    ) -> Result<Tensor> {
        if let ConvPadding::Zeros(zeros) = padding {
            options.padding = zeros;
        }
        options = options.of_last(spatial);
        check(op, self, weight, bias, &options, spatial)?;
        if self.rank() == spatial + 1 {
            return self
                .unsqueeze(0)?
                .convolve(op, weight, bias, padding, options, spatial)?
                .squeeze(Some(&[0]));
        }
        let mut x = self.clone();
        if padding == ConvPadding::Same {
            (x, options.padding) = x.pad_same(op, weight, &options)?;
        }
        let conv = Conv {
            options,
            x: Dims::from_slice(x.shape()),
            weight: Dims::from_slice(weight.shape()),
            channels_last: false,
        };
        check_window(op, &conv)?;
        match bias {
            Some(bias) => apply(Convolve(conv), [&x, weight, bias]),
            None => apply::<_, 2>(Convolve(conv), [&x, weight]),
        }
    }

    /// The padding that keeps the extents; an odd one takes a zero more at the end, which is added here.
    fn pad_same(&self, op: &str, weight: &Tensor, options: &ConvOptions) -> Result<(Tensor, [usize; 3])> {
        ensure!(
            options.stride == [1; 3],
            Value,
            "{op}: padding='same' is not supported for strided convolutions, stride is {:?}; \
             use a stride of 1 or give the padding in numbers",
            &options.stride[5 - weight.rank()..]
        );
        let kernel = extents(weight.shape());
        let total = [0, 1, 2].map(|dim| options.dilation[dim] * (kernel[dim] - 1));
        let mut x = self.clone();
        for dim in (0..3).filter(|&dim| total[dim] % 2 == 1) {
            let at = x.rank() + dim - 3;
            let mut shape = Dims::from_slice(x.shape());
            shape[at] = 1;
            x = Tensor::cat(&[&x, &Tensor::zeros(&shape, x.dtype())?], at as isize)?;
        }
        Ok((x, total.map(|zeros| zeros / 2)))
    }
}
