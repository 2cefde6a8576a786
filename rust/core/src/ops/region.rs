//! Reading and writing a region of a base: the histories behind in-place writes to views.
//!
//! When a view `v` of a base `b` is written, `b`'s new history is "the old `b`, with the region of `v`
//! replaced by the new `v`" ([`record_write`]); other views of `b` become reads of their regions of
//! the new `b` ([`record_read`]).

use crate::array::Array;
use crate::autograd::node::{Backward, Edges, InputGrads, Meta, Needs, Node, NodeRef, OutputGrads};
use crate::autograd::{apply::apply, Edge, Grads, Op, Saved};
use crate::kernels::region::add_strided;
use crate::layout::{Dims, Layout};
use crate::tensor::Tensor;
use crate::Result;
use smallvec::smallvec;

/// A view's place in its base, both as layouts of one storage.
#[derive(Debug, Clone)]
struct Region {
    base: Layout,
    view: Layout,
}

impl Region {
    fn new(base: &Layout, view: &Layout) -> Self {
        // Both start from the base's first element: a gradient has storage of its own.
        let offset = view.offset().wrapping_sub(base.offset());
        Self {
            base: Layout::new(base.shape().into(), base.strides().into(), 0),
            view: Layout::new(view.shape().into(), view.strides().into(), offset),
        }
    }

    /// An array with the base's geometry and storage of its own.
    fn empty(&self, like: &Array) -> Result<Array> {
        let whole = Array::empty(&[self.base.span()], like.dtype())?;
        Ok(whole.with_layout(self.base.clone()))
    }

    fn copy_of(&self, grad: &Array) -> Result<Array> {
        let out = self.empty(grad)?;
        out.copy_from(grad)?;
        Ok(out)
    }

    /// The elements of a base-shaped array that the view covers.
    fn read(&self, base: &Array) -> Result<Array> {
        Ok(self.copy_of(base)?.with_layout(self.view.clone()))
    }

    /// A base-shaped array of zeros to which the view-shaped `value` is added.
    fn scatter(&self, value: &Array) -> Result<Array> {
        let whole = Array::full(&[self.base.span()], 0.0, value.dtype())?;
        add_strided(&whole.with_layout(self.view.clone()), value);
        Ok(whole.with_layout(self.base.clone()))
    }

    /// A copy of a base-shaped array with zeros where the view lies.
    fn clear(&self, base: &Array) -> Result<Array> {
        let out = self.copy_of(base)?;
        crate::kernels::copy::fill(&out.with_layout(self.view.clone()), 0.0);
        Ok(out)
    }
}

/// The region of a base-shaped tensor.
#[derive(Debug)]
struct AsStrided(Region);

impl Op<1> for AsStrided {
    const NAME: &'static str = "as_strided";

    fn forward(&mut self, [x]: [&Array; 1]) -> Result<Array> {
        self.0.read(x)
    }

    fn backward(&self, _saved: &Saved<1>, grad: &Tensor) -> Result<Grads<1>> {
        Ok([Some(apply(AsStridedScatter(self.0.clone()), [grad])?)])
    }
}

/// Zeros with a region set: the gradient of `as_strided`.
#[derive(Debug)]
struct AsStridedScatter(Region);

impl Op<1> for AsStridedScatter {
    const NAME: &'static str = "as_strided_scatter";

    fn forward(&mut self, [x]: [&Array; 1]) -> Result<Array> {
        self.0.scatter(x)
    }

    fn backward(&self, _saved: &Saved<1>, grad: &Tensor) -> Result<Grads<1>> {
        Ok([Some(apply(AsStrided(self.0.clone()), [grad])?)])
    }
}

/// A base-shaped tensor with a region set to zero.
#[derive(Debug)]
struct ClearRegion(Region);

impl Op<1> for ClearRegion {
    const NAME: &'static str = "clear_region";

    fn forward(&mut self, [x]: [&Array; 1]) -> Result<Array> {
        self.0.clear(x)
    }

    fn backward(&self, _saved: &Saved<1>, grad: &Tensor) -> Result<Grads<1>> {
        Ok([Some(apply(ClearRegion(self.0.clone()), [grad])?)])
    }
}

/// The node of "the old base with a region replaced"; its forward was the in-place write itself.
#[derive(Debug)]
struct CopySlices(Region);

impl Backward for CopySlices {
    fn name(&self) -> String {
        "CopySlices".into()
    }

    fn backward(&self, _node: &NodeRef, needs: Needs<'_>, mut grads: OutputGrads) -> Result<InputGrads> {
        let Some(grad) = grads.pop().flatten() else { return Ok(InputGrads::new()) };
        let region = || self.0.clone();
        let mut result = InputGrads::from_elem(None, 2);
        if needs.of(0) {
            result[0] = Some(apply(ClearRegion(region()), [&grad])?);
        }
        if needs.of(1) {
            result[1] = Some(apply(AsStrided(region()), [&grad])?);
        }
        Ok(result)
    }
}

/// History of `base` after the region at `view` was overwritten by `value`.
pub(crate) fn record_write(base: &Tensor, value: &Tensor, view: &Layout) -> Edge {
    let region = Region::new(base.array().layout(), view);
    let edges: Edges = smallvec![base.edge_unchecked(), value.edge_unchecked()];
    Edge { node: Node::record(CopySlices(region), edges, smallvec![Meta::of(base.array())]), output: 0 }
}

/// History of the view of `base` at `view`, if the base has one, or `always`.
pub(crate) fn record_read(base: &Tensor, view: &Layout, always: bool) -> Option<Edge> {
    let edge = base.edge_unchecked();
    if edge.is_none() && !always {
        return None;
    }
    let region = Region::new(base.array().layout(), view);
    let meta = Meta { shape: Dims::from_slice(view.shape()), dtype: base.dtype() };
    let op = crate::autograd::op::Recorded::new(AsStrided(region), None);
    Some(Edge { node: Node::record(op, smallvec![edge], smallvec![meta]), output: 0 })
}
