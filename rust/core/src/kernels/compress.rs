//! Elements that a mask picks, moved together: with AVX-512 sixteen at a time.

use crate::simd::Isa;

/// What is picked from: item `i` stands beside byte `i` of the mask.
pub(super) trait Items: Copy {
    type Item: Copy;
    /// Item `i`.
    ///
    /// # Safety
    /// There are so many.
    unsafe fn at(self, i: usize) -> Self::Item;
    /// The items of sixteen from `i` on whose bits are set in `hits`, to `to`. Of the `room` items there, others than
    /// these may be written, too.
    ///
    /// # Safety
    /// There are so many items, and at least as much room as hits; the machine has AVX-512.
    #[cfg(target_arch = "x86_64")]
    unsafe fn sixteen(self, i: usize, hits: u16, to: *mut Self::Item, room: usize);
}

/// Writes the items whose bytes in `mask` are not 0 to the `room` items at `to`. If there are more, which is only if
/// somebody has changed the mask since they were counted, the last are lost.
///
/// # Safety
/// There is an item for each byte, and `to` is valid for `room` items.
#[inline(always)]
pub(super) unsafe fn compress<I: Isa, S: Items>(items: S, mask: &[u8], to: *mut S::Item, room: usize) {
    let (mut i, mut k) = (0, 0);
    #[cfg(target_arch = "x86_64")]
    if I::LEVEL == crate::simd::Level::V4 {
        for block in mask.as_chunks::<64>().0 {
            // SAFETY: this is compiled for AVX-512; `hits` are at most `room - k`.
            unsafe {
                let mut hits = x86::hits(block);
                let mut start = i;
                while hits != 0 {
                    let some = hits as u16;
                    let count = some.count_ones() as usize;
                    if count > room - k {
                        return;
                    }
                    items.sixteen(start, some, to.add(k), room - k);
                    k += count;
                    hits >>= 16;
                    start += 16;
                }
            }
            i += 64;
        }
    }
    let Some(last) = room.checked_sub(1) else { return };
    let end = mask[i..].iter().rposition(|&byte| byte != 0).map_or(i, |place| i + place + 1);
    // Every item is written, and stays if it is a hit: without a branch that cannot be foretold.
    while i < end {
        // SAFETY: `to` has `last + 1` items.
        unsafe { *to.add(k.min(last)) = items.at(i) };
        k += usize::from(mask[i] != 0);
        i += 1;
    }
}

/// The numbers from `0` on, each its place.
#[derive(Clone, Copy)]
pub(super) struct Places(pub(super) i64);

impl Items for Places {
    type Item = i64;
    #[inline(always)]
    unsafe fn at(self, i: usize) -> i64 {
        self.0 + i as i64
    }
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn sixteen(self, i: usize, hits: u16, to: *mut i64, room: usize) {
        // SAFETY: the caller's promise.
        unsafe { x86::places(self.0 + i as i64, hits, to, room) }
    }
}

macro_rules! words {
    ($($word:ident),+) => {
        $(impl Items for *const $word {
            type Item = $word;
            #[inline(always)]
            unsafe fn at(self, i: usize) -> $word {
                // SAFETY: the caller's promise.
                unsafe { *self.add(i) }
            }
            #[cfg(target_arch = "x86_64")]
            #[inline(always)]
            unsafe fn sixteen(self, i: usize, hits: u16, to: *mut $word, room: usize) {
                // SAFETY: the caller's promise.
                unsafe { x86::$word(self.add(i), hits, to, room) }
            }
        })+
    };
}
words!(u8, u16, u32, u64);

/// Registers are compressed and then stored: instructions that compress into memory take a hundred cycles on some
/// processors.
///
/// # Safety
/// Of all functions: the machine has AVX-512, pointers are valid for the sixteen items, and for `room`.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    /// A bit for each byte that is not 0.
    #[inline(always)]
    pub(super) unsafe fn hits(block: &[u8; 64]) -> u64 {
        // SAFETY: the block has 64 bytes.
        unsafe {
            let bytes = _mm512_loadu_si512(block.as_ptr().cast());
            _mm512_test_epi8_mask(bytes, bytes)
        }
    }

    /// The lanes of eight items.
    #[inline(always)]
    unsafe fn put8(items: __m512i, hits: u8, to: *mut u64, room: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let items = _mm512_maskz_compress_epi64(hits, items);
            if room >= 8 {
                _mm512_storeu_epi64(to.cast(), items);
            } else {
                _mm512_mask_storeu_epi64(to.cast(), (1 << room) - 1, items);
            }
        }
    }

    #[inline(always)]
    unsafe fn put16(low: __m512i, high: __m512i, hits: u16, to: *mut u64, room: usize) {
        let first = (hits as u8).count_ones() as usize;
        // SAFETY: the caller's promise.
        unsafe {
            put8(low, hits as u8, to, room);
            put8(high, (hits >> 8) as u8, to.add(first), room - first);
        }
    }

    #[inline(always)]
    pub(super) unsafe fn places(start: i64, hits: u16, to: *mut i64, room: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let low = _mm512_add_epi64(_mm512_set1_epi64(start), _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7));
            put16(low, _mm512_add_epi64(low, _mm512_set1_epi64(8)), hits, to.cast(), room);
        }
    }

    #[inline(always)]
    pub(super) unsafe fn u64(from: *const u64, hits: u16, to: *mut u64, room: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let (low, high) = (_mm512_loadu_epi64(from.cast()), _mm512_loadu_epi64(from.add(8).cast()));
            put16(low, high, hits, to, room);
        }
    }

    #[inline(always)]
    pub(super) unsafe fn u32(from: *const u32, hits: u16, to: *mut u32, room: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let items = _mm512_maskz_compress_epi32(hits, _mm512_loadu_epi32(from.cast()));
            if room >= 16 {
                _mm512_storeu_epi32(to.cast(), items);
            } else {
                _mm512_mask_storeu_epi32(to.cast(), (1 << room) - 1, items);
            }
        }
    }

    #[inline(always)]
    pub(super) unsafe fn u16(from: *const u16, hits: u16, to: *mut u16, room: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let items = _mm512_cvtepu16_epi32(_mm256_loadu_epi16(from.cast()));
            let items = _mm512_cvtepi32_epi16(_mm512_maskz_compress_epi32(hits, items));
            let mask = if room >= 16 { u16::MAX } else { (1 << room) - 1 };
            _mm256_mask_storeu_epi16(to.cast(), mask, items);
        }
    }

    #[inline(always)]
    pub(super) unsafe fn u8(from: *const u8, hits: u16, to: *mut u8, room: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let items = _mm512_cvtepu8_epi32(_mm_loadu_epi8(from.cast()));
            let items = _mm512_cvtepi32_epi8(_mm512_maskz_compress_epi32(hits, items));
            let mask = if room >= 16 { u16::MAX } else { (1 << room) - 1 };
            _mm_mask_storeu_epi8(to.cast(), mask, items);
        }
    }
}
