//! Running sums and products along a dim.

use super::map::Shared;
use super::num::Num;
use crate::array::Array;
use crate::dtype::Element;
use crate::par;
use crate::simd::{dispatch, Isa, Kernel};

/// Elements per task.
const GRAIN: usize = 32 * 1024;
/// Columns that run side by side.
const TILE: usize = 256;
/// Rows that run side by side: one waits three cycles for each addition (1000 rows of 1000: 0.68 ns an element).
const SIDE: usize = 8;
/// Elements of a lone row from which on its parts run side by side, which takes a second reading.
const LONG: usize = 4 * 1024;

/// A type and the wider one that running results are kept in, as PyTorch keeps them on CPUs.
pub trait Wide: Num {
    /// The wider type.
    type Acc: Num;
    /// Whether sums of parts may be added up: they are exact, or of many more bits than are kept.
    const HAS_ROOM: bool;
    /// To the wider type.
    fn widen(self) -> Self::Acc;
    /// Back, rounded.
    fn narrow(acc: Self::Acc) -> Self;
}

macro_rules! wide {
    ($($type:ty => $acc:ty, $has_room:literal;)*) => {
        $(impl Wide for $type {
            type Acc = $acc;
            const HAS_ROOM: bool = $has_room;
            #[inline(always)]
            fn widen(self) -> $acc {
                self as $acc
            }
            #[inline(always)]
            fn narrow(acc: $acc) -> Self {
                acc as $type
            }
        })*
    };
}
wide! {
    u8 => u8, true;
    i32 => i32, true;
    i64 => i64, true;
    f32 => f64, true;
    f64 => f64, false;
}

/// How an element continues the running result.
pub trait Step: Copy + Send + Sync {
    /// Whether results of parts may be joined. Products may not: a part that overflows may follow a zero.
    const JOINS: bool;
    /// The result before the first element.
    fn start<A: Num>(self) -> A;
    /// The next result. Mark it `#[inline(always)]`.
    fn next<A: Num>(self, acc: A, x: A) -> A;
}

/// Running sum.
#[derive(Debug, Clone, Copy)]
pub struct Sums;
impl Step for Sums {
    const JOINS: bool = true;
    fn start<A: Num>(self) -> A {
        A::ZERO
    }
    #[inline(always)]
    fn next<A: Num>(self, acc: A, x: A) -> A {
        acc.add(x)
    }
}

/// Running product.
#[derive(Debug, Clone, Copy)]
pub struct Products;
impl Step for Products {
    const JOINS: bool = false;
    fn start<A: Num>(self) -> A {
        A::ONE
    }
    #[inline(always)]
    fn next<A: Num>(self, acc: A, x: A) -> A {
        acc.mul(x)
    }
}

/// `out[o, k, i]` = the running result over `x[o, ..=k, i]`, or over `x[o, k.., i]` if `reverse`.
///
/// Both are contiguous with extents `dims` = (outer, n, inner).
pub fn scan<T: Wide + Element, S: Step>(
    x: &Array,
    dims: (usize, usize, usize),
    reverse: bool,
    out: &Array,
    step: S,
) {
    let (outer, n, inner) = dims;
    assert!(x.numel() == outer * n * inner && out.numel() == x.numel());
    let (x, out) = (Shared(x.as_ptr::<T>()), Shared(out.as_ptr::<T>()));
    if n * inner == 0 {
        return;
    }
    if inner == 1 {
        return rows(x, outer, n, reverse, out, step);
    }
    let tiles = inner.div_ceil(TILE);
    par::for_each_chunk(outer * tiles, GRAIN.div_ceil(n * inner.min(TILE)), |range| {
        for task in range {
            let column = (task % tiles) * TILE;
            let at = ((task / tiles) * n * inner + column) as isize;
            let width = TILE.min(inner - column);
            dispatch(Scan { x: x.at(at), out: out.at(at), n, inner, width, reverse, step });
        }
    });
}

/// `scan` along rows in memory.
fn rows<T: Wide + Element, S: Step>(
    x: Shared<T>,
    outer: usize,
    n: usize,
    reverse: bool,
    out: Shared<T>,
    step: S,
) {
    let groups = outer / SIDE;
    let first = if reverse { n - 1 } else { 0 };
    let line = |row: usize| {
        let at = (row * n + first) as isize;
        Lines { x: x.at(at), out: out.at(at), n, apart: n as isize, back: reverse, step }
    };
    // Whole groups, then row by row.
    par::for_each_chunk(groups + outer % SIDE, GRAIN.div_ceil(n * SIDE), |range| {
        for task in range {
            if task < groups {
                line(task * SIDE).run([step.start(); SIDE]);
            } else {
                line(groups * SIDE + task - groups).lone();
            }
        }
    });
}

/// Rows of `n` elements that are `apart` elements from each other, run through from the end if `back`.
#[derive(Clone, Copy)]
struct Lines<T, S> {
    x: *const T,
    out: *mut T,
    n: usize,
    apart: isize,
    back: bool,
    step: S,
}

impl<T: Wide, S: Step> Lines<T, S> {
    /// Writes `SIDE` rows, from these results before their first elements.
    fn run(self, start: [T::Acc; SIDE]) {
        dispatch(SideBySide::<T, S, SIDE, true> { lines: self, start });
    }

    /// Writes the first row alone.
    fn lone(self) {
        let Self { x, out, n, back, step, .. } = self;
        let direction = if back { -1 } else { 1 };
        let mut done = 0;
        let mut acc = step.start::<T::Acc>();
        if S::JOINS && T::HAS_ROOM && n >= LONG {
            let part = n / SIDE;
            let parts = Self { n: part, apart: direction * part as isize, ..self };
            let totals = dispatch(SideBySide::<T, S, SIDE, false> { lines: parts, start: [acc; SIDE] });
            let start = totals.map(|total| {
                let before = acc;
                acc = step.next(before, total);
                before
            });
            parts.run(start);
            done = part * SIDE;
        }
        let at = direction * done as isize;
        let rest = Self { x: x.wrapping_offset(at), out: out.wrapping_offset(at), n: n - done, ..self };
        dispatch(SideBySide::<T, S, 1, true> { lines: rest, start: [acc] });
    }
}

/// Runs through `N` rows at a time and gives the last results; with `WRITE` it writes all.
struct SideBySide<T: Wide, S, const N: usize, const WRITE: bool> {
    lines: Lines<T, S>,
    start: [T::Acc; N],
}

impl<T: Wide, S: Step, const N: usize, const WRITE: bool> Kernel for SideBySide<T, S, N, WRITE> {
    /// Not of vectors: each row waits for itself.
    const WIDE: bool = false;
    type Output = [T::Acc; N];
    #[inline(always)]
    fn run<I: Isa>(self) -> [T::Acc; N] {
        let Lines { x, out, n, apart, back, step } = self.lines;
        let mut acc = self.start;
        for k in 0..n as isize {
            let k = if back { -k } else { k };
            for (row, acc) in acc.iter_mut().enumerate() {
                let at = row as isize * apart + k;
                // SAFETY: the lines, or the parts of one, lie inside both arrays.
                unsafe {
                    *acc = step.next(*acc, (*x.offset(at)).widen());
                    if WRITE {
                        *out.offset(at) = T::narrow(*acc);
                    }
                }
            }
        }
        acc
    }
}

struct Scan<T, S> {
    x: *const T,
    out: *mut T,
    n: usize,
    inner: usize,
    width: usize,
    reverse: bool,
    step: S,
}

impl<T: Wide, S: Step> Kernel for Scan<T, S> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let place = |k: usize| if self.reverse { self.n - 1 - k } else { k } * self.inner;
        let mut buffer = [self.step.start::<T::Acc>(); TILE];
        for k in 0..self.n {
            // SAFETY: `scan` passes `n` rows of `width` elements `inner` apart, inside both arrays.
            let (x, out) = unsafe {
                (
                    std::slice::from_raw_parts(self.x.add(place(k)), self.width),
                    std::slice::from_raw_parts_mut(self.out.add(place(k)), self.width),
                )
            };
            for ((acc, &x), out) in buffer.iter_mut().zip(x).zip(out) {
                *acc = self.step.next(*acc, x.widen());
                *out = T::narrow(*acc);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums<T: Wide + Element>(x: &[T], n: usize, reverse: bool) -> Vec<T> {
        let mut out = x.to_vec();
        for row in out.chunks_mut(n) {
            let mut acc = T::Acc::ZERO;
            for k in 0..n {
                let x = &mut row[if reverse { n - 1 - k } else { k }];
                acc = acc.add(x.widen());
                *x = T::narrow(acc);
            }
        }
        out
    }

    #[test]
    fn rows_side_by_side_and_in_parts_are_those_one_by_one() {
        for (outer, n) in [(1, 1), (1, LONG + 5), (3, 2 * LONG + 1), (8, 7), (19, 100), (9, LONG)] {
            // Small whole numbers: no order of summation rounds.
            let values: Vec<f32> = (0..outer * n).map(|i| (i * 7 % 23) as f32 - 11.0).collect();
            let x = Array::from_slice(&values, &[outer, n]).unwrap();
            for reverse in [false, true] {
                let out = Array::empty(&[outer, n], x.dtype()).unwrap();
                scan::<f32, Sums>(&x, (outer, n, 1), reverse, &out, Sums);
                assert_eq!(out.slice::<f32>(), sums(&values, n, reverse), "{outer} x {n}, {reverse}");
                let whole = x.to_dtype(crate::DType::I64).unwrap();
                let out = Array::empty(&[outer, n], whole.dtype()).unwrap();
                scan::<i64, Sums>(&whole, (outer, n, 1), reverse, &out, Sums);
                assert_eq!(
                    out.slice::<i64>(),
                    sums(whole.slice::<i64>(), n, reverse),
                    "{outer} x {n}, {reverse}"
                );
            }
        }
    }
}
