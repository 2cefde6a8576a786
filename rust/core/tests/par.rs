//! Parallel regions: every index once, nesting, panics, many callers, the number of threads.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use firesteel::par;

/// The number of threads is the process's: tests that set it take turns.
fn with_threads(threads: usize) -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    par::set_num_threads(threads).unwrap();
    turn
}

fn counts(len: usize, grain: usize) -> Vec<usize> {
    let hits: Vec<AtomicUsize> = (0..len).map(|_| AtomicUsize::new(0)).collect();
    par::for_each_chunk(len, grain, |range| {
        assert!(!range.is_empty());
        range.for_each(|index| _ = hits[index].fetch_add(1, Ordering::Relaxed));
    });
    hits.into_iter().map(AtomicUsize::into_inner).collect()
}

#[test]
fn every_index_comes_once() {
    for threads in [1, 2, 4] {
        let _turn = with_threads(threads);
        for len in [0, 1, 2, 63, 64, 65, 1000, 10_000] {
            for grain in [0, 1, 7, 64, 1000, 100_000] {
                assert!(counts(len, grain).iter().all(|hits| *hits == 1), "{len} {grain} {threads}");
            }
        }
        let sum = AtomicUsize::new(0);
        par::for_each(100, |index| _ = sum.fetch_add(index, Ordering::Relaxed));
        assert_eq!(sum.into_inner(), 4950);
    }
}

#[test]
fn long_chunks_do_not_cut_vectors() {
    let _turn = with_threads(4);
    par::for_each_chunk(100_003, 1000, |range| assert_eq!(range.start % 64, 0));
}

#[test]
fn nested_regions_stay_on_their_thread() {
    let _turn = with_threads(4);
    let total = AtomicUsize::new(0);
    par::for_each(8, |_| {
        let outer = std::thread::current().id();
        par::for_each_chunk(1000, 1, |range| {
            assert_eq!(std::thread::current().id(), outer);
            total.fetch_add(range.len(), Ordering::Relaxed);
        });
    });
    assert_eq!(total.into_inner(), 8000);
}

#[test]
fn a_panic_reaches_the_caller_and_harms_nobody() {
    let _turn = with_threads(4);
    for _ in 0..20 {
        let result = std::panic::catch_unwind(|| {
            par::for_each(64, |index| {
                if index == 17 {
                    panic!("chunk {index}");
                }
            });
        });
        assert_eq!(result.unwrap_err().downcast_ref::<String>().unwrap(), "chunk 17");
        assert!(counts(1000, 1).iter().all(|hits| *hits == 1));
    }
}

#[test]
fn the_number_of_threads_is_a_limit() {
    let _turn = with_threads(3);
    assert_eq!(par::num_threads(), 3);
    for limit in [3, 2, 1, 5] {
        par::set_num_threads(limit).unwrap();
        let seen = Mutex::new(HashSet::new());
        par::for_each(50, |_| {
            seen.lock().unwrap().insert(std::thread::current().id());
            std::thread::sleep(Duration::from_micros(200));
        });
        assert!(seen.into_inner().unwrap().len() <= limit);
    }
    let error = par::set_num_threads(0).unwrap_err();
    assert_eq!(error.message(), "set_num_threads: got 0; pass a number from 1 to 1024");
}

#[test]
fn workers_really_help() {
    let _turn = with_threads(4);
    let seen = Mutex::new(HashSet::new());
    par::for_each(40, |_| {
        seen.lock().unwrap().insert(std::thread::current().id());
        std::thread::sleep(Duration::from_millis(2));
    });
    assert!(seen.into_inner().unwrap().len() > 1);
}

#[test]
fn many_threads_call_at_once() {
    let _turn = with_threads(4);
    std::thread::scope(|scope| {
        for caller in 0..8 {
            scope.spawn(move || {
                for round in 0..200 {
                    let len = 1 + (caller * 37 + round * 11) % 500;
                    assert!(counts(len, 3).iter().all(|hits| *hits == 1));
                }
            });
        }
    });
}

/// Not a test of speed (machines differ): `cargo test --profile fast --test par -- --nocapture latency`.
#[test]
fn latency_of_an_empty_region() {
    let _turn = with_threads(2);
    let mut nanos: Vec<u128> = (0..20_000)
        .map(|_| {
            let start = Instant::now();
            par::for_each(2, |_| {});
            start.elapsed().as_nanos()
        })
        .collect();
    nanos.sort_unstable();
    println!("empty region, 2 threads: median {} ns, p90 {} ns", nanos[10_000], nanos[18_000]);
}
