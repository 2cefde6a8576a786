//! Losses: of classes in `class` and `cross_entropy`, of pairs of values in `pair`.

mod class;
mod cross_entropy;
mod pair;

use crate::tensor::Tensor;
use crate::{bail, Result};

pub use class::ClassLoss;

/// What becomes of the losses of the single elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reduction {
    /// Nothing: a loss per element.
    None,
    /// Their mean, weighted where the loss has class weights.
    #[default]
    Mean,
    /// Their sum.
    Sum,
}

impl Reduction {
    /// The reduction that PyTorch calls `name`, for the loss `op`.
    pub fn from_name(op: &str, name: &str) -> Result<Self> {
        Ok(match name {
            "none" => Self::None,
            "mean" => Self::Mean,
            "sum" => Self::Sum,
            _ => bail!(Value, "{op}: {name} is not a valid value for reduction; use 'none', 'mean' or 'sum'"),
        })
    }

    /// The reduced losses.
    fn of(self, losses: &Tensor) -> Result<Tensor> {
        match self {
            Self::None => Ok(losses.clone()),
            Self::Mean => losses.mean(&[], false),
            Self::Sum => losses.sum(&[], false),
        }
    }
}
