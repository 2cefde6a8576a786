//! Convolution of volumes, images and signals and its gradients, for any stride, padding, dilation and groups. They are
//! contiguous with their channels first (NCDHW), or last.
//!
//! All of it rests on one idea, told in `layout`: in a padded copy of the source each tap of a filter
//! is one contiguous, shifted run. `pass` splits the work into tiles and runs them on all threads,
//! `product` is the kernel of the forward pass and of the input's gradient, in two forms: vectors along
//! `pixels` (depthwise included: a product with one row), or along `channels`, where rows of pixels are short.
//! The weight's gradient is another product, in `outer`, or, for groups of few output channels, a number of
//! scalar products, in `dots`.

mod channels;
mod dots;
mod float;
mod geometry;
mod grad_bias;
mod grad_weight;
mod layout;
mod outer;
mod pass;
mod pixels;
mod product;
mod tile;
mod weights;
mod window;

pub use float::Float;
pub use geometry::ConvGeometry;
pub use grad_bias::conv_grad_bias;

use crate::Result;
use layout::{Tap, DIMS};
use pass::Pass;
use weights::{Lanes, Weights};

/// Convolves `x` `[batch, in_channels, in_extents]` with `weight`
/// `[out_channels, in_channels / groups, kernel]`, adds `bias` `[out_channels]`, and writes `out`.
/// An error if the memory for the packed weight is not there.
pub fn conv<T: Float>(
    geometry: &ConvGeometry,
    x: &[T],
    weight: &[T],
    bias: Option<&[T]>,
    out: &mut [T],
) -> Result<()> {
    assert_eq!(x.len(), geometry.input_numel());
    assert_eq!(weight.len(), geometry.weight_numel());
    assert_eq!(out.len(), geometry.output_numel());
    assert!(bias.is_none_or(|bias| bias.len() == geometry.out_channels));
    let pass = Pass::forward(geometry);
    let weights = Weights::pack(geometry, &pass.taps, weight, true, pass.lanes::<T>())?;
    pass.run(x, &weights, bias, out);
    Ok(())
}

/// What the kernels compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// The convolution.
    Output,
    /// The gradient of its input.
    GradInput,
    /// The gradient of its weight.
    GradWeight,
}

/// Whether tensors whose channels come last are best taken as they lie: where the lanes are channels.
pub fn takes_channels_last<T: Float>(wanted: Wanted, geometry: &ConvGeometry) -> bool {
    match wanted {
        Wanted::Output => Pass::forward(geometry).lanes::<T>() == Lanes::Channels,
        Wanted::GradInput => phases(geometry)
            .into_iter()
            .all(|phase| Pass::to_input(geometry, phase).lanes::<T>() == Lanes::Channels),
        Wanted::GradWeight => geometry.group_outputs() >= grad_weight::MIN_OUTPUTS,
    }
}

/// The phases of slices, rows and columns that the gradient of the input has a pass for.
fn phases(geometry: &ConvGeometry) -> Vec<[usize; 3]> {
    let [slices, rows, cols] = DIMS.map(|dim| geometry.phases(dim).phases);
    let planes = rows.iter().flat_map(|&row| cols.iter().map(move |&col| [row, col]));
    slices.iter().flat_map(|&slice| planes.clone().map(move |[row, col]| [slice, row, col])).collect()
}

/// Writes the gradient of the input of `conv` (the transposed convolution of `grad_out`).
/// An error if the memory for the packed weight is not there.
pub fn conv_grad_input<T: Float>(
    geometry: &ConvGeometry,
    grad_out: &[T],
    weight: &[T],
    grad_x: &mut [T],
) -> Result<()> {
    assert_eq!(grad_x.len(), geometry.input_numel());
    assert_eq!(weight.len(), geometry.weight_numel());
    assert_eq!(grad_out.len(), geometry.output_numel());
    if !DIMS.iter().all(|&dim| geometry.phases(dim).cover) {
        // Some positions are reached by no tap.
        grad_x.fill(T::ZERO);
    }
    for phase in phases(geometry) {
        let pass = Pass::to_input(geometry, phase);
        let weights = Weights::pack(geometry, &pass.taps, weight, false, pass.lanes::<T>())?;
        pass.run(grad_out, &weights, None, grad_x);
    }
    Ok(())
}

/// Writes the gradient of the weight of `conv`.
/// An error if the memory for the sums is not there.
pub fn conv_grad_weight<T: Float>(
    geometry: &ConvGeometry,
    grad_out: &[T],
    x: &[T],
    grad_weight: &mut [T],
) -> Result<()> {
    assert_eq!(x.len(), geometry.input_numel());
    assert_eq!(grad_weight.len(), geometry.weight_numel());
    assert_eq!(grad_out.len(), geometry.output_numel());
    grad_weight::grad_weight(geometry, grad_out, x, grad_weight)
}
