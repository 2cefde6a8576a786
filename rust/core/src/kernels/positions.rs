//! Lists of indices: checked, counted from the start of their dim, and as distances in memory.

use super::map::{Shared, GRAIN_CHEAP};
use crate::par;
use crate::simd::{dispatch, Isa, Kernel};
use std::sync::atomic::{AtomicBool, Ordering};

/// The positions that indices from `lowest` on, which is 0 or `-extent`, name in a dim of `extent`; whether all of
/// them do.
#[must_use]
pub fn of_indices(index: &[i64], lowest: i64, extent: usize, out: &mut [i64]) -> bool {
    assert_eq!(index.len(), out.len());
    let (op, is_wrong) = (Shared(out.as_mut_ptr()), AtomicBool::new(false));
    par::for_each_chunk(index.len(), GRAIN_CHEAP, |range| {
        // SAFETY: chunks are disjoint parts of `out`, which has an element for each index (asserted).
        let out = unsafe { std::slice::from_raw_parts_mut(op.at(range.start as isize), range.len()) };
        if !dispatch(Positions { index: &index[range], lowest, end: extent as i64, out }) {
            is_wrong.store(true, Ordering::Relaxed);
        }
    });
    !is_wrong.into_inner()
}

struct Positions<'a> {
    index: &'a [i64],
    lowest: i64,
    end: i64,
    out: &'a mut [i64],
}
impl Kernel for Positions<'_> {
    type Output = bool;
    #[inline(always)]
    fn run<I: Isa>(self) -> bool {
        let mut is_right = true;
        for (out, &i) in self.out.iter_mut().zip(self.index) {
            // All are looked at, which vectors do faster than stopping at the first.
            is_right &= (i >= self.lowest) & (i < self.end);
            *out = i + if i < 0 { self.end } else { 0 };
        }
        is_right
    }
}

/// How far from the start each item lies: the sum of its positions in some dims times their strides. `positions` has a
/// row for each stride.
pub fn offsets(positions: &[i64], strides: &[isize], out: &mut [i64]) {
    let count = out.len();
    assert_eq!(positions.len(), count * strides.len());
    if strides.is_empty() {
        return out.fill(0);
    }
    let op = Shared(out.as_mut_ptr());
    par::for_each_chunk(count, GRAIN_CHEAP, |range| {
        // SAFETY: chunks are disjoint parts of `out`.
        let out = unsafe { std::slice::from_raw_parts_mut(op.at(range.start as isize), range.len()) };
        for (k, &stride) in strides.iter().enumerate() {
            let row = &positions[k * count..][range.clone()];
            dispatch(AddSteps { row, stride: stride as i64, is_first: k == 0, out });
        }
    });
}

struct AddSteps<'a> {
    row: &'a [i64],
    stride: i64,
    is_first: bool,
    out: &'a mut [i64],
}
impl Kernel for AddSteps<'_> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        // Loops, and no closures: those are not always compiled for the instruction set.
        if self.is_first {
            for (out, position) in self.out.iter_mut().zip(self.row) {
                *out = position * self.stride;
            }
        } else {
            for (out, position) in self.out.iter_mut().zip(self.row) {
                *out += position * self.stride;
            }
        }
    }
}
