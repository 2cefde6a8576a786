//! Matrix products against plain sums in float64: sizes, strides, accumulation, threads.

use firesteel::dtype::Element;
use firesteel::kernels::gemm::{gemm, GemmElement, Mat, MatMut};
use firesteel::par;
use proptest::prelude::*;

const SIZES: [usize; 22] =
    [0, 1, 2, 3, 5, 6, 7, 8, 15, 16, 17, 24, 25, 31, 32, 33, 63, 64, 65, 100, 130, 150];

/// How a matrix lies in memory.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Order {
    Rows,
    Columns,
    /// Every second column of rows with a gap: no stride is 1.
    Gaps,
    /// Rows from last to first.
    Reversed,
}

/// A matrix, its buffer, and its strides.
struct Stored<T> {
    values: Vec<T>,
    start: usize,
    row: isize,
    col: isize,
}

impl<T: Element> Stored<T> {
    fn new(rows: usize, cols: usize, order: Order, seed: u64) -> Self {
        let (len, start, row, col) = match order {
            Order::Rows => (rows * cols, 0, cols as isize, 1),
            Order::Columns => (rows * cols, 0, 1, rows as isize),
            Order::Gaps => (rows * (2 * cols + 3), 0, 2 * cols as isize + 3, 2),
            Order::Reversed => (rows * cols, rows.saturating_sub(1) * cols, -(cols as isize), 1),
        };
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            T::from_i64(((state >> 33) % 17) as i64 - 8)
        };
        Self { values: (0..len.max(1)).map(|_| next()).collect(), start, row, col }
    }

    fn get(&self, i: usize, j: usize) -> T {
        self.values[(self.start as isize + i as isize * self.row + j as isize * self.col) as usize]
    }

    fn mat(&self) -> Mat<T> {
        Mat { ptr: self.values[self.start..].as_ptr(), row: self.row, col: self.col }
    }

    fn mat_mut(&mut self) -> MatMut<T> {
        let ptr = self.values.as_mut_ptr().wrapping_add(self.start);
        MatMut { ptr, row: self.row, col: self.col }
    }
}

/// What the products are added to.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Added {
    Nothing,
    Result,
    Matrix(Order),
    /// One row for all.
    Row,
    /// One column for all.
    Column,
}

/// One product of small integers, which every type holds exactly: the result must be equal.
fn check<T: GemmElement>((m, n, k): (usize, usize, usize), orders: [Order; 3], added: Added) {
    let a = Stored::<T>::new(m, k, orders[0], 1);
    let b = Stored::<T>::new(k, n, orders[1], 2);
    let mut c = Stored::<T>::new(m, n, orders[2], 3);
    let before = Stored::<T>::new(m, n, orders[2], 3);
    let order = if let Added::Matrix(order) = added { order } else { Order::Rows };
    let mut more = Stored::<T>::new(m, n, order, 4);
    match added {
        Added::Nothing => more.values.fill(T::from_i64(0)),
        Added::Result => more = Stored::<T>::new(m, n, orders[2], 3),
        Added::Matrix(_) => {}
        Added::Row => more.row = 0,
        Added::Column => more.col = 0,
    }
    let mat = match added {
        Added::Nothing => None,
        Added::Result => Some(c.mat_mut().read()),
        _ => Some(more.mat()),
    };
    // SAFETY: the buffers hold the matrices at these strides.
    unsafe { gemm(m, n, k, a.mat(), b.mat(), c.mat_mut(), mat) };
    let mut expected = before.values;
    for i in 0..m {
        for j in 0..n {
            let mut sum = more.get(i, j).to_i64();
            for q in 0..k {
                sum = sum.wrapping_add(a.get(i, q).to_i64().wrapping_mul(b.get(q, j).to_i64()));
            }
            let at = (c.start as isize + i as isize * c.row + j as isize * c.col) as usize;
            expected[at] = T::from_i64(sum);
        }
    }
    // All of the buffer: nothing between the elements may change.
    assert!(c.values == expected, "{:?} {m} x {n} x {k} {orders:?} {added:?}", T::DTYPE);
}

fn size() -> impl Strategy<Value = usize> {
    prop::sample::select(&SIZES[..])
}

fn added() -> impl Strategy<Value = Added> {
    prop_oneof![
        Just(Added::Nothing),
        Just(Added::Result),
        order().prop_map(Added::Matrix),
        Just(Added::Row),
        Just(Added::Column)
    ]
}

fn order() -> impl Strategy<Value = Order> {
    prop::sample::select(vec![Order::Rows, Order::Columns, Order::Gaps, Order::Reversed])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..Default::default() })]

    #[test]
    fn floats_are_exact_on_small_integers(
        dims in (size(), size(), size()), a in order(), b in order(), c in order(), added in added(),
    ) {
        check::<f32>(dims, [a, b, c], added);
        check::<f64>(dims, [a, b, c], added);
        check_bfloat16(dims, [a, b, c], added);
    }
}

/// Where bfloat16 is not widened: sums are exact in float32, and rounded once as `check` does.
fn check_bfloat16(dims: (usize, usize, usize), orders: [Order; 3], added: Added) {
    #[cfg(target_arch = "x86_64")]
    if firesteel::simd::has_bf16() {
        check::<firesteel::dtype::bf16>(dims, orders, added);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..Default::default() })]

    #[test]
    fn integers_wrap(
        dims in (size(), size(), size()), a in order(), b in order(), c in order(), added in added(),
    ) {
        check::<u8>(dims, [a, b, c], added);
        check::<i32>(dims, [a, b, c], added);
        check::<i64>(dims, [a, b, c], added);
    }
}

#[test]
fn large_blocks_of_k_and_columns() {
    use Order::{Columns, Gaps, Rows};
    for dims in [
        (70, 300, 1000),
        (300, 260, 400),
        (5, 200, 9001),
        (30, 4200, 20),
        (1, 1, 100_000),
        (200, 300, 1),
        (70, 130, 8),
    ] {
        for orders in
            [[Rows, Rows, Rows], [Rows, Columns, Rows], [Columns, Rows, Columns], [Gaps, Gaps, Rows]]
        {
            check::<f32>(dims, orders, Added::Row);
            check::<f64>(dims, orders, Added::Result);
            check_bfloat16(dims, orders, Added::Row);
        }
    }
}

/// Values that are not exact, and the bits of their product for a number of threads.
fn bits(threads: usize, (m, n, k): (usize, usize, usize), orders: [Order; 2]) -> Vec<u32> {
    par::set_num_threads(threads).unwrap();
    let mut a = Stored::<f32>::new(m, k, orders[0], 1);
    let mut b = Stored::<f32>::new(k, n, orders[1], 2);
    a.values.iter_mut().chain(&mut b.values).enumerate().for_each(|(i, x)| *x = (*x + i as f32).sin());
    let mut c = Stored::<f32>::new(m, n, Order::Rows, 3);
    // SAFETY: the buffers hold the matrices at these strides.
    unsafe { gemm(m, n, k, a.mat(), b.mat(), c.mat_mut(), None) };
    for (i, j) in [(0, 0), (m - 1, n - 1), (m / 2, n / 3)] {
        let exact: f64 = (0..k).map(|q| f64::from(a.get(i, q)) * f64::from(b.get(q, j))).sum();
        assert!((f64::from(c.get(i, j)) - exact).abs() < 1e-5 * (k as f64), "{m} {n} {k}");
    }
    c.values.into_iter().map(f32::to_bits).collect()
}

#[test]
fn threads_do_not_change_a_bit() {
    use Order::{Columns, Rows};
    for dims in
        [(1, 5000, 700), (6, 3000, 300), (20, 2000, 500), (65, 333, 801), (300, 310, 700), (1, 1, 500_001)]
    {
        for orders in [[Rows, Rows], [Rows, Columns], [Columns, Rows]] {
            let one = bits(1, dims, orders);
            assert!(bits(2, dims, orders) == one, "{dims:?} {orders:?}");
            assert!(bits(4, dims, orders) == one, "{dims:?} {orders:?}");
        }
    }
}

#[test]
fn nan_and_infinity_pass_through_zeros() {
    for (m, n, k) in [(1, 1, 9), (1, 40, 20), (5, 40, 20), (100, 100, 100)] {
        for order in [Order::Rows, Order::Columns] {
            let a = Stored { values: vec![0.0f32; m * k], start: 0, row: k as isize, col: 1 };
            let mut b = Stored::<f32>::new(k, n, order, 2);
            *b.values.last_mut().unwrap() = f32::NAN;
            let mut c = Stored::<f32>::new(m, n, Order::Rows, 3);
            // SAFETY: the buffers hold the matrices at these strides.
            unsafe { gemm(m, n, k, a.mat(), b.mat(), c.mat_mut(), None) };
            assert!((0..m).all(|i| c.get(i, n - 1).is_nan() && (n == 1 || c.get(i, 0) == 0.0)));
        }
    }
}

#[test]
fn an_input_of_stride_zero_repeats() {
    let (one, b) = ([2.0f32], Stored::<f32>::new(50, 70, Order::Columns, 2));
    let mut c = Stored::<f32>::new(80, 70, Order::Rows, 3);
    let a = Mat { ptr: one.as_ptr(), row: 0, col: 0 };
    // SAFETY: every element of `a` is the one; the others hold their matrices.
    unsafe { gemm(80, 70, 50, a, b.mat(), c.mat_mut(), None) };
    let sum: f32 = (0..50).map(|q| 2.0 * b.get(q, 69)).sum();
    assert_eq!((c.get(0, 69), c.get(79, 69)), (sum, sum));
}

/// The instruction set is chosen once per process: the other levels get their own.
#[test]
fn other_instruction_sets_pass_too() {
    if std::env::var_os("FIRESTEEL_ISA").is_some() {
        return;
    }
    for level in ["baseline", "v3"] {
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .env("FIRESTEEL_ISA", level)
            .env("PROPTEST_CASES", "300")
            .stdout(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(status.success(), "FIRESTEEL_ISA={level}: run again with it set to see more");
    }
}
