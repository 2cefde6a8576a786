//! Max and average pooling of planes.

use super::conv::check_sizes;
use super::promote::{compute_dtype, Scalar};
use crate::array::Array;
use crate::autograd::apply::{apply, apply_and};
use crate::autograd::{is_recording, Grads, Kept, Op, Saved, Ties};
use crate::dtype::DType;
use crate::kernels::pool::{self, pool_extent, AvgDivisor, PoolGeometry};
use crate::layout::Dims;
use crate::tensor::Tensor;
use crate::{bail, dispatch_compute, dispatch_float, ensure, Error, Result};
use std::num::NonZeroIsize;

/// What the window is and how it moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolOptions {
    /// Rows and columns of the window.
    pub kernel: [usize; 2],
    /// Steps of the window.
    pub stride: [usize; 2],
    /// Positions around the input.
    pub padding: [usize; 2],
    /// Distances between the window's elements.
    pub dilation: [usize; 2],
    /// Whether a last window may hang over the end.
    pub ceil_mode: bool,
}

impl PoolOptions {
    /// A window that moves by its own extent.
    pub fn tiles(kernel: [usize; 2]) -> Self {
        Self { kernel, stride: kernel, padding: [0, 0], dilation: [1, 1], ceil_mode: false }
    }

    /// Checks everything and gives the geometry for an input of `shape`. Of a pooling of signals (`op`
    /// ends in "1d") only the second numbers are spoken of.
    fn geometry(&self, op: &str, shape: &[usize]) -> Result<PoolGeometry> {
        let [.., height, width] = *shape else {
            bail!(
                Shape,
                "{op}: needs (N, C, H, W) or (C, H, W), but got shape {shape:?}; unsqueeze or reshape it"
            )
        };
        ensure!(
            (shape.len() == 3 || shape.len() == 4) && !shape[shape.len() - 3..].contains(&0),
            Shape,
            "{op}: needs (N, C, H, W) or (C, H, W), where only N may be 0, but got shape {shape:?}; reshape it"
        );
        self.check_options(op)?;
        let Self { kernel, stride, padding, dilation, ceil_mode } = *self;
        check_sizes(op, &[("input", &[height, width])])?;
        let extents = [height, width];
        let out = [0, 1].map(|dim| {
            pool_extent(extents[dim], kernel[dim], stride[dim], padding[dim], dilation[dim], ceil_mode)
        });
        ensure!(
            !out.contains(&0),
            Shape,
            "{op}: Given input size: {shape:?} and kernel size {:?} (padding {:?}, dilation {:?}). Calculated output \
             size: {:?}. Output size is too small; use a smaller kernel or more padding",
            spoken(op, &kernel),
            spoken(op, &padding),
            spoken(op, &dilation),
            spoken(op, &out)
        );
        Ok(PoolGeometry {
            planes: shape[..shape.len() - 2].iter().product(),
            in_height: height,
            in_width: width,
            out_height: out[0],
            out_width: out[1],
            kernel,
            stride,
            padding,
            dilation,
        })
    }

    fn check_options(&self, op: &str) -> Result<()> {
        let [kernel, stride, padding, dilation] =
            [&self.kernel, &self.stride, &self.padding, &self.dilation].map(|pair| spoken(op, pair));
        for (role, values) in [("kernel size", kernel), ("stride", stride), ("dilation", dilation)] {
            ensure!(
                !values.contains(&0),
                Value,
                "{op}: {role} should be greater than zero, but got {values:?}; use at least 1"
            );
        }
        let sizes =
            [("kernel size", kernel), ("stride", stride), ("padding", padding), ("dilation", dilation)];
        check_sizes(op, &sizes)?;
        for dim in 0..2 {
            ensure!(
                self.padding[dim] <= self.kernel[dim] / 2,
                Value,
                "{op}: pad should be at most half of kernel size, but got pad={} and kernel_size={}; use a smaller \
                 padding",
                self.padding[dim],
                self.kernel[dim]
            );
        }
        Ok(())
    }
}

/// The shape that users of `op` gave: signals were made planes of height 1.
fn spoken_shape(op: &str, shape: &[usize]) -> Dims {
    let is_theirs = |d: usize| !op.ends_with("1d") || d != shape.len() - 2;
    (0..shape.len()).filter(|&d| is_theirs(d)).map(|d| shape[d]).collect()
}

/// What was computed of planes of height 1, as signals.
fn as_signals((out, indices): (Tensor, Option<Tensor>)) -> Result<(Tensor, Option<Tensor>)> {
    let signals = |x: Tensor| Ok::<_, Error>(x.squeeze(Some(&[-2]))?.into_new());
    Ok((signals(out)?, indices.map(signals).transpose()?))
}

/// The numbers that users of `op` gave: both, or the second for signals.
fn spoken<'a>(op: &str, pair: &'a [usize; 2]) -> &'a [usize] {
    &pair[usize::from(op.ends_with("1d"))..]
}

/// An input's shape with the output's height and width.
fn out_shape(shape: &[usize], g: &PoolGeometry) -> Dims {
    let mut out = Dims::from_slice(shape);
    let rank = out.len();
    (out[rank - 2], out[rank - 1]) = (g.out_height, g.out_width);
    out
}

/// The largest elements of the windows; their indices in the planes stay in a field, where they are wanted.
#[derive(Debug)]
struct MaxPool {
    op: &'static str,
    geometry: PoolGeometry,
    /// Whether the windows are chosen by the sizes alone.
    adaptive: bool,
    wants_indices: bool,
    indices: Kept,
}

impl Op<1> for MaxPool {
    const NAME: &'static str = "max_pool2d";

    fn called(&self) -> &'static str {
        if self.adaptive {
            "adaptive_max_pool2d"
        } else {
            Self::NAME
        }
    }

    fn grad_fn_name(&self) -> String {
        if self.adaptive { "AdaptiveMaxPool2DBackward0" } else { "MaxPool2DWithIndicesBackward0" }.into()
    }

    fn ties(&self) -> Ties {
        Ties::Zeros(1)
    }

    fn forward(&mut self, [x]: [&Array; 1]) -> Result<Array> {
        let (dtype, result_dtype) = (compute_dtype(x.dtype()), x.dtype());
        let shape = out_shape(x.shape(), &self.geometry);
        let model = x;
        let x = x.to_dtype(dtype)?.into_contiguous()?;
        let mut out = Array::empty(&shape, dtype)?;
        let mut indices = self.wants_indices.then(|| Array::empty(&shape, DType::I64)).transpose()?;
        let places = indices.as_mut().map(|indices| indices.slice_mut());
        if self.adaptive {
            dispatch_float!(dtype, self.op, T => {
                pool::adaptive_max_pool2d(&self.geometry, x.slice::<T>(), out.slice_mut(), places);
            });
        } else {
            dispatch_compute!(dtype, self.op, T => {
                pool::max_pool2d(&self.geometry, x.slice::<T>(), out.slice_mut(), places);
            });
        }
        if let Some(indices) = indices {
            self.indices.set(indices);
        }
        out.into_dtype(result_dtype)?.in_format_of(model)
    }

    fn backward(&self, saved: &Saved<1>, grad: &Tensor) -> Result<Grads<1>> {
        let indices = Kept::of(self.indices.get(self.op)?);
        let op = MaxPoolBackward { geometry: self.geometry, shape: saved.shape(0), indices };
        Ok([Some(apply(op, [grad])?)])
    }

    fn visit_kept(&self, visit: &mut dyn FnMut(&Kept)) {
        visit(&self.indices);
    }
}

/// Gradients of the windows, added where their largest elements stand.
#[derive(Debug)]
struct MaxPoolBackward {
    geometry: PoolGeometry,
    shape: Dims,
    indices: Kept,
}

impl Op<1> for MaxPoolBackward {
    const NAME: &'static str = "max_pool2d_backward";

    fn forward(&mut self, [grad]: [&Array; 1]) -> Result<Array> {
        let (dtype, result_dtype) = (compute_dtype(grad.dtype()), grad.dtype());
        let grad = grad.to_dtype(dtype)?.into_contiguous()?;
        let indices = self.indices.get(Self::NAME)?;
        let mut out = Array::empty(&self.shape, dtype)?;
        dispatch_float!(dtype, "max_pool2d", T => {
            pool::max_pool2d_backward(&self.geometry, grad.slice::<T>(), indices.slice(), out.slice_mut());
        });
        out.into_dtype(result_dtype)
    }

    fn backward(&self, _saved: &Saved<1>, v: &Tensor) -> Result<Grads<1>> {
        let g = &self.geometry;
        let rows = v.reshape(&[g.planes, g.in_height * g.in_width])?;
        let indices = Tensor::constant(self.indices.get(Self::NAME)?);
        let nowhere = indices.lt_scalar(0.0)?; // windows without an element of the input
        let places = indices.clamp_min(0i64)?.reshape(&[g.planes, g.out_height * g.out_width])?;
        let picked = rows.gather(1, &places)?.reshape(indices.shape())?;
        Ok([Some(picked.masked_fill(&nowhere, 0.0)?)])
    }

    fn visit_kept(&self, visit: &mut dyn FnMut(&Kept)) {
        visit(&self.indices);
    }
}

/// Means of windows, and how their gradients are spread: each is the other's gradient.
#[derive(Debug, Clone)]
struct AvgPool {
    geometry: PoolGeometry,
    divisor: AvgDivisor,
    shape: Dims,
}

impl Op<1> for AvgPool {
    const NAME: &'static str = "avg_pool2d";

    fn grad_fn_name(&self) -> String {
        "AvgPool2DBackward0".into()
    }

    fn ties(&self) -> Ties {
        Ties::Zeros(1)
    }

    fn forward(&mut self, [x]: [&Array; 1]) -> Result<Array> {
        let (dtype, result_dtype) = (compute_dtype(x.dtype()), x.dtype());
        let model = x;
        let x = x.to_dtype(dtype)?.into_contiguous()?;
        let mut out = Array::empty(&out_shape(&self.shape, &self.geometry), dtype)?;
        dispatch_float!(dtype, "avg_pool2d", T => {
            pool::avg_pool2d(&self.geometry, self.divisor, x.slice::<T>(), out.slice_mut());
        });
        out.into_dtype(result_dtype)?.in_format_of(model)
    }

    fn backward(&self, _saved: &Saved<1>, grad: &Tensor) -> Result<Grads<1>> {
        Ok([Some(apply(AvgPoolBackward(self.clone()), [grad])?)])
    }
}

#[derive(Debug)]
struct AvgPoolBackward(AvgPool);

impl Op<1> for AvgPoolBackward {
    const NAME: &'static str = "avg_pool2d_backward";

    fn forward(&mut self, [grad]: [&Array; 1]) -> Result<Array> {
        let (dtype, result_dtype) = (compute_dtype(grad.dtype()), grad.dtype());
        let grad = grad.to_dtype(dtype)?.into_contiguous()?;
        let mut out = Array::empty(&self.0.shape, dtype)?;
        dispatch_float!(dtype, "avg_pool2d", T => {
            pool::avg_pool2d_backward(&self.0.geometry, self.0.divisor, grad.slice::<T>(), out.slice_mut());
        });
        out.into_dtype(result_dtype)
    }

    fn backward(&self, _saved: &Saved<1>, v: &Tensor) -> Result<Grads<1>> {
        Ok([Some(apply(self.0.clone(), [v])?)])
    }
}

impl Tensor {
    /// The largest element of each window of `(N, C, H, W)` or `(C, H, W)`, and, if wanted, its index in the plane;
    /// the lowest value and -1 for a window in which no element lies.
    pub fn max_pool2d(&self, options: &PoolOptions, with_indices: bool) -> Result<(Tensor, Option<Tensor>)> {
        self.max_pool("max_pool2d", options, with_indices)
    }

    fn max_pool(
        &self,
        op: &'static str,
        options: &PoolOptions,
        with_indices: bool,
    ) -> Result<(Tensor, Option<Tensor>)> {
        ensure!(
            self.dtype() != DType::Bool,
            DType,
            "{op}: \"{op}\" not implemented for 'Bool'; convert with .float() or .to(firesteel.uint8)"
        );
        self.largest(op, options.geometry(op, self.shape())?, false, with_indices)
    }

    fn largest(
        &self,
        op: &'static str,
        geometry: PoolGeometry,
        adaptive: bool,
        with_indices: bool,
    ) -> Result<(Tensor, Option<Tensor>)> {
        // Without them signals are pooled three times as fast.
        let wants_indices = with_indices || (is_recording() && self.requires_grad());
        let op = MaxPool { op, geometry, adaptive, wants_indices, indices: Kept::default() };
        let (out, indices) =
            apply_and(op, [self], |op| with_indices.then(|| op.indices.get(op.op)).transpose())?;
        Ok((out, indices.map(Tensor::constant)))
    }

    /// As `max_pool2d` over windows that are chosen so that the output has that height and width: window `i`
    /// covers the rows from `floor(i H / out)` up to `ceil((i + 1) H / out)`, columns likewise.
    pub fn adaptive_max_pool2d(
        &self,
        size: [usize; 2],
        with_indices: bool,
    ) -> Result<(Tensor, Option<Tensor>)> {
        self.adaptive_max_pool("adaptive_max_pool2d", size, with_indices)
    }

    fn adaptive_max_pool(
        &self,
        op: &'static str,
        size: [usize; 2],
        with_indices: bool,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let shape = self.shape();
        ensure!(
            shape.len() == 3 || shape.len() == 4,
            Shape,
            "{op}: Expected 3D or 4D tensor, but got shape {shape:?}; unsqueeze or reshape it"
        );
        ensure!(
            !shape[1..].contains(&0), // of (C, H, W), too, PyTorch lets the first be 0
            Shape,
            "{op}: Expected input to have non-zero size for non-batch dimensions, but got shape {:?}; pad it",
            spoken_shape(op, shape)
        );
        ensure!(
            self.dtype().is_float(),
            DType,
            "{op}: \"{op}\" not implemented for '{}'; convert with .float()",
            self.dtype().scalar_name()
        );
        let extents = [shape[shape.len() - 2], shape[shape.len() - 1]];
        check_sizes(op, &[("input", &extents), ("output size", &size)])?;
        let kernel = [0, 1].map(|dim| extents[dim].div_ceil(size[dim].max(1)));
        let geometry = PoolGeometry {
            planes: shape[..shape.len() - 2].iter().product(),
            in_height: extents[0],
            in_width: extents[1],
            out_height: size[0],
            out_width: size[1],
            kernel,
            stride: kernel,
            padding: [0, 0],
            dilation: [1, 1],
        };
        self.largest(op, geometry, true, with_indices)
    }

    /// The mean of each window of `(N, C, H, W)` or `(C, H, W)`, of floats or int64 (rounded towards 0);
    /// `options.dilation` must be 1.
    pub fn avg_pool2d(
        &self,
        options: &PoolOptions,
        count_include_pad: bool,
        divisor_override: Option<isize>,
    ) -> Result<Tensor> {
        self.avg_pool("avg_pool2d", options, count_include_pad, divisor_override)
    }

    fn avg_pool(
        &self,
        op: &str,
        options: &PoolOptions,
        count_include_pad: bool,
        divisor_override: Option<isize>,
    ) -> Result<Tensor> {
        let geometry = options.geometry(op, self.shape())?;
        ensure!(
            options.dilation == [1, 1],
            Value,
            "{op}: dilation must be 1, got {:?}; leave it out",
            spoken(op, &options.dilation)
        );
        ensure!(
            self.dtype().is_float() || self.dtype() == DType::I64,
            DType,
            "{op}: \"{op}\" not implemented for '{}'; convert with .float()",
            self.dtype().scalar_name()
        );
        let divisor = match divisor_override {
            None if count_include_pad => AvgDivisor::Padded,
            None => AvgDivisor::Inside,
            Some(divisor) => match NonZeroIsize::new(divisor) {
                Some(divisor) => AvgDivisor::Fixed(divisor),
                None => bail!(Value, "{op}: divisor must be not zero, got divisor_override=0; leave it out"),
            },
        };
        let op = AvgPool { geometry, divisor, shape: Dims::from_slice(self.shape()) };
        if self.dtype() == DType::I64 {
            // Sums below 2^53 are exact in float64, and so is the part before the point.
            return apply(op, [&self.to_dtype(DType::F64)?])?.to_dtype(DType::I64);
        }
        apply(op, [self])
    }

    /// `max_pool2d` of signals `(N, C, L)` or `(C, L)`; the options' second numbers count.
    pub fn max_pool1d(&self, options: &PoolOptions, with_indices: bool) -> Result<(Tensor, Option<Tensor>)> {
        let planes = self.as_planes("max_pool1d")?;
        as_signals(planes.max_pool("max_pool1d", &options.in_a_row(), with_indices)?)
    }

    /// `adaptive_max_pool2d` of signals `(N, C, L)` or `(C, L)`.
    pub fn adaptive_max_pool1d(&self, size: usize, with_indices: bool) -> Result<(Tensor, Option<Tensor>)> {
        let planes = self.as_planes("adaptive_max_pool1d")?;
        as_signals(planes.adaptive_max_pool("adaptive_max_pool1d", [1, size], with_indices)?)
    }

    /// `avg_pool2d` of signals `(N, C, L)` or `(C, L)`; the options' second numbers count.
    pub fn avg_pool1d(&self, options: &PoolOptions, count_include_pad: bool) -> Result<Tensor> {
        let planes = self.as_planes("avg_pool1d")?;
        planes.avg_pool("avg_pool1d", &options.in_a_row(), count_include_pad, None)?.squeeze(Some(&[-2]))
    }

    fn as_planes(&self, op: &str) -> Result<Tensor> {
        ensure!(
            self.rank() == 2 || self.rank() == 3,
            Shape,
            "{op}: Expected 2D or 3D input tensor (C, L) or (N, C, L), but got {:?}; unsqueeze or reshape it",
            self.shape()
        );
        self.unsqueeze(-2)
    }

    /// Means over windows that are chosen so that the output has that height and width: window `i`
    /// covers the rows from `floor(i H / out)` up to `ceil((i + 1) H / out)`, columns likewise.
    pub fn adaptive_avg_pool2d(&self, size: [usize; 2]) -> Result<Tensor> {
        ensure!(
            self.rank() == 3 || self.rank() == 4,
            Shape,
            "adaptive_avg_pool2d: Expected 3D or 4D tensor, but got shape {:?}; unsqueeze or reshape it",
            self.shape()
        );
        ensure!(
            self.dtype().is_float(),
            DType,
            "adaptive_avg_pool2d: not implemented for '{}'; convert with .float()",
            self.dtype().scalar_name()
        );
        if size == [1, 1] {
            return self.mean(&[-2, -1], true); // also of nothing: nan, as in PyTorch
        }
        ensure!(
            !self.shape()[self.rank() - 3..].contains(&0),
            Shape,
            "adaptive_avg_pool2d: Expected input to have non-zero size for non-batch dimensions, but got shape {:?}; \
             use an output size of 1, or pad it",
            self.shape()
        );
        let extents = [self.shape()[self.rank() - 2], self.shape()[self.rank() - 1]];
        if size.iter().all(|&n| n > 0)
            && extents[0].is_multiple_of(size[0])
            && extents[1].is_multiple_of(size[1])
        {
            let kernel = [extents[0] / size[0], extents[1] / size[1]];
            return self.avg_pool2d(&PoolOptions::tiles(kernel), true, None);
        }
        let mut out = self.tied(Ties::Zeros(1))?.to_dtype(compute_dtype(self.dtype()))?;
        for (dim, (&extent, &count)) in extents.iter().zip(&size).enumerate() {
            out = out.adaptive_means(dim as isize - 2, extent, count)?;
        }
        out.to_dtype(self.dtype())
    }

    /// Means of `count` windows of up to one element more than `extent / count`, along dim -1 or -2.
    fn adaptive_means(&self, dim: isize, extent: usize, count: usize) -> Result<Tensor> {
        if count == 0 {
            return self.slice(dim, 0, 0, 1);
        }
        let int = |n: usize| Ok::<_, Error>(Tensor::constant(Scalar::Int(n as i64).to_array(DType::I64)?));
        let up_to =
            |n: usize| Tensor::arange(Scalar::Int(0), Scalar::Int(n as i64), Scalar::Int(1), DType::I64);
        // Window i runs from floor(i * extent / count) to ceil((i + 1) * extent / count).
        let start = up_to(count)?.mul(&int(extent)?)?;
        let end = start.add(&int(extent + count - 1)?)?.floor_divide(&int(count)?)?;
        let start = start.floor_divide(&int(count)?)?;
        let longest = extent.min(extent.div_ceil(count) + 1);
        let place = start.unsqueeze(1)?.add(&up_to(longest)?)?;
        let mut outside = place.ge(&end.unsqueeze(1)?)?;
        let mut len = end.sub(&start)?.to_dtype(self.dtype())?;
        if dim == -2 {
            (outside, len) = (outside.unsqueeze(-1)?, len.unsqueeze(-1)?);
        }
        let place = place.clamp_max(extent as i64 - 1)?.reshape(&[count * longest])?;
        let mut shape = Dims::from_slice(self.shape());
        let d = (shape.len() as isize + dim) as usize;
        shape[d] = count;
        shape.insert(d + 1, longest);
        let windows = self.index_select(dim, &place)?.reshape(&shape)?;
        windows.masked_fill(&outside, 0.0)?.sum(&[dim], false)?.div(&len)
    }
}

impl PoolOptions {
    /// The same for planes of height 1.
    fn in_a_row(&self) -> Self {
        let row = |[_, n]: [usize; 2], first| [first, n];
        Self {
            kernel: row(self.kernel, 1),
            stride: row(self.stride, 1),
            padding: row(self.padding, 0),
            dilation: row(self.dilation, 1),
            ceil_mode: self.ceil_mode,
        }
    }
}
