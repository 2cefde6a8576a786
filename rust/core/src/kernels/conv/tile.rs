//! The register tile of the kernels whose lanes are channels: a few numbers of the source times vectors of
//! columns, summed over a list of steps.
//!
//! The forward pass has pixels as starts, (channel, tap) pairs as steps and weights as columns; the weight's
//! gradient has the pairs as starts, pixels as steps and the output's gradient as columns.

use crate::kernels::gemm::Vector;

/// The factors of a block of sums.
#[derive(Clone, Copy)]
pub(super) struct Factors<'a, T> {
    /// Row `i` of the left factor at step `s` is `source[starts[i] + steps[s]]`.
    pub source: *const T,
    pub starts: &'a [usize],
    pub steps: &'a [usize],
    /// Columns of the right factor, `pitch` elements from one step to the next.
    pub columns: *const T,
    pub pitch: usize,
}

/// Where the sums of a block go, and what is added to them: rows of vectors, so many elements apart.
#[derive(Clone, Copy)]
pub(super) struct Sums<T> {
    pub to: *mut T,
    pub pitch: usize,
    pub known: *const T,
    pub known_pitch: usize,
}

/// Computes the sums of any number of rows with one vector of columns, or with two.
///
/// # Safety
/// The source must be valid at each start plus step, the columns for their vectors at each step, and the sums
/// for theirs in each row. The instruction set of `V` must be there.
#[inline(always)]
pub(super) unsafe fn any_rows<V: Vector>(factors: Factors<V::Elem>, is_narrow: bool, sums: Sums<V::Elem>) {
    // Of the products' 12 or 6 rows two thirds: the compiler loads the numbers of all rows before it multiplies
    // them, and has registers for so many.
    let most = 2 * V::MR / 3;
    for (index, starts) in factors.starts.chunks(most).enumerate() {
        let row = index * most;
        let factors = Factors { starts, ..factors };
        let sums = Sums {
            to: sums.to.wrapping_add(row * sums.pitch),
            known: sums.known.wrapping_add(row * sums.known_pitch),
            ..sums
        };
        macro_rules! of {
            ($rows:literal) => {
                if is_narrow {
                    tile::<V, $rows, 1>(factors, sums)
                } else {
                    tile::<V, $rows, 2>(factors, sums)
                }
            };
        }
        // Of the next half, to have few kinds of tiles.
        // SAFETY: the caller's promise, for these rows.
        unsafe {
            match (most, 2 * starts.len() <= most) {
                (8, true) => of!(4),
                (8, false) => of!(8),
                (_, true) => of!(2),
                (_, false) => of!(4),
            }
        }
    }
}

/// `M` rows times `N` vectors of columns.
///
/// # Safety
/// As for `any_rows`; at most `M` rows, and not none.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // constant bounds: all sums stay in registers
unsafe fn tile<V: Vector, const M: usize, const N: usize>(factors: Factors<V::Elem>, out: Sums<V::Elem>) {
    let Factors { source, starts, steps, mut columns, pitch } = factors;
    // SAFETY: the caller's promise.
    unsafe {
        // Rows that are missing repeat the first one.
        let rows: [*const V::Elem; M] =
            std::array::from_fn(|i| source.add(starts[if i < starts.len() { i } else { 0 }]));
        let mut sums = [[V::zero(); N]; M];
        for &step in steps {
            let mut vectors = [V::zero(); N];
            for j in 0..N {
                vectors[j] = V::load(columns.add(j * V::LANES));
            }
            for i in 0..M {
                let x = V::splat(*rows[i].add(step));
                for j in 0..N {
                    sums[i][j] = x.fma(vectors[j], sums[i][j]);
                }
            }
            columns = columns.wrapping_add(pitch);
        }
        // Without a branch: the loops must be unrolled to keep the sums in registers.
        let mut unused = [V::zero(); N];
        for i in 0..M {
            let is_there = i < starts.len();
            let to = if is_there { out.to.add(i * out.pitch) } else { unused.as_mut_ptr().cast() };
            let known = out.known.add(if is_there { i * out.known_pitch } else { 0 });
            for j in 0..N {
                sums[i][j].add(V::load(known.add(j * V::LANES))).store(to.add(j * V::LANES));
            }
        }
    }
}
