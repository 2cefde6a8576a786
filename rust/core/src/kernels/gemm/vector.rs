//! The few vector operations that the matrix kernels are written in, per instruction set.

use super::Float;
use crate::simd::{Baseline, Isa, Kernel, Level};

/// A vector register of `LANES` elements.
///
/// Every method is `unsafe` for two reasons: the instruction set must be there (kernels are inlined
/// into functions compiled for it), and pointers must be valid for the lanes that are touched.
pub trait Vector: Copy {
    type Elem: Copy;
    const LANES: usize;
    /// Rows of the register tile; it is `MR` x `2 * LANES`.
    const MR: usize;
    unsafe fn zero() -> Self;
    unsafe fn splat(value: Self::Elem) -> Self;
    unsafe fn load(ptr: *const Self::Elem) -> Self;
    /// The first `len` lanes, the others 0. Touches no memory beyond them.
    unsafe fn load_part(ptr: *const Self::Elem, len: usize) -> Self;
    unsafe fn store(self, ptr: *mut Self::Elem);
    /// Stores the first `len` lanes.
    unsafe fn store_part(self, ptr: *mut Self::Elem, len: usize);
    /// `self * b + c`
    unsafe fn fma(self, b: Self, c: Self) -> Self;
    unsafe fn add(self, b: Self) -> Self;
    /// Sum of the lanes: halves are added to each other until one is left.
    unsafe fn sum(self) -> Self::Elem;
    /// Asks for the cache line at `ptr`, which need not be valid.
    unsafe fn prefetch(ptr: *const Self::Elem);
}

/// A kernel that is written for vectors of any width.
pub trait Vectored: Sized {
    /// What it computes in.
    type Elem: Float;
    /// What it returns.
    type Output;
    /// The loop. Mark it `#[inline(always)]`.
    ///
    /// # Safety
    /// The instruction set of `V` is there.
    unsafe fn run<V: Vector<Elem = Self::Elem>>(self) -> Self::Output;
}

/// With the widest vectors that the instruction set has.
impl<K: Vectored> Kernel for K {
    type Output = <K as Vectored>::Output;

    #[inline(always)]
    fn run<I: Isa>(self) -> <K as Vectored>::Output {
        // SAFETY: whoever runs a kernel for `I` has checked that the machine has it.
        unsafe {
            match I::LEVEL {
                Level::V4 => Vectored::run::<<K::Elem as Float>::V4>(self),
                Level::V3 => Vectored::run::<<K::Elem as Float>::V3>(self),
                Level::Baseline => Vectored::run::<<K::Elem as Float>::Base>(self),
            }
        }
    }
}

/// A plain array, which the compiler puts into the baseline's registers.
#[derive(Clone, Copy, Debug)]
#[repr(align(16))]
pub struct Lanes<T, const L: usize>([T; L]);

macro_rules! lanes {
    ($type:ty, $lanes:literal, $fma:ident) => {
        impl Vector for Lanes<$type, $lanes> {
            type Elem = $type;
            const LANES: usize = $lanes;
            const MR: usize = 6;
            #[inline(always)]
            unsafe fn zero() -> Self {
                Self([0.0; $lanes])
            }
            #[inline(always)]
            unsafe fn splat(value: $type) -> Self {
                Self([value; $lanes])
            }
            #[inline(always)]
            unsafe fn load(ptr: *const $type) -> Self {
                // SAFETY: the caller's pointer is valid for all lanes.
                Self(unsafe { ptr.cast::<[$type; $lanes]>().read_unaligned() })
            }
            #[inline(always)]
            unsafe fn load_part(ptr: *const $type, len: usize) -> Self {
                let mut lanes = [0.0; $lanes];
                for (lane, value) in lanes.iter_mut().enumerate().take(len) {
                    // SAFETY: the caller's pointer is valid for `len` lanes.
                    *value = unsafe { *ptr.add(lane) };
                }
                Self(lanes)
            }
            #[inline(always)]
            unsafe fn store(self, ptr: *mut $type) {
                // SAFETY: the caller's pointer is valid for all lanes.
                unsafe { ptr.cast::<[$type; $lanes]>().write_unaligned(self.0) }
            }
            #[inline(always)]
            unsafe fn store_part(self, ptr: *mut $type, len: usize) {
                for (lane, value) in self.0.iter().enumerate().take(len) {
                    // SAFETY: the caller's pointer is valid for `len` lanes.
                    unsafe { *ptr.add(lane) = *value };
                }
            }
            #[inline(always)]
            unsafe fn fma(self, b: Self, c: Self) -> Self {
                let mut out = c;
                for lane in 0..$lanes {
                    out.0[lane] = Baseline::$fma(self.0[lane], b.0[lane], c.0[lane]);
                }
                out
            }
            #[inline(always)]
            unsafe fn add(self, b: Self) -> Self {
                let mut out = b;
                for lane in 0..$lanes {
                    out.0[lane] += self.0[lane];
                }
                out
            }
            #[inline(always)]
            unsafe fn sum(self) -> $type {
                let mut lanes = self.0;
                let mut half = $lanes / 2;
                while half > 0 {
                    for lane in 0..half {
                        lanes[lane] += lanes[lane + half];
                    }
                    half /= 2;
                }
                lanes[0]
            }
            #[inline(always)]
            unsafe fn prefetch(_: *const $type) {}
        }
    };
}
lanes!(f32, 4, fma32);
lanes!(f64, 2, fma64);

#[cfg(target_arch = "x86_64")]
pub mod x86 {
    use std::arch::x86_64::*;

    use super::Vector;

    /// `MASK[8 - n..]` starts with `n` set 32-bit lanes, `MASK64[4 - n..]` with `n` set 64-bit lanes.
    static MASK: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
    static MASK64: [i64; 8] = [-1, -1, -1, -1, 0, 0, 0, 0];

    macro_rules! vector {
        ($name:ident, $register:ty, $elem:ty, $lanes:literal, $mr:literal, $set1:ident, $load:ident,
         $store:ident, $fma:ident, $add:ident, |$n:ident| $mask:expr, $maskload:expr, $maskstore:expr,
         |$v:ident| $sum:expr) => {
            #[derive(Clone, Copy, Debug)]
            pub struct $name($register);

            // SAFETY (all blocks): the instruction set and the pointers are the caller's duty.
            #[allow(clippy::undocumented_unsafe_blocks)]
            impl Vector for $name {
                type Elem = $elem;
                const LANES: usize = $lanes;
                const MR: usize = $mr;
                #[inline(always)]
                unsafe fn zero() -> Self {
                    unsafe { Self($set1(0.0)) }
                }
                #[inline(always)]
                unsafe fn splat(value: $elem) -> Self {
                    unsafe { Self($set1(value)) }
                }
                #[inline(always)]
                unsafe fn load(ptr: *const $elem) -> Self {
                    unsafe { Self($load(ptr)) }
                }
                #[inline(always)]
                unsafe fn load_part(ptr: *const $elem, $n: usize) -> Self {
                    unsafe { Self($maskload(ptr, $mask)) }
                }
                #[inline(always)]
                unsafe fn store(self, ptr: *mut $elem) {
                    unsafe { $store(ptr, self.0) }
                }
                #[inline(always)]
                unsafe fn store_part(self, ptr: *mut $elem, $n: usize) {
                    unsafe { $maskstore(ptr, $mask, self.0) }
                }
                #[inline(always)]
                unsafe fn fma(self, b: Self, c: Self) -> Self {
                    unsafe { Self($fma(self.0, b.0, c.0)) }
                }
                #[inline(always)]
                unsafe fn add(self, b: Self) -> Self {
                    unsafe { Self($add(self.0, b.0)) }
                }
                #[inline(always)]
                unsafe fn sum(self) -> $elem {
                    let $v = self.0;
                    unsafe { $sum }
                }
                #[inline(always)]
                unsafe fn prefetch(ptr: *const $elem) {
                    unsafe { _mm_prefetch::<_MM_HINT_T0>(ptr.cast()) }
                }
            }
        };
    }

    vector!(
        Avx2F32,
        __m256,
        f32,
        8,
        6,
        _mm256_set1_ps,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_fmadd_ps,
        _mm256_add_ps,
        |n| _mm256_loadu_si256(MASK.as_ptr().add(8 - n).cast()),
        _mm256_maskload_ps,
        _mm256_maskstore_ps,
        |v| sum8(v)
    );
    vector!(
        Avx2F64,
        __m256d,
        f64,
        4,
        6,
        _mm256_set1_pd,
        _mm256_loadu_pd,
        _mm256_storeu_pd,
        _mm256_fmadd_pd,
        _mm256_add_pd,
        |n| _mm256_loadu_si256(MASK64.as_ptr().add(4 - n).cast()),
        _mm256_maskload_pd,
        _mm256_maskstore_pd,
        |v| sum4(v)
    );
    vector!(
        Avx512F32,
        __m512,
        f32,
        16,
        12,
        _mm512_set1_ps,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_fmadd_ps,
        _mm512_add_ps,
        |n| ((1u32 << n) - 1) as __mmask16,
        |ptr, mask| _mm512_maskz_loadu_ps(mask, ptr),
        _mm512_mask_storeu_ps,
        |v| {
            let high = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(v)));
            sum8(_mm256_add_ps(_mm512_castps512_ps256(v), high))
        }
    );
    vector!(
        Avx512F64,
        __m512d,
        f64,
        8,
        12,
        _mm512_set1_pd,
        _mm512_loadu_pd,
        _mm512_storeu_pd,
        _mm512_fmadd_pd,
        _mm512_add_pd,
        |n| ((1u32 << n) - 1) as __mmask8,
        |ptr, mask| _mm512_maskz_loadu_pd(mask, ptr),
        _mm512_mask_storeu_pd,
        |v| sum4(_mm256_add_pd(_mm512_castpd512_pd256(v), _mm512_extractf64x4_pd::<1>(v)))
    );

    #[inline(always)]
    unsafe fn sum8(v: __m256) -> f32 {
        // SAFETY: called from kernels compiled for AVX2 or more.
        unsafe {
            let four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
    }

    #[inline(always)]
    unsafe fn sum4(v: __m256d) -> f64 {
        // SAFETY: called from kernels compiled for AVX2 or more.
        unsafe {
            let two = _mm_add_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd::<1>(v));
            _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)))
        }
    }
}
