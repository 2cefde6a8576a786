//! The fold of a run of elements.

use super::{Fold, Load};
use crate::simd::prefetch;

/// Independent partial results inside a row: four AVX-512 registers of f32. With two, additions waited for each other.
const LANES: usize = 64;
/// Elements that are left over from a row are dealt out so many at a time.
const FEW: usize = 16;
/// Elements that one set of lanes takes before it is joined to the others.
const BLOCK: usize = 2048;
/// Elements whose sets are joined lane by lane before these are joined to one value.
const STRETCH: usize = 16 * BLOCK;
/// Bytes ahead that are asked for: the processor's own prefetching stops at the end of a page. The sum of 1e6 float32
/// takes 30 microseconds with it, 34 without; 1 to 8 KiB ahead are alike.
const AHEAD: usize = 2048;
const LINE: usize = 64;

/// The fold of a run: lanes take its elements in turn, and are joined as a balanced tree.
#[inline(always)]
pub(crate) fn fold_run<T: Copy, A: Copy, L: Load<T, A>, F: Fold<A>>(x: &[T], load: L, fold: F) -> A {
    if x.len() < 2 * FEW {
        return x.iter().fold(fold.start(), |acc, &x| fold.join(acc, load.load(x)));
    }
    if x.len() <= BLOCK {
        return join_lanes(fold_block(x, load, fold), fold);
    }
    // A binary counter: slot k holds the fold of 2^k stretches.
    let mut tree = [fold.start(); 48];
    let mut filled = 0usize;
    for stretch in x.chunks(STRETCH) {
        let mut lanes = [fold.start(); LANES];
        for block in stretch.chunks(BLOCK) {
            let block = fold_block(block, load, fold);
            for k in 0..LANES {
                lanes[k] = fold.join(lanes[k], block[k]);
            }
        }
        let mut value = join_lanes(lanes, fold);
        let mut level = 0;
        while filled & (1 << level) != 0 {
            value = fold.join(tree[level], value);
            level += 1;
        }
        tree[level] = value;
        filled += 1;
    }
    let mut result = fold.start();
    for (level, &value) in tree.iter().enumerate() {
        if filled & (1 << level) != 0 {
            result = fold.join(value, result);
        }
    }
    result
}

/// The elements dealt out to the lanes. Every index of a lane is a constant: one that varies would keep them all
/// in memory (the sum of 1000 elements took a third longer).
#[inline(always)]
fn fold_block<T: Copy, A: Copy, L: Load<T, A>, F: Fold<A>>(x: &[T], load: L, fold: F) -> [A; LANES] {
    let mut lanes = [fold.start(); LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for line in 0..size_of_val(chunk) / LINE {
            prefetch(chunk.as_ptr().cast::<u8>().wrapping_add(AHEAD + line * LINE));
        }
        for k in 0..LANES {
            lanes[k] = fold.join(lanes[k], load.load(chunk[k]));
        }
    }
    let (chunks, rest) = rest.as_chunks::<FEW>();
    for chunk in chunks {
        for k in 0..FEW {
            lanes[k] = fold.join(lanes[k], load.load(chunk[k]));
        }
    }
    let mut last = [fold.start(); FEW];
    for (last, &x) in last.iter_mut().zip(rest) {
        *last = load.load(x);
    }
    for k in 0..FEW {
        lanes[FEW + k] = fold.join(lanes[FEW + k], last[k]);
    }
    lanes
}

#[inline(always)]
fn join_lanes<A: Copy, F: Fold<A>>(mut lanes: [A; LANES], fold: F) -> A {
    let mut width = LANES;
    while width > 1 {
        width /= 2;
        for k in 0..width {
            lanes[k] = fold.join(lanes[k], lanes[k + width]);
        }
    }
    lanes[0]
}
