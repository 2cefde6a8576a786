//! Copies of more than the caches hold, past them.

/// Bytes from which a copy goes past the caches: as much again is read, and the last level has 32 MB where this was
/// measured (40 MB: 0.9 of the time on one thread, half of it on two; 4 MB would take half as long again). Results of
/// formulas lose by it: by way of a tile, `exp` of 40 MB took 1.2 times as long, a product 1.1 times.
pub(super) const LARGE: usize = 32 << 20;

/// Copies `bytes` bytes. A store past the caches need not read first what it overwrites.
///
/// # Safety
/// They are valid to read, and to write, and do not overlap.
pub(super) unsafe fn copy(from: *const u8, to: *mut u8, bytes: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_sfence, _mm_stream_si128};
        const LINE: usize = 64;
        let head = to.align_offset(LINE).min(bytes);
        let end = bytes - (bytes - head) % LINE;
        // SAFETY: head, lines and the rest make up the caller's bytes; lines start at a multiple of their length.
        // Every processor of this architecture has these instructions.
        unsafe {
            std::ptr::copy_nonoverlapping(from, to, head);
            for at in (head..end).step_by(LINE) {
                let (from, to) = (from.add(at).cast::<__m128i>(), to.add(at).cast::<__m128i>());
                let parts = [0, 1, 2, 3].map(|i| _mm_loadu_si128(from.add(i)));
                (0..4).for_each(|i| _mm_stream_si128(to.add(i), parts[i]));
            }
            std::ptr::copy_nonoverlapping(from.add(end), to.add(end), bytes - end);
            // Such stores are ordered against those that tell other threads of them by this alone.
            _mm_sfence();
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: the caller's promise.
    unsafe {
        std::ptr::copy_nonoverlapping(from, to, bytes);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn bytes_from_and_to_any_place() {
        let from: Vec<u8> = (0..1000).map(|i| (i * 7 % 251) as u8).collect();
        for (start, at, bytes) in [(0, 0, 0), (1, 3, 5), (0, 1, 64), (3, 7, 300), (5, 0, 995)] {
            let mut to = vec![255; 1010];
            // SAFETY: both have so many bytes.
            unsafe { super::copy(from.as_ptr().add(start), to.as_mut_ptr().add(at), bytes) };
            assert_eq!(to[at..at + bytes], from[start..start + bytes]);
            assert!(to[..at].iter().chain(&to[at + bytes..]).all(|&byte| byte == 255));
        }
    }
}
