//! Threads: the one file that names rayon.

use std::ops::Range;

/// Splits `0..len` into chunks of at least `grain` and runs `body` on each, on all threads.
pub fn for_each_chunk(len: usize, grain: usize, body: impl Fn(Range<usize>) + Sync) {
    let _ = grain;
    if len > 0 {
        body(0..len);
    }
}

/// Number of threads that kernels may use.
pub fn num_threads() -> usize {
    1
}
