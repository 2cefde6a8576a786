//! The few first elements of a long row, picked out in one pass.

use super::digits::Entry;
use super::rank::Ranked;
use crate::simd::{dispatch, Isa, Kernel};

/// Elements that are compared with the limit together.
const BLOCK: usize = 16;
/// Parts of a row whose best elements give the first limit.
const PARTS: usize = 32;
/// How many times `k` entries are collected before all but the best `k` are dropped.
pub(super) const ROOM: usize = 4;

/// The `k` elements whose ranks, with the bits of `flip` turned, are lowest, with their places, in order, at the start of `entries`;
/// of equals the first. How many they are: `k`, or all.
///
/// What is found is collected in `entries`, which has room for more than `k`. When they are full only the best `k`
/// stay, and the last of these is the limit: later elements must be better, for among equals the first counts.
pub(super) fn top<T: Ranked, E: Entry>(row: &[T], k: usize, flip: T::Rank, entries: &mut [E]) -> usize {
    if k == 0 {
        return 0;
    }
    let (mut count, mut limit, mut start) = (0, first_limit(row, k, flip), 0);
    while start < row.len() {
        let end = row.len().min(start + BLOCK);
        for (i, &x) in row[start..end].iter().enumerate() {
            let rank = x.rank() ^ flip;
            if limit.is_none_or(|limit| rank < limit) {
                entries[count] = E::new(rank.into(), start + i);
                count += 1;
                if count == entries.len() {
                    entries.select_nth_unstable(k - 1);
                    count = k;
                    limit = Some(row[entries[k - 1].place()].rank() ^ flip);
                }
            }
        }
        start = match limit {
            Some(limit) => dispatch(Next { row, start: end, flip, limit }),
            None => end,
        };
    }
    let entries = &mut entries[..count];
    if count > k {
        entries.select_nth_unstable(k - 1);
    }
    entries[..k.min(count)].sort_unstable();
    k.min(count)
}

/// A limit below which the best `k` lie, and few more, where the row is long enough for that: of `PARTS` parts
/// (every 32nd element) the `k`-th best has `k - 1` better ones, each the best of another part.
fn first_limit<T: Ranked>(row: &[T], k: usize, flip: T::Rank) -> Option<T::Rank> {
    if 2 * k > PARTS || row.len() < 4 * PARTS {
        return None;
    }
    let mut best = dispatch(BestOfParts { row, flip });
    T::above(*best.select_nth_unstable(k - 1).1)
}

/// The lowest rank of each part; elements after the last whole block are in none.
struct BestOfParts<'a, T: Ranked> {
    row: &'a [T],
    flip: T::Rank,
}

impl<T: Ranked> Kernel for BestOfParts<'_, T> {
    type Output = [T::Rank; PARTS];
    #[inline(always)]
    fn run<I: Isa>(self) -> [T::Rank; PARTS] {
        let (blocks, _) = self.row.as_chunks::<PARTS>();
        let mut best = [blocks[0][0].rank(); PARTS];
        // Loops, and no closures: those are not always compiled for the instruction set.
        for (best, x) in best.iter_mut().zip(&blocks[0]) {
            *best = x.rank() ^ self.flip;
        }
        for block in &blocks[1..] {
            for (best, x) in best.iter_mut().zip(block) {
                *best = (*best).min(x.rank() ^ self.flip);
            }
        }
        best
    }
}

/// The start of the next block that has an element below the limit; what is left of the row if none has.
struct Next<'a, T: Ranked> {
    row: &'a [T],
    start: usize,
    flip: T::Rank,
    limit: T::Rank,
}

impl<T: Ranked> Kernel for Next<'_, T> {
    type Output = usize;
    #[inline(always)]
    fn run<I: Isa>(self) -> usize {
        let Self { row, mut start, flip, limit } = self;
        while let Some(block) = row[start..].first_chunk::<BLOCK>() {
            if block.iter().fold(false, |found, x| found | ((x.rank() ^ flip) < limit)) {
                break;
            }
            start += BLOCK;
        }
        start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flip(descending: bool) -> u32 {
        if descending {
            f32::ALL
        } else {
            0
        }
    }

    #[test]
    fn equals_count_in_the_order_of_their_places() {
        // The highest rank has none above it, so that no first limit is set.
        for value in [0.0, f32::NAN] {
            let mut row = vec![value; 1000];
            row[777] = -1.0;
            let mut entries = vec![(0, 0); 2 * ROOM];
            for (descending, exact) in [(false, [777, 0, 1, 2]), (true, [0, 1, 2, 3])] {
                let count = top(&row, 4, flip(descending), &mut entries);
                let places: Vec<usize> = entries[..count].iter().map(|entry| entry.1).collect();
                assert_eq!(places, exact, "{value} {descending}");
            }
        }
    }

    #[test]
    fn the_first_of_rows_with_ties() {
        for n in [1, 5, 63, 64, 65, 200, 1000] {
            let row: Vec<f32> = (0..n).map(|i| ((i * 7919) % 101) as f32 - 50.0).collect();
            for k in [0, 1, 2, 7, 70].into_iter().filter(|&k| k <= n) {
                for descending in [false, true] {
                    let mut order: Vec<usize> = (0..n).collect();
                    order.sort_by(|&a, &b| {
                        let order = row[a].total_cmp(&row[b]);
                        if descending {
                            order.reverse()
                        } else {
                            order
                        }
                    });
                    let mut entries = vec![(0, 0); 2 * k.max(4)];
                    let count = top(&row, k, flip(descending), &mut entries);
                    let places: Vec<usize> = entries[..count].iter().map(|entry| entry.1).collect();
                    assert_eq!(places, order[..k], "{k} of {n}");
                }
            }
        }
    }
}
