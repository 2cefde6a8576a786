//! The one loop nest behind all strided element-wise kernels.
//!
//! `N` operands of one shape are walked together. Dims of extent 1 are dropped, the rest ordered
//! by the first operand's strides (the output's), and neighbours merged where that keeps every
//! operand's steps. What is left is an inner run with one stride per operand, and few outer dims.

use smallvec::SmallVec;
use std::ops::Range;

/// Extents and strides of `N` operands, simplified jointly.
#[derive(Debug)]
pub struct Nest<const N: usize> {
    dims: SmallVec<[Dim<N>; 4]>, // innermost first; never empty
    numel: usize,
}

/// An extent, and a stride per operand.
#[derive(Debug, Clone, Copy)]
pub struct Dim<const N: usize> {
    /// Number of steps.
    pub extent: usize,
    /// Elements from step to step.
    pub strides: [isize; N],
}

impl<const N: usize> Nest<N> {
    /// A nest over `shape`; strides are in elements.
    pub fn new(shape: &[usize], strides: [&[isize]; N]) -> Self {
        let numel = shape.iter().product();
        let mut dims: SmallVec<[Dim<N>; 4]> = SmallVec::new();
        for (d, &extent) in shape.iter().enumerate().rev() {
            if extent != 1 {
                dims.push(Dim { extent, strides: strides.map(|s| s[d]) });
            }
        }
        // Insertion sort, innermost (smallest output stride) first; stable, so row-major order is kept.
        for i in 1..dims.len() {
            let mut j = i;
            while j > 0 && dims[j].before(&dims[j - 1]) {
                dims.swap(j, j - 1);
                j -= 1;
            }
        }
        let mut merged: SmallVec<[Dim<N>; 4]> = SmallVec::new();
        for dim in dims {
            match merged.last_mut() {
                Some(last) if last.extends_to(&dim) => last.extent *= dim.extent,
                _ => merged.push(dim),
            }
        }
        if merged.is_empty() {
            merged.push(Dim { extent: 1, strides: [0; N] });
        }
        Self { dims: merged, numel }
    }

    /// Number of steps in all.
    pub fn numel(&self) -> usize {
        self.numel
    }

    /// One stride per operand inside a run.
    pub fn inner_strides(&self) -> [isize; N] {
        self.dims[0].strides
    }

    /// One stride per operand from run to run.
    pub fn row_strides(&self) -> [isize; N] {
        self.dims.get(1).map_or([0; N], |dim| dim.strides)
    }

    /// The dims that are left, innermost first.
    pub fn dims(&self) -> &[Dim<N>] {
        &self.dims
    }

    /// Takes the innermost dim and dim `d` out, if there is one: they span planes, which the rest walks.
    pub fn into_planes(mut self, d: usize) -> ([Dim<N>; 2], Self) {
        let none = Dim { extent: 1, strides: [0; N] };
        let outer = if d < self.dims.len() { self.dims.remove(d) } else { none };
        let inner = std::mem::replace(&mut self.dims[0], none);
        if self.dims.len() > 1 {
            self.dims.remove(0);
        }
        self.numel = self.dims.iter().map(|dim| dim.extent).product();
        ([inner, outer], self)
    }

    /// Calls `run(offsets, len)` for each inner run of the steps in `range`.
    ///
    /// The walk itself is compiled once per `N`, not once per kernel: with a copy in each of them it
    /// was most of the library. A run costs one indirect call.
    pub fn runs(&self, range: Range<usize>, run: &mut dyn FnMut([isize; N], usize)) {
        self.walk(range, false, |offsets, len, _| run(offsets, len));
    }

    /// As [`Self::runs`], but calls `run(offsets, len, rows)` for as many whole runs as follow each other in the next
    /// dim: for kernels to which a call for every run of some hundred elements is dear.
    pub fn planes(&self, range: Range<usize>, run: &mut dyn FnMut([isize; N], usize, usize)) {
        self.walk(range, true, run);
    }

    #[inline(always)]
    fn walk(&self, range: Range<usize>, in_planes: bool, mut run: impl FnMut([isize; N], usize, usize)) {
        let inner = self.dims[0];
        if range.is_empty() {
            return;
        }
        if self.dims.len() == 1 {
            let offsets = inner.strides.map(|s| s * range.start as isize);
            run(offsets, range.len(), 1);
            return;
        }
        let mut index: SmallVec<[usize; 4]> = SmallVec::from_elem(0, self.dims.len());
        let mut offsets = [0isize; N];
        let mut rest = range.start;
        for (d, dim) in self.dims.iter().enumerate() {
            index[d] = rest % dim.extent;
            rest /= dim.extent;
            for (offset, stride) in offsets.iter_mut().zip(dim.strides) {
                *offset += stride * index[d] as isize;
            }
        }
        let mut left = range.len();
        loop {
            let len = (inner.extent - index[0]).min(left);
            let rows = if in_planes && index[0] == 0 {
                (left / inner.extent).clamp(1, self.dims[1].extent - index[1])
            } else {
                1
            };
            run(offsets, len, rows);
            left -= len * rows;
            if left == 0 {
                return;
            }
            for (offset, stride) in offsets.iter_mut().zip(inner.strides) {
                *offset -= stride * index[0] as isize;
            }
            index[0] = 0;
            for d in 1..self.dims.len() {
                let (dim, steps) = (&self.dims[d], if d == 1 { rows } else { 1 });
                index[d] += steps;
                for (offset, stride) in offsets.iter_mut().zip(dim.strides) {
                    *offset += stride * steps as isize;
                }
                if index[d] < dim.extent {
                    break;
                }
                for (offset, stride) in offsets.iter_mut().zip(dim.strides) {
                    *offset -= stride * dim.extent as isize;
                }
                index[d] = 0;
            }
        }
    }
}

impl<const N: usize> Dim<N> {
    /// Whether this dim belongs further inside than `other`: the first operand whose strides differ
    /// and are both non-zero decides.
    fn before(&self, other: &Self) -> bool {
        for (a, b) in self.strides.iter().zip(other.strides) {
            let (a, b) = (a.unsigned_abs(), b.unsigned_abs());
            if a != b && a != 0 && b != 0 {
                return a < b;
            }
        }
        false
    }

    /// Whether stepping over this dim's end lands on `outer`'s next step, for every operand.
    fn extends_to(&self, outer: &Self) -> bool {
        self.strides.iter().zip(outer.strides).all(|(&s, o)| s * self.extent as isize == o)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visit<const N: usize>(nest: &Nest<N>, range: Range<usize>) -> Vec<[isize; N]> {
        let mut seen = Vec::new();
        let strides = nest.inner_strides();
        nest.runs(range, &mut |offsets: [isize; N], len: usize| {
            for i in 0..len as isize {
                let mut at = offsets;
                (0..N).for_each(|k| at[k] += strides[k] * i);
                seen.push(at);
            }
        });
        seen
    }

    #[test]
    fn contiguous_operands_become_one_run() {
        let nest = Nest::new(&[2, 3, 4], [&[12, 4, 1], &[12, 4, 1]]);
        assert_eq!(nest.dims.len(), 1);
        assert_eq!(visit(&nest, 5..7), [[5, 5], [6, 6]]);
    }

    #[test]
    fn planes_and_the_rest_make_the_whole() {
        let nest = Nest::new(&[2, 3, 4], [&[1, 2, 6], &[12, 4, 1]]); // output dims of 2, 3, 4 from inside
        let ([inner, outer], rest) = nest.into_planes(2);
        assert_eq!((inner.extent, inner.strides), (2, [1, 12]));
        assert_eq!((outer.extent, outer.strides), (4, [6, 1]));
        assert_eq!(visit(&rest, 0..rest.numel()), [[0, 0], [2, 4], [4, 8]]);
        let ([inner, outer], rest) = Nest::new(&[5], [&[1]]).into_planes(1);
        assert_eq!((inner.extent, outer.extent, rest.numel()), (5, 1, 1));
    }

    #[test]
    fn ranges_of_a_transposed_operand_agree_with_the_whole() {
        let nest = Nest::new(&[3, 4, 1, 2], [&[8, 2, 2, 1], &[1, 6, 9, 3]]);
        let whole = visit(&nest, 0..24);
        let parts: Vec<_> = [0..1, 1..10, 10..24].into_iter().flat_map(|r| visit(&nest, r)).collect();
        assert_eq!(whole, parts);
        let mut outputs: Vec<_> = whole.iter().map(|o| o[0]).collect();
        outputs.sort_unstable();
        assert_eq!(outputs, (0..24).collect::<Vec<_>>());
    }

    #[test]
    fn runs_in_planes_are_the_runs() {
        // A column is added to each matrix of a batch; nothing merges.
        let nest = Nest::new(&[3, 4, 5], [&[20, 5, 1], &[40, 7, 1], &[0, 1, 0]]);
        for range in [0..60, 0..4, 2..3, 3..17, 5..20, 19..41, 20..60, 58..60, 7..7] {
            let (mut runs, mut planes, mut calls) = (Vec::new(), Vec::new(), 0);
            nest.runs(range.clone(), &mut |offsets, len| runs.push((offsets, len)));
            nest.planes(range.clone(), &mut |offsets, len, rows| {
                calls += 1;
                for row in 0..rows as isize {
                    let steps = nest.row_strides().map(|stride| row * stride);
                    planes.push((std::array::from_fn(|k| offsets[k] + steps[k]), len));
                }
            });
            assert_eq!(runs, planes, "{range:?}");
            assert!(calls <= 5 && (range != (0..60) || calls == 3));
        }
    }
}
