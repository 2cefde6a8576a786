//! The choice of the instruction set, made once at run time.
//!
//! A kernel is a value with an `#[inline(always)] fn run<I: Isa>(self)`. [`dispatch`] inlines it into
//! functions compiled for AVX-512, AVX2 and the baseline, and calls the best that the machine has.
//! Kernels are plain loops that the compiler vectorises; `I` tells them whether fused
//! multiply-add is an instruction (in the baseline it would be a slow library call).

use std::fmt;
use std::sync::OnceLock;

/// An instruction set that kernels are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What every machine of the target architecture has.
    Baseline,
    /// AVX2 and FMA (x86-64-v3).
    V3,
    /// AVX-512 F, BW, DQ, VL, CD (x86-64-v4).
    V4,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Level::Baseline => "baseline",
            Level::V3 => "v3",
            Level::V4 => "v4",
        })
    }
}

/// What a kernel body may ask of the instruction set that it is compiled for.
pub trait Isa: Copy + Send + Sync + 'static {
    /// Its name, for kernels that have a path of their own.
    const LEVEL: Level;
    /// `a * b + c`, fused where that is an instruction.
    fn fma32(a: f32, b: f32, c: f32) -> f32;
    /// `a * b + c`, fused where that is an instruction.
    fn fma64(a: f64, b: f64, c: f64) -> f64;
}

/// The baseline instruction set.
#[derive(Debug, Clone, Copy)]
pub struct Baseline;
/// AVX2 and FMA.
#[derive(Debug, Clone, Copy)]
pub struct V3;
/// AVX-512.
#[derive(Debug, Clone, Copy)]
pub struct V4;

impl Isa for Baseline {
    const LEVEL: Level = Level::Baseline;
    #[inline(always)]
    fn fma32(a: f32, b: f32, c: f32) -> f32 {
        // aarch64 fuses in its baseline.
        if cfg!(target_arch = "aarch64") {
            a.mul_add(b, c)
        } else {
            a * b + c
        }
    }
    #[inline(always)]
    fn fma64(a: f64, b: f64, c: f64) -> f64 {
        if cfg!(target_arch = "aarch64") {
            a.mul_add(b, c)
        } else {
            a * b + c
        }
    }
}

macro_rules! fused {
    ($isa:ident) => {
        impl Isa for $isa {
            const LEVEL: Level = Level::$isa;
            #[inline(always)]
            fn fma32(a: f32, b: f32, c: f32) -> f32 {
                a.mul_add(b, c)
            }
            #[inline(always)]
            fn fma64(a: f64, b: f64, c: f64) -> f64 {
                a.mul_add(b, c)
            }
        }
    };
}
fused!(V3);
fused!(V4);

/// A loop that is compiled once per instruction set. Mark `run` `#[inline(always)]`.
///
/// Write `for` loops where the body is long: the compiler may leave the closure of a `for_each` or a `map` on its own,
/// and does not compile it for the instruction set then (powers of two tensors once took 26 times as long).
pub trait Kernel {
    /// Whether AVX-512 is worth a copy of its own: it is for arithmetic, not for loops that wait for
    /// memory (`add` of 64 Ki float32: 7.8 microseconds with it, 7.0 without).
    const WIDE: bool = true;
    /// What it returns.
    type Output;
    /// The loop.
    fn run<I: Isa>(self) -> Self::Output;
}

/// Runs `kernel` compiled for the best instruction set of this machine.
#[inline]
pub fn dispatch<K: Kernel>(kernel: K) -> K::Output {
    match level() {
        // SAFETY: `level` returns V4 only when the CPU reports these features.
        #[cfg(target_arch = "x86_64")]
        Level::V4 if K::WIDE => unsafe { run_v4(kernel) },
        // SAFETY: `level` returns V3 or V4 only when the CPU reports these features.
        #[cfg(target_arch = "x86_64")]
        Level::V3 | Level::V4 => unsafe { run_v3(kernel) },
        _ => kernel.run::<Baseline>(),
    }
}

/// As [`dispatch`], but with vectors of 32 bytes at most: for copies that are read at once by kernels that are not wide,
/// for the processor does not hand over halves of what is still on its way to the cache.
#[inline]
pub(crate) fn dispatch_short<K: Kernel>(kernel: K) -> K::Output {
    match level() {
        // SAFETY: as in `dispatch`.
        #[cfg(target_arch = "x86_64")]
        Level::V4 => unsafe { run_v3(kernel) },
        _ => dispatch(kernel),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512cd,avx2,fma,bmi1,bmi2,f16c,lzcnt,popcnt")]
fn run_v4<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<V4>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,bmi1,bmi2,f16c,lzcnt,popcnt")]
fn run_v3<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<V3>()
}

/// Asks for the line of cache at `address`, which need not be valid.
#[inline(always)]
pub(crate) fn prefetch(address: *const u8) {
    // SAFETY: a hint, which never faults; the instruction is in the baseline.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// The instruction set in use: the best that the machine has, or what `FIRESTEEL_ISA`
/// (`baseline`, `v3`, `v4`) names if the machine has that.
#[inline]
pub fn level() -> Level {
    static LEVEL: OnceLock<Level> = OnceLock::new();
    *LEVEL.get_or_init(|| {
        let best = best_level();
        match std::env::var("FIRESTEEL_ISA").as_deref() {
            Ok("baseline") => Level::Baseline,
            Ok("v3") => best.min(Level::V3),
            _ => best,
        }
    })
}

/// Whether products of bfloat16 have an instruction of their own: AVX512-BF16, on top of [`Level::V4`].
/// `FIRESTEEL_ISA=v4` leaves it unused.
#[inline]
pub fn has_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        static HAS: OnceLock<bool> = OnceLock::new();
        *HAS.get_or_init(|| {
            let is_refused = std::env::var("FIRESTEEL_ISA").as_deref() == Ok("v4");
            level() == Level::V4 && !is_refused && std::arch::is_x86_feature_detected!("avx512bf16")
        })
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
}

#[cfg(target_arch = "x86_64")]
fn best_level() -> Level {
    macro_rules! has {
        ($($feature:tt),+) => { $(std::arch::is_x86_feature_detected!($feature))&&+ };
    }
    let v3 = has!("avx2", "fma", "bmi1", "bmi2", "f16c", "lzcnt", "popcnt");
    if v3 && has!("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd") {
        Level::V4
    } else if v3 {
        Level::V3
    } else {
        Level::Baseline
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn best_level() -> Level {
    Level::Baseline
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Dot<'a>(&'a [f32], &'a [f32]);
    impl Kernel for Dot<'_> {
        type Output = f32;
        #[inline(always)]
        fn run<I: Isa>(self) -> f32 {
            self.0.iter().zip(self.1).fold(0.0, |sum, (a, b)| I::fma32(*a, *b, sum))
        }
    }

    #[test]
    fn every_level_runs_the_same_body() {
        assert_eq!(dispatch(Dot(&[1.0, 2.0], &[3.0, 4.0])), 11.0);
        assert_eq!(Dot(&[1.0, 2.0], &[3.0, 4.0]).run::<Baseline>(), 11.0);
    }
}
