//! float32 forms against float64 ones, over grids of bit patterns and special values.

use super::Real;
use crate::simd::{dispatch, Baseline, Isa, Kernel};

const INF: f32 = f32::INFINITY;
const NAN: f32 = f32::NAN;

/// A formula of one variable, for every instruction set.
trait Formula {
    fn of<I: Isa>(x: f32) -> f32;
}

struct Map<'a, F>(&'a [f32], std::marker::PhantomData<F>);

impl<F: Formula> Kernel for Map<'_, F> {
    type Output = Vec<f32>;
    #[inline(always)]
    fn run<I: Isa>(self) -> Vec<f32> {
        self.0.iter().map(|x| F::of::<I>(*x)).collect()
    }
}

fn on_both<F: Formula>(xs: &[f32]) -> [Vec<f32>; 2] {
    let kernel = || Map::<F>(xs, std::marker::PhantomData);
    [dispatch(kernel()), kernel().run::<Baseline>()]
}

/// Distance in units of the last place of the exact value.
fn ulps(got: f32, exact: f64) -> f64 {
    let rounded = exact as f32;
    if got == rounded && !got.is_finite() || got.is_nan() && exact.is_nan() {
        return 0.0;
    }
    let exponent = exact.abs().max(f64::from(f32::MIN_POSITIVE)).log2().floor();
    (f64::from(got) - exact).abs() / (exponent - 23.0).exp2()
}

/// Checks every 4001st float32 between the bounds.
fn check<F: Formula>(name: &str, exact: impl Fn(f64) -> f64, low: f32, high: f32, limit: f64) {
    let all = (0..=u32::MAX).step_by(4001).map(f32::from_bits);
    let xs: Vec<f32> = all.filter(|x| *x >= low && *x <= high).collect();
    for ys in on_both::<F>(&xs) {
        let errors = xs.iter().zip(&ys).map(|(x, y)| (ulps(*y, exact(f64::from(*x))), *x, *y));
        let worst = errors.fold((0.0, 0.0, 0.0), |a, b| if b.0 > a.0 || b.0.is_nan() { b } else { a });
        assert!(
            worst.0 <= limit,
            "{name}({}) = {}: off by {} ulp, allowed {limit}",
            worst.1,
            worst.2,
            worst.0
        );
    }
}

macro_rules! accurate {
    ($test:ident, $x:ident => $form:expr, $exact:expr, $low:expr, $high:expr, $limit:expr) => {
        #[test]
        fn $test() {
            struct F;
            impl Formula for F {
                #[inline(always)]
                fn of<I: Isa>($x: f32) -> f32 {
                    $form
                }
            }
            check::<F>(stringify!($test), $exact, $low, $high, $limit);
        }
    };
}

fn erf_exact(x: f64) -> f64 {
    super::erf::erf64::<Baseline>(x)
}

accurate!(exp, x => Real::<I>::exp(x), f64::exp, -INF, INF, 1.05);
accurate!(exp_or_zero, x => super::exp_or_zero32::<I>(x), f64::exp, -87.0, 1.0, 1.05);
accurate!(expm1, x => Real::<I>::expm1(x), f64::exp_m1, -INF, INF, 2.0);
accurate!(ln, x => Real::<I>::ln(x), f64::ln, -INF, INF, 1.05);
accurate!(log1p, x => Real::<I>::log1p(x), f64::ln_1p, -INF, INF, 1.6);
accurate!(log2, x => Real::<I>::log2(x), f64::log2, -INF, INF, 0.51);
accurate!(log10, x => Real::<I>::log10(x), f64::log10, -INF, INF, 0.51);
accurate!(sin, x => Real::<I>::sin(x), f64::sin, -INF, INF, 2.0);
accurate!(cos, x => Real::<I>::cos(x), f64::cos, -INF, INF, 2.0);
accurate!(tan, x => Real::<I>::tan(x), f64::tan, -INF, INF, 4.0);
accurate!(tanh, x => Real::<I>::tanh(x), f64::tanh, -INF, INF, 2.0);
accurate!(erf, x => Real::<I>::erf(x), erf_exact, -INF, INF, 2.0);
accurate!(sigmoid, x => Real::<I>::sigmoid(x), |x| 1.0 / (1.0 + (-x).exp()), -88.0, INF, 2.0);
accurate!(silu, x => Real::<I>::silu(x), |x| x / (1.0 + (-x).exp()), -88.0, INF, 2.0);
accurate!(log_sigmoid, x => Real::<I>::log_sigmoid(x), |x| x.min(0.0) - (-x.abs()).exp().ln_1p(), -INF, INF, 2.0);
accurate!(softplus, x => Real::<I>::softplus(x, 1.0, 200.0), |x| x.max(0.0) + (-x.abs()).exp().ln_1p(), -INF, 199.0, 2.0);
accurate!(gelu_right, x => Real::<I>::gelu(x), |x| 0.5 * x * super::erf::erfc64::<Baseline>(-x * 0.5_f64.sqrt()), -0.5, INF, 3.5);
accurate!(density, x => Real::<I>::density(x), |x| (-0.5 * x * x).exp() * 0.398_942_280_401_432_7, -5.0, 5.0, 16.0);

#[test]
fn the_left_tail_of_gelu_is_near_and_not_above_zero() {
    struct F;
    impl Formula for F {
        #[inline(always)]
        fn of<I: Isa>(x: f32) -> f32 {
            Real::<I>::gelu(x)
        }
    }
    let xs: Vec<f32> = (0..=140_000).map(|i| i as f32 * -1e-4).collect();
    for ys in on_both::<F>(&xs) {
        for (x, y) in xs.iter().zip(ys) {
            let exact = 0.5 * f64::from(*x) * super::erf::erfc64::<Baseline>(-f64::from(*x) * 0.5_f64.sqrt());
            assert!(y <= 0.0 && (f64::from(y) - exact).abs() < 1e-6, "gelu({x}) = {y}, not {exact}");
        }
    }
}

macro_rules! special {
    ($test:ident, $name:ident, $($x:expr => $y:expr),+) => {
        #[test]
        fn $test() {
            struct F;
            impl Formula for F {
                #[inline(always)]
                fn of<I: Isa>(x: f32) -> f32 {
                    Real::<I>::$name(x)
                }
            }
            $(for y in on_both::<F>(&[$x]) {
                let (x, y, exact): (f32, f32, f32) = ($x, y[0], $y);
                let same = y.to_bits() == exact.to_bits() || y.is_nan() && exact.is_nan();
                assert!(same, "{}({x}) = {y}, not {exact}", stringify!($name));
            })+
        }
    };
}

special!(exp_special, exp, NAN => NAN, INF => INF, -INF => 0.0, 0.0 => 1.0, -0.0 => 1.0, 88.8 => INF, 1e30 => INF, -1e30 => 0.0);
special!(expm1_special, expm1, NAN => NAN, INF => INF, -INF => -1.0, 0.0 => 0.0, -0.0 => -0.0, 1e-40 => 1e-40, -1e30 => -1.0);
special!(ln_special, ln, NAN => NAN, INF => INF, -INF => NAN, 0.0 => -INF, -0.0 => -INF, 1.0 => 0.0, -1.0 => NAN);
special!(log1p_special, log1p, NAN => NAN, INF => INF, -INF => NAN, -1.0 => -INF, -0.0 => -0.0, 0.0 => 0.0, -2.0 => NAN, -1e-40 => -1e-40);
special!(log2_special, log2, NAN => NAN, INF => INF, -1.0 => NAN, 0.0 => -INF, 8.0 => 3.0, 1e-45 => -149.0);
special!(sin_special, sin, NAN => NAN, INF => NAN, -INF => NAN, 0.0 => 0.0, -0.0 => -0.0, 1e-40 => 1e-40);
special!(cos_special, cos, NAN => NAN, INF => NAN, 0.0 => 1.0, -0.0 => 1.0);
special!(tan_special, tan, NAN => NAN, -INF => NAN, -0.0 => -0.0);
special!(tanh_special, tanh, NAN => NAN, INF => 1.0, -INF => -1.0, 0.0 => 0.0, -0.0 => -0.0, 1e-40 => 1e-40, -1e-4 => -1e-4, 50.0 => 1.0, 1e30 => 1.0);
special!(erf_special, erf, NAN => NAN, INF => 1.0, -INF => -1.0, 0.0 => 0.0, -0.0 => -0.0, 9.0 => 1.0, -1e30 => -1.0);
special!(sigmoid_special, sigmoid, NAN => NAN, INF => 1.0, -INF => 0.0, 0.0 => 0.5, -89.5 => 0.0, -90.0 => 0.0, -1e30 => 0.0, 1e30 => 1.0);
special!(silu_special, silu, NAN => NAN, INF => INF, -INF => NAN, 0.0 => 0.0, -0.0 => -0.0, -1e30 => -0.0, 3.4e38 => 3.4e38);
special!(round_special, round, 0.5 => 0.0, 1.5 => 2.0, 2.5 => 2.0, -0.5 => -0.0, NAN => NAN, INF => INF);
special!(sign_special, sign, NAN => 0.0, -0.0 => 0.0, -INF => -1.0, 3.0 => 1.0);

#[test]
fn exp_or_zero_special() {
    struct F;
    impl Formula for F {
        #[inline(always)]
        fn of<I: Isa>(x: f32) -> f32 {
            super::exp_or_zero32::<I>(x)
        }
    }
    for y in on_both::<F>(&[-INF, -1e30, -87.5, 0.0, -0.0, NAN]) {
        assert_eq!(y[..5], [0.0, 0.0, 0.0, 1.0, 1.0]);
        assert!(y[5].is_nan());
    }
}

struct Power<'a>(&'a [(f32, f32)]);
impl Kernel for Power<'_> {
    type Output = Vec<f32>;
    #[inline(always)]
    fn run<I: Isa>(self) -> Vec<f32> {
        self.0.iter().map(|(x, y)| Real::<I>::pow(*x, *y)).collect()
    }
}

#[test]
fn pow_follows_c() {
    let special = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.5,
        -0.5,
        2.0,
        -2.0,
        3.0,
        -3.0,
        2.5,
        -2.5,
        1e30,
        -1e30,
        1e-30,
        1e-42,
        -1e-42,
        16_777_215.0,
        16_777_217.0,
        INF,
        -INF,
        NAN,
    ];
    let mut pairs: Vec<(f32, f32)> = special.iter().flat_map(|x| special.map(|y| (*x, y))).collect();
    for i in 0..20_000_u32 {
        let x = f32::from_bits(i.wrapping_mul(2_654_435_761) & 0x7fff_ffff);
        pairs.push((x, (i as f32 - 10_000.0) * 1e-3));
        pairs.push((0.5 + i as f32 * 1e-4, (i % 977) as f32 * 0.37 - 180.0));
    }
    for ys in [dispatch(Power(&pairs)), Power(&pairs).run::<Baseline>()] {
        for ((x, y), got) in pairs.iter().zip(ys) {
            let exact = f64::from(*x).powf(f64::from(*y));
            let sign = exact.is_nan() || got.is_sign_negative() == exact.is_sign_negative();
            assert!(sign && ulps(got, exact) <= 1.0, "pow({x}, {y}) = {got}, not {exact}");
        }
    }
}

#[test]
fn maximum_and_minimum_propagate_nan() {
    let max = |a: f64, b: f64| Real::<Baseline>::maximum(a, b);
    let min = |a: f64, b: f64| Real::<Baseline>::minimum(a, b);
    assert!(max(1.0, f64::NAN).is_nan() && max(f64::NAN, 1.0).is_nan());
    assert!(min(1.0, f64::NAN).is_nan() && min(f64::NAN, 1.0).is_nan());
    assert_eq!((max(1.0, 2.0), max(2.0, 1.0), min(1.0, 2.0), min(2.0, 1.0)), (2.0, 2.0, 1.0, 1.0));
}

/// Checks that a function nowhere falls by more than a neighbour for 10 000 numbers on both sides of `seam`.
macro_rules! rises {
    ($test:ident, $name:ident, $seam:expr) => {
        #[test]
        fn $test() {
            struct F;
            impl Formula for F {
                #[inline(always)]
                fn of<I: Isa>(x: f32) -> f32 {
                    Real::<I>::$name(x)
                }
            }
            let seam = f32::to_bits($seam);
            let xs: Vec<f32> = (seam - 10_000..seam + 10_000).map(f32::from_bits).collect();
            for ys in on_both::<F>(&xs) {
                let steps = ys.windows(2).map(|y| y[1].to_bits() as i32 - y[0].to_bits() as i32);
                assert!(
                    steps.clone().all(|step| (-1..=3).contains(&step)),
                    "{:?}",
                    (steps.clone().min(), steps.max())
                );
            }
        }
    };
}

rises!(tanh_has_no_seam, tanh, 0.55);
rises!(erf_has_no_seam, erf, 0.9);

/// Checks numbers of float64 against the nearest ones to what is exact: neither form may be off by more than 2.
fn check64(table: &[(f64, f64)], function: [fn(f64) -> f64; 2]) {
    for (x, exact) in table {
        for got in function.map(|f| f(*x)) {
            let distance = (got.to_bits() as i64 - exact.to_bits() as i64).abs();
            assert!(distance <= 2, "of {x}: {got}, not {exact}");
        }
    }
}

#[test]
fn tanh_in_double_precision() {
    // Values of mpmath with 40 digits.
    let table = [
        (0.0, 0.0),
        (-0.0, -0.0),
        (5e-324, 5e-324),
        (1e-300, 1e-300),
        (1e-08, 1e-08),
        (0.1, 0.09966799462495582),
        (-0.25, -0.24491866240370913),
        (0.5, 0.46211715726000974),
        (0.5499999, 0.5005201362422796),
        (0.55, 0.5005202111902353),
        (-0.5500001, -0.5005202861381832),
        (0.7, 0.6043677771171635),
        (1.0, 0.7615941559557649),
        (-1.5, -0.9051482536448664),
        (2.0, 0.9640275800758169),
        (5.0, 0.9999092042625951),
        (9.1, 0.9999999750614947),
        (-15.0, -0.9999999999998128),
        (18.9, 0.9999999999999999),
        (22.0, 1.0),
        (f64::NEG_INFINITY, -1.0),
    ];
    check64(&table, [super::tanh::tanh64::<Baseline>, super::tanh::tanh64::<crate::simd::V4>]);
    assert!(super::tanh::tanh64::<Baseline>(f64::NAN).is_nan());
}

#[test]
fn sigmoid_in_double_precision() {
    // Values of mpmath with 40 digits.
    let table = [
        (0.0, 0.5),
        (-1e-08, 0.4999999975),
        (1e-08, 0.5000000025),
        (-0.001, 0.4997500000208333),
        (0.5, 0.6224593312018546),
        (-0.5, 0.37754066879814546),
        (1.0, 0.7310585786300049),
        (-1.0, 0.2689414213699951),
        (-5.0, 0.0066928509242848554),
        (5.0, 0.9933071490757152),
        (-16.7, 5.588331080223808e-08),
        (-36.8, 1.0422287905595919e-16),
        (20.0, 0.9999999979388464),
        (36.0, 0.9999999999999998),
        (1e300, 1.0),
        (-100.0, 3.720075976020836e-44),
        (-700.0, 9.85967654375977e-305),
        (-710.5, 0.0),
        (-711.0, 0.0),
        (f64::NEG_INFINITY, 0.0),
    ];
    check64(&table, [<f64 as Real<Baseline>>::sigmoid, <f64 as Real<crate::simd::V4>>::sigmoid]);
    assert!(Real::<Baseline>::sigmoid(f64::NAN).is_nan());
}

#[test]
fn erf_in_double_precision() {
    // Values of mpmath with 40 digits: x, erf(x), erfc(x).
    let table = [
        (0.0, 0.0, 1.0),
        (-0.0, -0.0, 1.0),
        (1e-300, 1.1283791670955126e-300, 1.0),
        (1e-08, 1.1283791670955126e-08, 0.9999999887162083),
        (0.1, 0.1124629160182849, 0.887537083981715),
        (-0.25, -0.27632639016823696, 1.276326390168237),
        (0.46, 0.4846553900016797, 0.5153446099983203),
        (0.4687, 0.49256818249964407, 0.5074318175003559),
        (0.47, 0.4937450508860821, 0.5062549491139179),
        (-0.5, -0.5204998778130465, 1.5204998778130465),
        (0.75, 0.7111556336535151, 0.28884436634648486),
        (-0.8, -0.7421009647076605, 1.7421009647076604),
        (0.86, 0.7761002683235567, 0.22389973167644328),
        (1.0, 0.8427007929497149, 0.15729920705028513),
        (-1.5, -0.9661051464753108, 1.9661051464753108),
        (2.0, 0.9953222650189527, 0.004677734981047266),
        (2.9, 0.9999589021219005, 4.109787809945886e-05),
        (3.999, 0.9999999844552505, 1.554474949099499e-08),
        (4.001, 0.9999999847092178, 1.5290782173248732e-08),
        (-4.5, -0.9999999998033839, 1.999999999803384),
        (5.5, 0.9999999999999927, 7.357847917974398e-15),
        (7.0, 1.0, 4.183825607779414e-23),
        (12.0, 1.0, 1.3562611692059042e-64),
        (26.0, 1.0, 5.663192408856143e-296),
    ];
    for (x, erf, erfc) in table {
        check64(&[(x, erf)], [super::erf::erf64::<Baseline>, super::erf::erf64::<crate::simd::V4>]);
        let b = super::erf::erfc64::<Baseline>(x);
        assert!((b - erfc).abs() <= 2e-15 * erfc.abs(), "erfc({x}) = {b}, not {erfc}");
    }
    assert_eq!(super::erf::erf64::<Baseline>(f64::INFINITY), 1.0);
    assert_eq!(super::erf::erfc64::<Baseline>(f64::NEG_INFINITY), 2.0);
    assert_eq!(super::erf::erfc64::<Baseline>(30.0), 0.0);
    assert!(
        super::erf::erf64::<Baseline>(f64::NAN).is_nan() && super::erf::erfc64::<Baseline>(f64::NAN).is_nan()
    );
}

#[test]
fn exp64_is_within_an_ulp() {
    fn check<I: Isa>() {
        let x = |i: i32| f64::from(i) * 0.000_737_1;
        for x in (-1_010_500..963_000).map(x).chain((-1000..1000).map(|i| f64::from(i) * 1e-9)) {
            let (got, exact) = (Real::<I>::exp(x), f64::exp(x));
            let distance = (got.to_bits() as i64 - exact.to_bits() as i64).abs();
            assert!(distance <= 1, "exp({x}): {got} for {exact}");
        }
        for (x, y) in
            [(f64::INFINITY, f64::INFINITY), (f64::NEG_INFINITY, 0.0), (-0.0, 1.0), (1e300, f64::INFINITY)]
        {
            assert_eq!(Real::<I>::exp(x), y);
        }
        assert_eq!(Real::<I>::exp(709.79), f64::INFINITY);
        assert_eq!(Real::<I>::exp(-746.0), 0.0);
        assert!(Real::<I>::exp(f64::NAN).is_nan());
    }
    check::<Baseline>();
    check::<crate::simd::V4>();
}
