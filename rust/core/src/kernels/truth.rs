//! Whether elements are 0, and whether rows have such: conversions to bool, and what `any` and `all` ask.
//!
//! Only the size of the elements counts, and which of their bits are a sign.

use super::map::{Shared, GRAIN_CHEAP};
use super::relayout::by_size;
use super::tiles::for_each_run;
use crate::array::Array;
use crate::dtype::DType;
use crate::par;
use crate::simd::{dispatch, Isa, Kernel};
use std::ops::BitAnd;
use std::sync::atomic::{AtomicBool, Ordering};

/// Elements that are looked at together; who has found one stops behind them.
const BLOCK: usize = 1024;
/// Elements that are worth a thread: this is as fast as memory.
const GRAIN: usize = 8 * GRAIN_CHEAP;

/// Bits of an element that are all 0 where it is 0: a sign tells nothing.
const fn digits(dtype: DType) -> u64 {
    match dtype {
        DType::F16 | DType::BF16 => 0x7fff,
        DType::F32 => 0x7fff_ffff,
        DType::F64 => 0x7fff_ffff_ffff_ffff,
        DType::Bool | DType::U8 | DType::I32 | DType::I64 => u64::MAX,
    }
}

/// For each of the `rows` rows of the contiguous `x` whether it has an element that is 0, or with `zero` false one that
/// is not.
pub fn has(x: &Array, rows: usize, zero: bool, found: &mut [u8]) {
    assert!(x.is_contiguous() && found.len() == rows && rows > 0);
    by_size!(x.dtype(), W => has_words(x.as_words::<W>(), x.numel() / rows, digits(x.dtype()) as W, zero, found));
}

fn has_words<W>(x: *const W, len: usize, digits: W, zero: bool, found: &mut [u8])
where
    W: Copy + Default + PartialEq + BitAnd<Output = W> + Send + Sync,
{
    let xp = Shared(x.cast_mut());
    let look = |start: usize, len: usize| {
        // SAFETY: `x` has as many rows of `len` elements as `found` is long.
        let row = unsafe { std::slice::from_raw_parts(xp.at(start as isize), len) };
        dispatch(Look { row, digits, zero })
    };
    if len <= GRAIN {
        let count = found.len();
        let found = Shared(found.as_mut_ptr());
        return par::for_each_chunk(count, GRAIN / len.max(1), |range| {
            for r in range {
                // SAFETY: each task has rows of its own.
                unsafe { *found.at(r as isize) = u8::from(look(r * len, len)) };
            }
        });
    }
    for (r, found) in found.iter_mut().enumerate() {
        let is_found = AtomicBool::new(false);
        par::for_each_chunk(len, GRAIN, |range| {
            if !is_found.load(Ordering::Relaxed) && look(r * len + range.start, range.len()) {
                is_found.store(true, Ordering::Relaxed);
            }
        });
        *found = u8::from(is_found.into_inner());
    }
}

/// `out = x != 0`; NaN is not 0. Of one shape; `out` is of bools.
pub(super) fn truths(x: &Array, out: &Array) {
    let (from, to) = (x.dtype(), out.dtype());
    debug_assert!(x.shape() == out.shape() && to == DType::Bool);
    for_each_run([out, x], GRAIN_CHEAP, &[], &|runs| {
        runs.each([to, from], |[out, x]| {
            let len = runs.len;
            by_size!(from, W => dispatch(Truths { x: x.cast::<W>(), digits: digits(from) as W, out, len }));
        });
    });
}

/// One run of `truths`.
struct Truths<W> {
    x: *const W,
    digits: W,
    out: *mut u8,
    len: usize,
}

impl<W: Copy + Default + PartialEq + BitAnd<Output = W>> Kernel for Truths<W> {
    const WIDE: bool = false;
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        for i in 0..self.len {
            // SAFETY: runs stay inside both layouts; a bool is a byte of 0 or 1.
            unsafe { *self.out.add(i) = u8::from(*self.x.add(i) & self.digits != W::default()) };
        }
    }
}

struct Look<'a, W> {
    row: &'a [W],
    digits: W,
    zero: bool,
}

impl<W: Copy + Default + PartialEq + BitAnd<Output = W>> Kernel for Look<'_, W> {
    const WIDE: bool = false;
    type Output = bool;
    #[inline(always)]
    fn run<I: Isa>(self) -> bool {
        let Self { row, digits, zero } = self;
        let is_zero = |x: &W| *x & digits == W::default();
        row.chunks(BLOCK).any(|block| {
            if zero {
                block.iter().fold(false, |found, x| found | is_zero(x))
            } else {
                block.iter().fold(false, |found, x| found | !is_zero(x))
            }
        })
    }
}
