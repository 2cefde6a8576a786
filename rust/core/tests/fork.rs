//! A forked child builds its own pool, whatever its parent's threads were doing at that moment.
#![cfg(unix)]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use firesteel::par;

fn sum() -> usize {
    let total = AtomicUsize::new(0);
    par::for_each_chunk(10_000, 10, |range| _ = total.fetch_add(range.sum(), Ordering::Relaxed));
    total.into_inner()
}

const EXPECTED: usize = 10_000 * 9_999 / 2;

/// Forks; the child computes in parallel and dies by alarm if it hangs.
fn fork_and_compute() {
    // SAFETY: the child calls only into par, the allocator and _exit, and never returns to the test.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "fork failed");
    if child == 0 {
        // SAFETY: alarm and _exit take plain numbers; _exit skips the parent's cleanup.
        unsafe {
            libc::alarm(20);
            let right = (0..50).all(|_| sum() == EXPECTED);
            libc::_exit(if right { 7 } else { 1 });
        }
    }
    let mut status = 0;
    // SAFETY: `status` outlives the call and `child` is ours.
    let waited = unsafe { libc::waitpid(child, &mut status, 0) };
    assert_eq!(waited, child);
    assert!(libc::WIFEXITED(status), "the child was killed: status {status}");
    assert_eq!(libc::WEXITSTATUS(status), 7);
}

#[test]
fn children_compute_while_the_parent_is_busy() {
    par::set_num_threads(3).unwrap();
    assert_eq!(sum(), EXPECTED);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                assert_eq!(sum(), EXPECTED);
            }
        });
        for _ in 0..20 {
            fork_and_compute();
            assert_eq!(sum(), EXPECTED);
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(sum(), EXPECTED);
}
