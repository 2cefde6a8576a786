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

/// A type and the wider one that running results are kept in, as PyTorch keeps them on CPUs.
pub trait Wide: Num {
    /// The wider type.
    type Acc: Num;
    /// To the wider type.
    fn widen(self) -> Self::Acc;
    /// Back, rounded.
    fn narrow(acc: Self::Acc) -> Self;
}

macro_rules! wide {
    ($($type:ty => $acc:ty),*) => {
        $(impl Wide for $type {
            type Acc = $acc;
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
wide!(u8 => u8, i32 => i32, i64 => i64, f32 => f64, f64 => f64);

/// How an element continues the running result.
pub trait Step: Copy + Send + Sync {
    /// The result before the first element.
    fn start<A: Num>(self) -> A;
    /// The next result. Mark it `#[inline(always)]`.
    fn next<A: Num>(self, acc: A, x: A) -> A;
}

/// Running sum.
#[derive(Debug, Clone, Copy)]
pub struct Sums;
impl Step for Sums {
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
        if self.width == 1 {
            let mut acc = self.step.start::<T::Acc>();
            for k in 0..self.n {
                // SAFETY: `scan` passes `n` elements `inner` apart, inside both arrays.
                unsafe {
                    acc = self.step.next(acc, (*self.x.add(place(k))).widen());
                    *self.out.add(place(k)) = T::narrow(acc);
                }
            }
            return;
        }
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
