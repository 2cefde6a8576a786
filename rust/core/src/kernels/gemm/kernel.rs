//! The register tile: a few rows times one or more vectors of columns, summed over k in order.

// Indexed loops of constant length: every one is unrolled, and acc stays in registers.
#![allow(clippy::needless_range_loop)]

use super::vector::Vector;
use super::Mat;

/// One tile's operands. `b` rows are contiguous along the columns; so are `c` rows.
#[derive(Clone, Copy)]
pub(super) struct Tile<T> {
    pub k: usize,
    pub a: Mat<T>,
    pub b: *const T,
    pub b_row: isize,
    pub c: *mut T,
    pub c_row: isize,
    /// What is added to the sums, if anything: as much of `c` itself, or other rows that are contiguous.
    pub added: Option<Mat<T>>,
}

/// How `a` lies in memory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Rows {
    /// At the strides of `Tile::a`.
    Strided,
    /// Packed: `MR` rows side by side, `k` after `k`.
    Packed,
}

/// Computes `M` x `N * LANES` elements of c; with `TAIL` the last vector has only `tail` lanes.
///
/// An element's value does not depend on `M`, `N` or its place in the tile: it is one chain of
/// `LANES`-independent fused multiply-adds over k. So any partition into tiles gives the same bits.
///
/// # Safety
/// The pointers are valid for the tile and the instruction set of `V` is there.
#[inline(always)]
unsafe fn tile<V: Vector, const M: usize, const N: usize, const TAIL: bool, const PACKED: bool>(
    t: &Tile<V::Elem>,
    tail: usize,
) {
    let (row, col) = if PACKED { (1, V::MR as isize) } else { (t.a.row, t.a.col) };
    // SAFETY: rows 0..M, k 0..t.k and the columns up to the tail are valid, by the caller's promise.
    unsafe {
        for i in 0..M {
            V::prefetch(t.c.offset(i as isize * t.c_row).add(N * V::LANES - V::LANES));
        }
        let mut acc = [[V::zero(); N]; M];
        let (mut a, mut b) = (t.a.ptr, t.b);
        for _ in 0..t.k {
            let mut columns = [V::zero(); N];
            for j in 0..N {
                let from = b.add(j * V::LANES);
                columns[j] = if TAIL && j == N - 1 { V::load_part(from, tail) } else { V::load(from) };
            }
            for i in 0..M {
                let x = V::splat(*a.offset(i as isize * row));
                for j in 0..N {
                    acc[i][j] = x.fma(columns[j], acc[i][j]);
                }
            }
            a = a.wrapping_offset(col);
            b = b.wrapping_offset(t.b_row);
        }
        if let Some(added) = t.added {
            for i in 0..M {
                for j in 0..N {
                    let from = added.ptr.offset(i as isize * added.row).add(j * V::LANES);
                    let more = if TAIL && j == N - 1 { V::load_part(from, tail) } else { V::load(from) };
                    acc[i][j] = acc[i][j].add(more);
                }
            }
        }
        for i in 0..M {
            for j in 0..N {
                let to = t.c.offset(i as isize * t.c_row).add(j * V::LANES);
                if TAIL && j == N - 1 {
                    acc[i][j].store_part(to, tail);
                } else {
                    acc[i][j].store(to);
                }
            }
        }
    }
}

/// Calls `tile` with the run-time number of rows as its `M`.
macro_rules! by_rows {
    ($v:ident, $rows:expr, $n:literal, $tail:literal, $t:expr, $len:expr, [$($m:literal),+]) => {
        match $rows {
            $($m if $m <= $v::MR => tile::<$v, $m, $n, $tail, false>($t, $len),)+
            rows => unreachable!("a tile of {rows} rows"),
        }
    };
}

/// Computes `rows` (at most `MR`) x `columns` (at most `2 * LANES`) elements of c.
///
/// # Safety
/// As for `tile`.
#[inline(always)]
pub(super) unsafe fn any_tile<V: Vector>(t: &Tile<V::Elem>, rows: usize, columns: usize, layout: Rows) {
    let full = 2 * V::LANES;
    // SAFETY: each arm covers exactly rows x columns.
    unsafe {
        if columns == full && rows == V::MR && layout == Rows::Packed {
            return match V::MR {
                12 => tile::<V, 12, 2, false, true>(t, 0),
                _ => tile::<V, 6, 2, false, true>(t, 0),
            };
        }
        let mut t = *t;
        if layout == Rows::Packed {
            (t.a.row, t.a.col) = (1, V::MR as isize);
        }
        let tail = columns - if columns > V::LANES { V::LANES } else { 0 };
        if columns == full {
            by_rows!(V, rows, 2, false, &t, 0, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12])
        } else if columns > V::LANES {
            by_rows!(V, rows, 2, true, &t, tail, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12])
        } else {
            by_rows!(V, rows, 1, true, &t, tail, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12])
        }
    }
}

/// Computes `rows` (1 to 3) x `WIDE` vectors of columns: few rows need many columns to keep the
/// multipliers busy.
///
/// # Safety
/// As for `tile`.
#[inline(always)]
pub(super) unsafe fn wide_tile<V: Vector>(t: &Tile<V::Elem>, rows: usize) {
    // SAFETY: each arm covers exactly rows x WIDE vectors.
    unsafe {
        match rows {
            1 => tile::<V, 1, WIDE, false, false>(t, 0),
            2 => tile::<V, 2, WIDE, false, false>(t, 0),
            _ => tile::<V, 3, WIDE, false, false>(t, 0),
        }
    }
}

/// Vectors in a row of `wide_tile`.
pub(super) const WIDE: usize = 4;
