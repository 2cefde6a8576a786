//! An array in the midst of equal elements.

use super::copy;
use super::map::{Shared, GRAIN_CHEAP};
use super::nest::Nest;
use super::relayout::{by_size, Plane};
use crate::array::Array;
use crate::simd::dispatch;
use crate::{par, Result};

/// Elements up to which an item is filled and written while it is in the cache.
const ITEM: usize = 64 * 1024;

/// `out[before + i] = x[i]`, and `value` elsewhere; both are contiguous and of one dtype.
pub fn pad(x: &Array, out: &Array, before: &[usize], value: f64) -> Result<()> {
    assert!(x.is_contiguous() && out.is_contiguous() && x.dtype() == out.dtype());
    let middle = before
        .iter()
        .enumerate()
        .fold(out.layout().clone(), |middle, (d, &start)| middle.slice(d, start, x.shape()[d], 1));
    // Dims that stay as they are, before the first that grows: the rest are items by themselves.
    let lead = x.shape().iter().zip(out.shape()).take_while(|(extent, padded)| extent == padded).count();
    let item: usize = out.shape()[lead..].iter().product();
    if x.numel() == 0 || item > ITEM {
        copy::fill(out, value);
        copy::copy(x, &out.with_layout(middle));
        return Ok(());
    }
    let value = Array::full(&[], value, x.dtype())?;
    by_size!(x.dtype(), W => {
        let filler = copy::first::<W>(&value);
        pad_items::<W>([x, &out.with_layout(middle)], Shared(out.as_words()), lead, item, filler);
    });
    Ok(())
}

fn pad_items<W: Copy + Send + Sync>(
    [x, middle]: [&Array; 2],
    out: Shared<W>,
    lead: usize,
    item: usize,
    filler: W,
) {
    let count: usize = x.shape()[..lead].iter().product();
    let from = x.numel() / count;
    let nest = Nest::new(&x.shape()[lead..], [&middle.strides()[lead..], &x.strides()[lead..]]);
    let ([inner, outer], rest) = nest.into_planes(1);
    let steps = rest.inner_strides();
    let (to, xp) = (Shared(middle.as_words::<W>()), Shared(x.as_words::<W>()));
    par::for_each_chunk(count, GRAIN_CHEAP.div_ceil(item), |range| {
        for i in range {
            // SAFETY: `out` has `item` elements for each of the `count` items, which tasks share.
            unsafe { std::slice::from_raw_parts_mut(out.at((i * item) as isize), item).fill(filler) };
            let (to, from) = (to.at((i * item) as isize), xp.at((i * from) as isize));
            rest.runs(0..rest.numel(), &mut |[o, x], len| {
                for j in 0..len as isize {
                    dispatch(Plane {
                        out: to.wrapping_offset(o + j * steps[0]),
                        x: from.wrapping_offset(x + j * steps[1]),
                        steps: inner.strides,
                        len: inner.extent,
                        rows: outer.extent,
                        row_steps: outer.strides,
                    });
                }
            });
        }
    });
}
