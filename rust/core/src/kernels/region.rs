//! Adding into a strided view whose elements may coincide.

use super::gather::add;
use super::map::Shared;
use super::nest::Nest;
use crate::array::Array;
use crate::dispatch_all;
use crate::dtype::Element;

/// `out[i] += x[i]` in index order; `out` may be expanded, so this runs on one thread.
pub fn add_strided(out: &Array, x: &Array) {
    assert!(out.shape() == x.shape() && out.dtype() == x.dtype());
    dispatch_all!(out.dtype(), T => add_elements::<T>(out, x));
}

fn add_elements<T: Element>(out: &Array, x: &Array) {
    let nest = Nest::new(out.shape(), [out.strides(), x.strides()]);
    let (op, xp) = (Shared(out.as_ptr::<T>()), Shared(x.as_ptr::<T>()));
    let [os, xs] = nest.inner_strides();
    nest.runs(0..nest.numel(), &mut |[o, x], len| {
        for i in 0..len as isize {
            // SAFETY: the nest stays inside both layouts, whose shapes are equal (asserted).
            unsafe {
                let at = op.at(o + i * os);
                *at = add(*at, *xp.at(x + i * xs));
            }
        }
    });
}
