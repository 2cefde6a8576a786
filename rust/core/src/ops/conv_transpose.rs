//! Transposed convolutions: the gradient of a convolution's input as an operation of its own.

use super::conv::{
    check_bias, check_dtypes, check_options, check_sizes, extents, has_channels_last, Conv, ConvInput,
    ConvOptions,
};
use crate::autograd::apply::apply;
use crate::layout::Dims;
use crate::tensor::Tensor;
use crate::{ensure, Result};

/// The convolution whose input's gradient a transposed convolution of an input of shape `n` is.
///
/// An output padding of a step or more is no input extent of a convolution. Such dims are computed
/// without padding here, and `convolve_transposed` cuts them to size.
fn transposed(
    op: &str,
    n: &[usize],
    weight: &[usize],
    output_padding: [usize; 3],
    options: ConvOptions,
) -> Result<Conv> {
    let ConvOptions { stride, padding, dilation, groups } = options;
    let first = 5 - n.len(); // images have no slices, signals no rows
    check_sizes(
        op,
        &[("input", &n[2..]), ("kernel size", &weight[2..]), ("output padding", &output_padding[first..])],
    )?;
    let (input, kernel) = (extents(n), extents(weight));
    let mut x = Dims::from_slice(&[n[0], weight[1] * groups]);
    let mut near_options = options;
    for dim in first..3 {
        ensure!(
            output_padding[dim] < stride[dim].max(dilation[dim]),
            Value,
            "{op}: output padding must be smaller than either stride or dilation, but got output_padding \
             {:?}, stride {:?}, dilation {:?}; use a smaller one",
            &output_padding[first..],
            &stride[first..],
            &dilation[first..]
        );
        let (near, cut) =
            if output_padding[dim] < stride[dim] { (output_padding[dim], padding[dim]) } else { (0, 0) };
        near_options.padding[dim] = cut;
        // Below 2^31 each: the products fit.
        let whole = input[dim].saturating_sub(1) * stride[dim] + dilation[dim] * (kernel[dim] - 1) + 1;
        ensure!(
            input[dim] > 0 && whole + output_padding[dim] > 2 * padding[dim],
            Shape,
            "{op}: input {n:?}, weight {weight:?} and padding {:?} leave no output; use less padding",
            &padding[first..]
        );
        x.push(whole + near - 2 * cut);
    }
    Ok(Conv { options: near_options, x, weight: Dims::from_slice(weight), channels_last: false })
}

impl Tensor {
    /// Transposed convolution of signals `(N, C, L)` or `(C, L)` with `weight` `(C, O / groups, l)`; of the
    /// numbers for each dim only the last ones count.
    pub fn conv_transpose1d(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
        output_padding: [usize; 3],
        options: ConvOptions,
    ) -> Result<Tensor> {
        self.convolve_transposed("conv_transpose1d", weight, bias, output_padding, options, 1)
    }

    /// Transposed convolution of images `(N, C, H, W)` or `(C, H, W)` with `weight` `(C, O / groups, h, w)`:
    /// what the gradient of the input of `conv2d` is; of the numbers for each dim only the last two count.
    pub fn conv_transpose2d(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
        output_padding: [usize; 3],
        options: ConvOptions,
    ) -> Result<Tensor> {
        self.convolve_transposed("conv_transpose2d", weight, bias, output_padding, options, 2)
    }

    /// Transposed convolution of volumes `(N, C, D, H, W)` or `(C, D, H, W)` with `weight`
    /// `(C, O / groups, d, h, w)`: what the gradient of the input of `conv3d` is.
    pub fn conv_transpose3d(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
        output_padding: [usize; 3],
        options: ConvOptions,
    ) -> Result<Tensor> {
        self.convolve_transposed("conv_transpose3d", weight, bias, output_padding, options, 3)
    }

    fn convolve_transposed(
        &self,
        op: &str,
        weight: &Tensor,
        bias: Option<&Tensor>,
        output_padding: [usize; 3],
        options: ConvOptions,
        spatial: usize,
    ) -> Result<Tensor> {
        if self.rank() == spatial + 1 {
            return self
                .unsqueeze(0)?
                .convolve_transposed(op, weight, bias, output_padding, options, spatial)?
                .squeeze(Some(&[0]));
        }
        let (n, c) = (self.shape(), weight.shape());
        let options = options.of_last(spatial);
        let ConvOptions { stride, padding, groups, .. } = options;
        check_options(op, &options, spatial)?;
        ensure!(
            n.len() == spatial + 2
                && c.len() == spatial + 2
                && n[1] == c[0]
                && c[0] % groups == 0
                && !c[2..].contains(&0),
            Shape,
            "{op}: Given transposed=1, groups={groups}, weight of size {c:?}, expected {}-D input {n:?} with {} \
             channels, divisible by groups; \
             change groups, or the number of channels of one of them",
            spatial + 2,
            c.first().copied().unwrap_or(0)
        );
        // So `groups` is no more than the weight's first extent, and times the second it cannot overflow.
        ensure!(
            c[0] >= groups,
            Shape,
            "{op}: Given groups={groups}, expected weight to be at least {groups} at dimension 0, but got weight of \
             size {c:?} instead; give it input channels"
        );
        check_dtypes(op, self, weight, bias)?;
        if let Some(bias) = bias {
            check_bias(op, bias, c[1] * groups, c)?;
        }
        let mut conv = transposed(op, n, c, output_padding, options)?;
        conv.channels_last = has_channels_last(self.array(), weight.array());
        let mut out = apply(ConvInput(conv), [self, weight])?;
        for dim in (3 - spatial..3).filter(|&dim| output_padding[dim] >= stride[dim]) {
            let at = spatial + dim - 1;
            let mut shape = Dims::from_slice(out.shape());
            shape[at] = output_padding[dim];
            out = Tensor::cat(&[&out, &Tensor::zeros(&shape, out.dtype())?], at as isize)?;
            let extent = out.shape()[at] - 2 * padding[dim];
            out = out.narrow(at as isize, padding[dim] as isize, extent)?;
        }
        let Some(bias) = bias else { return Ok(out) };
        let mut per_channel = Dims::from_elem(1, spatial + 2);
        per_channel[1] = bias.numel();
        out.add(&bias.reshape(&per_channel)?)
    }
}
