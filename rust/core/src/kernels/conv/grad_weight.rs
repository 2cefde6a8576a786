//! The gradient of the weight, by the kernel that fits.

use super::pass::Pass;
use super::{dots, outer, ConvGeometry, Float};
use crate::Result;

/// Output channels of a group from which vectors of them are full enough.
pub(super) const MIN_OUTPUTS: usize = 5;

/// Writes the gradient of the weight.
pub(super) fn grad_weight<T: Float>(
    g: &ConvGeometry,
    grad_out: &[T],
    x: &[T],
    grad_weight: &mut [T],
) -> Result<()> {
    let pass = Pass::forward(g);
    if grad_weight.is_empty() || g.batch == 0 || pass.len.contains(&0) {
        grad_weight.fill(T::ZERO);
        return Ok(());
    }
    if g.group_outputs() >= MIN_OUTPUTS {
        return outer::grad_weight(g, &pass, grad_out, x, grad_weight);
    }
    assert!(!g.channels_last, "see `takes_channels_last`");
    dots::grad_weight(g, &pass, grad_out, x, grad_weight);
    Ok(())
}
