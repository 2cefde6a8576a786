//! Loops behind the random numbers: the mt19937 engine, words to floats, Box-Muller.
//!
//! Every operation that rounds is spelled out, fused multiply-adds as `mul_add`, so that all
//! instruction sets give the same bits: those of PyTorch.

use crate::simd::{Isa, Kernel};

/// Words of the engine's state.
pub const STATE_WORDS: usize = 624;
/// Distance of the words that a step combines.
const SHIFT: usize = 397;

/// Values that share one Box-Muller step: eight radii, then eight angles.
pub const NORMAL_BLOCK: usize = 16;

/// Replaces the state by the next 624 words.
struct Twist<'a>(&'a mut [u32; STATE_WORDS]);

#[inline(always)]
fn mix(high: u32, low: u32) -> u32 {
    let joined = (high & 0x8000_0000) | (low & 0x7fff_ffff);
    (joined >> 1) ^ (0u32.wrapping_sub(low & 1) & 0x9908_b0df)
}

impl Kernel for Twist<'_> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let s = self.0;
        // Three runs, none of which reads what it writes within a vector's length.
        for i in 0..STATE_WORDS - SHIFT {
            s[i] = s[i + SHIFT] ^ mix(s[i], s[i + 1]);
        }
        for i in STATE_WORDS - SHIFT..STATE_WORDS - 1 {
            s[i] = s[i + SHIFT - STATE_WORDS] ^ mix(s[i], s[i + 1]);
        }
        s[STATE_WORDS - 1] = s[SHIFT - 1] ^ mix(s[STATE_WORDS - 1], s[0]);
    }
}

/// Replaces the state by the next 624 words.
pub fn twist(state: &mut [u32; STATE_WORDS]) {
    crate::simd::dispatch(Twist(state));
}

/// The engine's output for a word of its state.
#[inline(always)]
pub fn temper(word: u32) -> u32 {
    let mut y = word;
    y ^= y >> 11;
    y ^= (y << 7) & 0x9d2c_5680;
    y ^= (y << 15) & 0xefc6_0000;
    y ^ (y >> 18)
}

/// The engine's output for several words of its state.
#[derive(Debug)]
pub struct Temper<'a> {
    /// Words of the state.
    pub words: &'a [u32],
    /// As many results.
    pub out: &'a mut [u32],
}

impl Kernel for Temper<'_> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        for (out, &word) in self.out.iter_mut().zip(self.words) {
            *out = temper(word);
        }
    }
}

/// `from + (to - from) * u` with `u` from the low 24 bits of each word; `to` itself becomes `from`.
#[derive(Debug)]
pub struct UniformF32<'a> {
    /// One word per value.
    pub words: &'a [u32],
    /// Results.
    pub out: &'a mut [f32],
    /// Lower bound, inclusive.
    pub from: f32,
    /// Upper bound, exclusive.
    pub to: f32,
}

impl Kernel for UniformF32<'_> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let (from, to, width) = (self.from, self.to, self.to - self.from);
        let unit = |word: u32| (word & 0x00ff_ffff) as i32 as f32 * (1.0 / (1u32 << 24) as f32);
        if from == 0.0 && to == 1.0 {
            // Fusing with 0 and 1 changes nothing, and the baseline would call a library for it.
            self.out.iter_mut().zip(self.words).for_each(|(out, &word)| *out = unit(word));
            return;
        }
        for (out, &word) in self.out.iter_mut().zip(self.words) {
            let value = unit(word).mul_add(width, from);
            *out = if value == to { from } else { value };
        }
    }
}

/// As [`UniformF32`] with 53 bits from two words per value, the upper one first.
#[derive(Debug)]
pub struct UniformF64<'a> {
    /// Two words per value.
    pub words: &'a [u32],
    /// Results.
    pub out: &'a mut [f64],
    /// Lower bound, inclusive.
    pub from: f64,
    /// Upper bound, exclusive.
    pub to: f64,
}

/// 53 bits as a double in `[0, 1)`. Both halves convert as 32-bit integers, which AVX2 can.
#[inline(always)]
fn unit_f64(high: u32, low: u32) -> f64 {
    let high = (high & 0x001f_ffff) as i32 as f64;
    let low = (low ^ 0x8000_0000) as i32 as f64 + 2_147_483_648.0;
    (high * 4_294_967_296.0 + low) * (1.0 / (1u64 << 53) as f64)
}

impl Kernel for UniformF64<'_> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let (from, to, width) = (self.from, self.to, self.to - self.from);
        let pairs = self.words.as_chunks::<2>().0;
        if from == 0.0 && to == 1.0 {
            self.out.iter_mut().zip(pairs).for_each(|(out, &[high, low])| *out = unit_f64(high, low));
            return;
        }
        for (out, &[high, low]) in self.out.iter_mut().zip(pairs) {
            let value = unit_f64(high, low).mul_add(width, from);
            *out = if value == to { from } else { value };
        }
    }
}

/// Turns uniform numbers in `[0, 1)` into normal ones, in place, block by block.
///
/// A rest of fewer than 16 values is left as it is.
#[derive(Debug)]
pub struct NormalBlocksF32<'a> {
    /// Uniform numbers in, normal numbers out.
    pub data: &'a mut [f32],
    /// Mean of the results.
    pub mean: f32,
    /// Standard deviation of the results.
    pub std: f32,
}

/// Pairs that are computed side by side.
const LANES: usize = 64;

impl Kernel for NormalBlocksF32<'_> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let half = NORMAL_BLOCK / 2;
        let (mut first, mut second) = ([0f32; LANES], [0f32; LANES]);
        for group in self.data.chunks_mut(2 * LANES) {
            let blocks = group.as_chunks_mut::<NORMAL_BLOCK>().0;
            for (i, block) in blocks.iter().enumerate() {
                first[i * half..][..half].copy_from_slice(&block[..half]);
                second[i * half..][..half].copy_from_slice(&block[half..]);
            }
            for (a, b) in first.iter_mut().zip(&mut second) {
                let radius = (-2.0 * log_f32(1.0 - *a)).sqrt();
                let (sin, cos) = sin_cos_f32(std::f32::consts::TAU * *b);
                *a = (radius * cos).mul_add(self.std, self.mean);
                *b = (radius * sin).mul_add(self.std, self.mean);
            }
            for (i, block) in blocks.iter_mut().enumerate() {
                block[..half].copy_from_slice(&first[i * half..][..half]);
                block[half..].copy_from_slice(&second[i * half..][..half]);
            }
        }
    }
}

/// Natural logarithm for `2^-24 <= x <= 1`: Cephes' polynomial in the order that gives PyTorch's bits.
#[inline(always)]
#[expect(clippy::excessive_precision, reason = "the constants as Cephes prints them")]
fn log_f32(x: f32) -> f32 {
    const POLYNOMIAL: [f32; 8] = [
        -1.1514610310e-1,
        1.1676998740e-1,
        -1.2420140846e-1,
        1.4249322787e-1,
        -1.6668057665e-1,
        2.0000714765e-1,
        -2.4999993993e-1,
        3.3333331174e-1,
    ];
    let bits = x.to_bits();
    let exponent = ((bits >> 23) as i32 - 126) as f32;
    let mantissa = f32::from_bits((bits & 0x007f_ffff) | 0x3f00_0000);
    let low = mantissa < std::f32::consts::FRAC_1_SQRT_2;
    let e = exponent - if low { 1.0 } else { 0.0 };
    let m = (mantissa - 1.0) + if low { mantissa } else { 0.0 };
    let z = m * m;
    let mut y = 7.0376836292e-2f32;
    for c in POLYNOMIAL {
        y = y.mul_add(m, c);
    }
    y *= m;
    y = y.mul_add(z, e * -2.121_944_4e-4);
    y = (-z).mul_add(0.5, y);
    e.mul_add(0.693_359_375, m + y)
}

/// Sine and cosine for `0 <= x <= 2 pi`: Cephes' polynomials in the order that gives PyTorch's bits.
#[inline(always)]
#[expect(clippy::excessive_precision, reason = "the constants as Cephes prints them")]
fn sin_cos_f32(x: f32) -> (f32, f32) {
    // SAFETY: 0 <= x <= 2 pi, so the quotient by pi/4 is at most 9 and fits an integer.
    let octant = unsafe { (x * 1.27323954473516f32).to_int_unchecked::<i32>() };
    let octant = (octant + 1) & !1;
    let y = octant as f32;
    let sin_sign = ((octant & 4) << 29) as u32;
    let cos_sign = ((!(octant - 2) & 4) << 29) as u32;
    let straight = octant & 2 == 0;
    let x = y.mul_add(-0.78515625, x);
    let x = y.mul_add(-2.4187564849853515625e-4, x);
    let x = y.mul_add(-3.77489497744594108e-8, x);
    let z = x * x;
    let c = 2.443315711809948e-5f32.mul_add(z, -1.388731625493765e-3);
    let c = c.mul_add(z, 4.166664568298827e-2) * z;
    let c = c.mul_add(z, -(z * 0.5)) + 1.0;
    let s = (-1.9515295891e-4f32).mul_add(z, 8.3321608736e-3);
    let s = s.mul_add(z, -1.6666654611e-1) * z;
    let s = s.mul_add(x, x);
    let (sin, cos) = if straight { (s, c) } else { (c, s) };
    (f32::from_bits(sin.to_bits() ^ sin_sign), f32::from_bits(cos.to_bits() ^ cos_sign))
}

/// Box-Muller on one block of doubles, in place, with the C library's functions as PyTorch does.
pub fn normal_block_f64(block: &mut [f64; NORMAL_BLOCK], mean: f64, std: f64) {
    for j in 0..NORMAL_BLOCK / 2 {
        let radius = (-2.0 * (1.0 - block[j]).ln()).sqrt();
        let (sin, cos) = (std::f64::consts::TAU * block[j + 8]).sin_cos();
        block[j] = (radius * cos).mul_add(std, mean);
        block[j + 8] = (radius * sin).mul_add(std, mean);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{dispatch, Baseline};

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        let mut state = [0u32; STATE_WORDS];
        (0..).zip(&mut state).for_each(|(i, word): (u32, _)| *word = i.wrapping_mul(0x9e37_79b9) ^ (i << 7));
        let mut other = state;
        for _ in 0..3 {
            twist(&mut state);
            Twist(&mut other).run::<Baseline>();
            assert_eq!(state, other);
        }
        let (mut a, mut b) = ([0f32; STATE_WORDS], [0f32; STATE_WORDS]);
        dispatch(UniformF32 { words: &state, out: &mut a, from: -0.3, to: 1.9 });
        UniformF32 { words: &state, out: &mut b, from: -0.3, to: 1.9 }.run::<Baseline>();
        assert_eq!(a.map(f32::to_bits), b.map(f32::to_bits));
        let (mut c, mut d) = ([0f64; 312], [0f64; 312]);
        dispatch(UniformF64 { words: &state, out: &mut c, from: -0.3, to: 1.9 });
        UniformF64 { words: &state, out: &mut d, from: -0.3, to: 1.9 }.run::<Baseline>();
        assert_eq!(c.map(f64::to_bits), d.map(f64::to_bits));
        dispatch(UniformF32 { words: &state, out: &mut a, from: 0.0, to: 1.0 });
        b = a;
        dispatch(NormalBlocksF32 { data: &mut a, mean: 0.7, std: 1.9 });
        NormalBlocksF32 { data: &mut b, mean: 0.7, std: 1.9 }.run::<Baseline>();
        assert_eq!(a.map(f32::to_bits), b.map(f32::to_bits));
    }
}
