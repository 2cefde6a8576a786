//! What can be drawn: uniform, normal, integers, permutations, Bernoulli, exponential.
//!
//! Each doc comment says how many words of the stream a value takes; all were checked against
//! PyTorch 2.13 on x86-64. Functions of doubles (`log1p`, `sin`, ...) are the C library's, as there.

use crate::dtype::{DType, Element};
use crate::kernels::random::{normal_block_f64, NormalBlocksF32, UniformF32, UniformF64, NORMAL_BLOCK};
use crate::simd::dispatch;

use super::Generator;

/// Words that are drawn at once: they stay in the first-level cache.
const CHUNK: usize = 1024;
/// Ranges of integers from here on take 64 bits per value, to keep the modulo nearly unbiased.
const WIDE_RANGE: u64 = 1 << 28;
/// Permutations from this length on are drawn by another rule, with 64 bits per value.
const LONG_PERMUTATION: usize = u32::MAX as usize / 20;

impl Generator {
    /// Uniform in `[from, to)`: one word per value, of which 24 bits are used. `rand` is `(0, 1)`.
    pub fn uniform_f32(&mut self, out: &mut [f32], from: f64, to: f64) {
        let mut words = [0; CHUNK];
        for out in out.chunks_mut(CHUNK) {
            let words = &mut words[..out.len()];
            self.fill_words(words);
            dispatch(UniformF32 { words, out, from: from as f32, to: to as f32 });
        }
    }

    /// Uniform in `[from, to)`: two words per value, of which 53 bits are used.
    pub fn uniform_f64(&mut self, out: &mut [f64], from: f64, to: f64) {
        let mut words = [0; CHUNK];
        for out in out.chunks_mut(CHUNK / 2) {
            let words = &mut words[..2 * out.len()];
            self.fill_words(words);
            dispatch(UniformF64 { words, out, from, to });
        }
    }

    /// Uniform in `[from, to)` for 16-bit floats: the float32 values of the same words, rounded;
    /// what rounds up to `to` becomes `from`.
    pub fn uniform_half<T: Element>(&mut self, out: &mut [T], from: f64, to: f64) {
        debug_assert!(T::DTYPE.is_half());
        let (first, last) = (T::from_f64(from), T::from_f64(to));
        let mut values = [0f32; CHUNK];
        for out in out.chunks_mut(CHUNK) {
            let values = &mut values[..out.len()];
            self.uniform_f32(values, from, to);
            for (out, &value) in out.iter_mut().zip(&*values) {
                let value = T::from_f64(f64::from(value));
                *out = if value == last { first } else { value };
            }
        }
    }

    /// Normal with `mean` and `std`, for a contiguous tensor.
    ///
    /// From 16 values on: a word per value, Box-Muller on blocks of 16; if the length is no multiple
    /// of 16, the last 16 values are drawn anew. Below that: [`normal_serial`](Self::normal_serial).
    pub fn normal_f32(&mut self, out: &mut [f32], mean: f64, std: f64) {
        let len = out.len();
        if len < NORMAL_BLOCK {
            return self.normal_serial(out, mean, std);
        }
        for data in out.chunks_mut(CHUNK) {
            self.uniform_f32(data, 0.0, 1.0);
            dispatch(NormalBlocksF32 { data, mean: mean as f32, std: std as f32 });
        }
        if !len.is_multiple_of(NORMAL_BLOCK) {
            self.normal_f32(&mut out[len - NORMAL_BLOCK..], mean, std);
        }
    }

    /// As [`normal_f32`](Self::normal_f32) in double precision: two words per value, the C library's
    /// functions.
    pub fn normal_f64(&mut self, out: &mut [f64], mean: f64, std: f64) {
        let len = out.len();
        if len < NORMAL_BLOCK {
            return self.normal_serial(out, mean, std);
        }
        for data in out.chunks_mut(CHUNK) {
            self.uniform_f64(data, 0.0, 1.0);
            for block in data.as_chunks_mut::<NORMAL_BLOCK>().0 {
                normal_block_f64(block, mean, std);
            }
        }
        if !len.is_multiple_of(NORMAL_BLOCK) {
            self.normal_f64(&mut out[len - NORMAL_BLOCK..], mean, std);
        }
    }

    /// As [`normal_f32`](Self::normal_f32), rounded to a 16-bit float. One difference: no words are
    /// drawn for the incomplete block that is drawn anew, so the stream goes on elsewhere.
    pub fn normal_half<T: Element>(&mut self, out: &mut [T], mean: f64, std: f64) {
        debug_assert!(T::DTYPE.is_half());
        let len = out.len();
        if len < NORMAL_BLOCK {
            return self.normal_serial(out, mean, std);
        }
        let mut values = [0f32; CHUNK];
        let whole = len - len % NORMAL_BLOCK;
        for out in out[..whole].chunks_mut(CHUNK) {
            let values = &mut values[..out.len()];
            self.normal_f32(values, mean, std);
            out.iter_mut().zip(&*values).for_each(|(out, &value)| *out = T::from_f64(f64::from(value)));
        }
        if whole < len {
            self.normal_half(&mut out[len - NORMAL_BLOCK..], mean, std);
        }
    }

    /// Normal numbers one by one, in double precision whatever the dtype: what PyTorch does for fewer
    /// than 16 values and for tensors that are not contiguous (in the order of their storage).
    ///
    /// Four words give two values; the second waits in the generator, across calls and dtypes.
    pub fn normal_serial<T: Element>(&mut self, out: &mut [T], mean: f64, std: f64) {
        for out in out {
            let value = self.standard_normal();
            *out = T::from_f64(value.mul_add(std, mean));
        }
    }

    fn standard_normal(&mut self) -> f64 {
        if let Some(value) = self.next_normal.take() {
            return value;
        }
        let (u1, u2) = (self.unit(), self.unit());
        let radius = (-2.0 * (-u2).ln_1p()).sqrt();
        let (sin, cos) = (std::f64::consts::TAU * u1).sin_cos();
        self.next_normal = Some(radius * sin);
        radius * cos
    }

    /// Uniform in `[0, 1)` with 53 bits.
    fn unit(&mut self) -> f64 {
        (self.random64() & ((1 << 53) - 1)) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// The first class whose sum `up_to` it is not below a number in `[0, 1)`: two words per value.
    pub fn classes<T: Element>(&mut self, up_to: &[T], out: &mut [i64]) {
        for out in out {
            let unit = self.unit();
            *out = up_to.partition_point(|sum| sum.to_f64() < unit) as i64;
        }
    }

    /// Integers in `low..high`: a word per value modulo the range; two words from a range of 2^28 on.
    ///
    /// `high` may wrap: `i64::MIN` stands for `i64::MAX + 1`, and from `i64::MIN` on these are all integers.
    pub fn randint<T: Element>(&mut self, out: &mut [T], low: i64, high: i64) {
        let range = high.wrapping_sub(low) as u64;
        if range == 0 {
            return out.iter_mut().for_each(|out| *out = T::from_i64(self.random64() as i64));
        }
        if range >= WIDE_RANGE {
            for out in out {
                *out = T::from_i64((self.random64() % range).wrapping_add(low as u64) as i64);
            }
            return;
        }
        let mut words = [0; CHUNK];
        for out in out.chunks_mut(CHUNK) {
            let words = &mut words[..out.len()];
            self.fill_words(words);
            for (out, &word) in out.iter_mut().zip(&*words) {
                *out = T::from_i64(i64::from(word % range as u32).wrapping_add(low));
            }
        }
    }

    /// A permutation of `0..out.len()`: a word per element but the last.
    pub fn randperm(&mut self, out: &mut [i64]) {
        let len = out.len();
        if len >= LONG_PERMUTATION {
            return self.randperm_long(out);
        }
        (0..).zip(out.iter_mut()).for_each(|(i, out)| *out = i);
        let mut words = [0; CHUNK];
        let mut start = 0;
        while start + 1 < len {
            let words = &mut words[..CHUNK.min(len - 1 - start)];
            self.fill_words(words);
            for (i, &word) in (start..).zip(&*words) {
                out.swap(i, i + (word % (len - i) as u32) as usize);
            }
            start += words.len();
        }
    }

    /// The rule for very long permutations: two words per element, each inserted among those before.
    fn randperm_long(&mut self, out: &mut [i64]) {
        for i in 0..out.len() {
            let at = (self.random64() % (i as u64 + 1)) as usize;
            out[i] = i as i64;
            out.swap(i, at);
        }
    }

    /// 1 with probability `p`, else 0: two words per value.
    pub fn bernoulli<T: Element>(&mut self, out: &mut [T], p: f64) {
        self.choose(out, p, T::from_i64(1));
    }

    /// 1 with the probability at the same place, else 0: one word per value. PyTorch converts 16-bit
    /// probabilities to float32, too.
    pub fn bernoulli_with_f32<T: Element>(&mut self, out: &mut [T], p: &[f32]) {
        debug_assert_eq!(out.len(), p.len());
        let mut units = [0f32; CHUNK];
        for (out, p) in out.chunks_mut(CHUNK).zip(p.chunks(CHUNK)) {
            let units = &mut units[..out.len()];
            self.uniform_f32(units, 0.0, 1.0);
            for ((out, unit), p) in out.iter_mut().zip(&*units).zip(p) {
                *out = T::from_i64(i64::from(unit < p));
            }
        }
    }

    /// As [`bernoulli_with_f32`](Self::bernoulli_with_f32) with doubles: two words per value.
    pub fn bernoulli_with_f64<T: Element>(&mut self, out: &mut [T], p: &[f64]) {
        debug_assert_eq!(out.len(), p.len());
        let mut units = [0f64; CHUNK];
        for (out, p) in out.chunks_mut(CHUNK).zip(p.chunks(CHUNK)) {
            let units = &mut units[..out.len()];
            self.uniform_f64(units, 0.0, 1.0);
            for ((out, unit), p) in out.iter_mut().zip(&*units).zip(p) {
                *out = T::from_i64(i64::from(unit < p));
            }
        }
    }

    /// What dropout multiplies its input by: 0 with probability `p`, else `1 / (1 - p)`.
    ///
    /// Two words per value, as [`bernoulli`](Self::bernoulli) of `1 - p`; none when `p` is 0 or 1.
    pub fn dropout_mask<T: Element>(&mut self, out: &mut [T], p: f64) {
        let keep = 1.0 - p;
        // PyTorch divides a mask of ones, in the type that it computes in.
        let scale = if T::DTYPE == DType::F64 { 1.0 / keep } else { f64::from(1.0 / keep as f32) };
        if p == 0.0 || p == 1.0 {
            out.fill(T::from_i64(i64::from(p == 0.0)));
        } else {
            self.choose(out, keep, T::from_f64(scale));
        }
    }

    /// `value` with probability `p`, else 0.
    fn choose<T: Element>(&mut self, out: &mut [T], p: f64, value: T) {
        let zero = T::from_i64(0);
        let mut units = [0f64; CHUNK];
        for out in out.chunks_mut(CHUNK) {
            let units = &mut units[..out.len()];
            self.uniform_f64(units, 0.0, 1.0);
            out.iter_mut().zip(&*units).for_each(|(out, &unit)| *out = if unit < p { value } else { zero });
        }
    }

    /// Exponential with rate `lambda`, in double precision whatever the dtype: two words per value.
    pub fn exponential<T: Element>(&mut self, out: &mut [T], lambda: f64) {
        let factor = -1.0 / lambda;
        let mut units = [0f64; CHUNK];
        for out in out.chunks_mut(CHUNK) {
            let units = &mut units[..out.len()];
            self.uniform_f64(units, 0.0, 1.0);
            out.iter_mut().zip(&*units).for_each(|(out, &u)| *out = T::from_f64(factor * (-u).ln_1p()));
        }
    }
}
