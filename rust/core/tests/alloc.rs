//! The allocator: reuse, statistics, limits, threads. One process of its own, one test at a time.

use std::sync::{Mutex, MutexGuard};

use firesteel::alloc::{self, Block, ALIGNMENT};
use firesteel::Kind;

/// Statistics and limits belong to the process: tests take turns and start with an empty cache.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    let guard = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    alloc::set_limit(None);
    alloc::empty_cache();
    wait_for_ended_threads();
    guard
}

/// Threads give their free lists back while they end, which nobody's `join` of a scope waits for.
fn wait_for_ended_threads() {
    let start = std::time::Instant::now();
    while alloc::stats().cached_bytes > 0 {
        assert!(start.elapsed().as_secs() < 10, "ended threads leave {:?} behind", alloc::stats());
        std::thread::yield_now();
    }
}

fn fill(block: &Block, value: u8) {
    // SAFETY: the block owns `capacity` bytes.
    unsafe { block.as_ptr().write_bytes(value, block.capacity()) };
}

fn is_filled(block: &Block, value: u8) -> bool {
    // SAFETY: `fill` has initialised the whole block.
    unsafe { std::slice::from_raw_parts(block.as_ptr(), block.capacity()) }.iter().all(|&byte| byte == value)
}

#[test]
fn blocks_are_aligned_large_enough_and_apart() {
    let _turn = turn();
    let sizes =
        [0, 1, 63, 64, 65, 1000, 4096, 65_536, 65_537, 1 << 20, (2 << 20) - 1, 2 << 20, (5 << 20) + 3];
    for _ in 0..3 {
        let blocks: Vec<Block> = sizes.iter().map(|&size| Block::new(size).unwrap()).collect();
        for (i, (block, &size)) in blocks.iter().zip(&sizes).enumerate() {
            assert_eq!(block.as_ptr() as usize % ALIGNMENT, 0);
            assert!(block.capacity() >= size);
            if cfg!(target_os = "linux") && size >= 2 << 20 {
                assert_eq!(block.as_ptr() as usize % (2 << 20), 0);
            }
            fill(block, i as u8);
        }
        assert!(blocks.iter().enumerate().all(|(i, block)| is_filled(block, i as u8)));
    }
}

#[test]
fn freed_blocks_are_reused() {
    let _turn = turn();
    for size in [100, 60_000, 100_000, 3 << 20] {
        let first = Block::new(size).unwrap().as_ptr();
        let misses = alloc::stats().system_allocations;
        let again = Block::new(size - size / 8).unwrap();
        if size > 65_536 {
            assert_eq!(again.as_ptr(), first, "best fit within a quarter");
        }
        drop(again);
        assert_eq!(Block::new(size).unwrap().as_ptr(), first);
        assert!(alloc::stats().system_allocations - misses <= 1);
    }
    drop(Block::new(10 << 20).unwrap());
    let cached = alloc::stats().cached_bytes;
    let _much_smaller = Block::new(7 << 20).unwrap();
    assert_eq!(alloc::stats().cached_bytes, cached, "a block that is far too large is left alone");
}

#[test]
fn statistics_follow_the_blocks() {
    let _turn = turn();
    let before = alloc::stats();
    alloc::reset_peak();
    let blocks: Vec<Block> = [1024, 1024, 1 << 20].iter().map(|&size| Block::new(size).unwrap()).collect();
    let total = 2048 + (1 << 20);
    let during = alloc::stats();
    assert_eq!(during.allocated_bytes - before.allocated_bytes, total);
    assert_eq!(during.allocations - before.allocations, 3);
    drop(blocks);
    let after = alloc::stats();
    assert_eq!(after.allocated_bytes, before.allocated_bytes);
    assert_eq!(after.peak_bytes, before.allocated_bytes + total);
    assert_eq!(after.cached_bytes, before.cached_bytes + total);
    alloc::reset_peak();
    assert_eq!(alloc::stats().peak_bytes, before.allocated_bytes);
    alloc::empty_cache();
    assert_eq!(alloc::stats().cached_bytes, before.cached_bytes);
}

#[test]
fn blocks_travel_between_threads() {
    let _turn = turn();
    let before = alloc::stats();
    let blocks: Vec<Block> = std::thread::spawn(|| {
        (0..3000)
            .map(|i| {
                let block = Block::new(i * 40).unwrap();
                fill(&block, i as u8);
                block
            })
            .collect()
    })
    .join()
    .unwrap();
    assert!(blocks.iter().enumerate().all(|(i, block)| is_filled(block, i as u8)));
    let halves = std::sync::Mutex::new(blocks);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| loop {
                let Some(block) = halves.lock().unwrap().pop() else { return };
                drop(Block::new(block.capacity() / 2).unwrap());
            });
        }
    });
    alloc::empty_cache();
    wait_for_ended_threads();
    assert_eq!(alloc::stats().allocated_bytes, before.allocated_bytes);
}

#[test]
fn requests_over_the_limit_fail_with_a_message() {
    let _turn = turn();
    drop(Block::new(1 << 20).unwrap());
    let used = alloc::stats().allocated_bytes;
    alloc::set_limit(Some(used + (2 << 20)));
    let kept = Block::new(3 << 19).expect("the cache is emptied to make room");
    let error = Block::new(1 << 20).unwrap_err();
    assert_eq!(error.kind(), Kind::Memory);
    assert_eq!(
        error.message(),
        format!(
            "allocate: 1048576 bytes (1.0 MiB) would exceed the limit of {} bytes (2.0 MiB) \
             ({} bytes (1.5 MiB) in use); free tensors or use smaller ones",
            used + (2 << 20),
            used + (3 << 19)
        )
    );
    drop(kept);
    assert!(Block::new(1 << 20).is_ok());
    alloc::set_limit(None);
}

#[test]
fn absurd_sizes_are_errors() {
    let _turn = turn();
    for size in [1 << 46, 1 << 62, usize::MAX / 2, usize::MAX - 5000, usize::MAX] {
        let error = Block::new(size).unwrap_err();
        assert_eq!(error.kind(), Kind::Memory);
        assert!(error.message().starts_with("allocate: "), "{error}");
    }
}

#[test]
fn the_cache_of_large_blocks_is_bounded() {
    let _turn = turn();
    alloc::set_cache_limit(4 << 20);
    let blocks: Vec<Block> = (0..8).map(|_| Block::new(1 << 20).unwrap()).collect();
    let last = blocks.last().unwrap().as_ptr();
    drop(blocks);
    assert_eq!(alloc::stats().cached_bytes, 4 << 20);
    assert_eq!(Block::new(1 << 20).unwrap().as_ptr(), last, "the oldest were evicted");
    alloc::set_cache_limit(1 << 30);
}

/// The exit status of a child that allocates; one that hangs is ended by an alarm.
#[cfg(unix)]
fn fork_and_allocate() -> i32 {
    // SAFETY: the child only allocates and leaves without running destructors.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            libc::alarm(20);
            let ok = (0..50).all(|i| Block::new(i * 5000).is_ok());
            libc::_exit(i32::from(!ok));
        }
        let mut status = -1;
        libc::waitpid(child, &mut status, 0);
        status
    }
}

#[test]
#[cfg(unix)]
fn a_forked_child_allocates_while_the_parent_is_busy() {
    let _turn = turn();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                drop(Block::new(100_000).unwrap());
            }
        });
        let statuses: Vec<i32> = (0..30).map(|_| fork_and_allocate()).collect();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(statuses, [0; 30]);
    });
}
