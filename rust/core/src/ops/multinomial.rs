//! Draws of classes by their weights, in PyTorch's order of random numbers.

use super::promote::compute_dtype;
use crate::array::Array;
use crate::random::Generator;
use crate::tensor::Tensor;
use crate::{dispatch_float, ensure, DType, Result};

/// More classes than float32 tells apart.
const MOST_CLASSES: usize = 1 << 24;

impl Tensor {
    /// `samples` classes for each row of weights (or the one row), as int64; without `replacement` each at most once.
    pub fn multinomial(&self, samples: i64, replacement: bool, generator: &mut Generator) -> Result<Tensor> {
        let op = "multinomial";
        let shape = self.shape();
        ensure!(
            shape.len() == 1 || shape.len() == 2,
            Shape,
            "{op}: prob_dist must be 1 or 2 dim, but got shape {shape:?}; reshape it to rows of weights"
        );
        ensure!(
            self.dtype().is_float(),
            DType,
            "{op}: only supports floating-point dtypes for input, got: {}; convert with .float()",
            self.dtype().scalar_name()
        );
        let classes = shape[shape.len() - 1];
        ensure!(
            samples > 0,
            Value,
            "{op}: cannot sample n_sample <= 0 samples, got {samples}; draw at least 1"
        );
        let samples = samples as usize;
        ensure!(
            replacement || samples <= classes,
            Value,
            "{op}: cannot sample n_sample > prob_dist.size(-1) samples without replacement: {samples} of {classes} \
             classes; draw fewer, or pass replacement=True"
        );
        ensure!(
            classes <= MOST_CLASSES,
            Value,
            "{op}: number of categories cannot exceed 2^24, got {classes}; draw in two steps"
        );
        let weights = Tensor::constant(self.array().clone());
        if self.numel() == 0 {
            let mut shape = crate::layout::Dims::from_slice(shape);
            if let Some(last) = shape.last_mut() {
                *last = samples;
            }
            return Tensor::zeros(&shape, DType::I64);
        }
        if replacement && samples > 1 {
            return weights.drawn_again(samples, generator);
        }
        weights.check_weights()?;
        // The first of so many clocks that ring at exponential times; the next ones are those after it.
        let clocks = weights.div(&weights.exponential_like(generator)?)?;
        if samples == 1 {
            return clocks.argmax(Some(-1), true);
        }
        Ok(clocks.topk(samples, -1, true)?.1)
    }

    fn check_weights(&self) -> Result<()> {
        let (low, high) = (self.amin(&[], false)?, self.amax(&[], false)?);
        ensure!(
            low.array().item_f64()? >= 0.0 && high.array().item_f64()? < f64::INFINITY,
            Value,
            "multinomial: probability tensor contains either `inf`, `nan` or element < 0; weights are finite and not \
             negative"
        );
        let sums = self.sum(&[-1], false)?;
        ensure!(
            sums.amin(&[], false)?.array().item_f64()? != 0.0,
            Value,
            "multinomial: invalid multinomial distribution (sum of probabilities <= 0); give each row a weight above 0"
        );
        Ok(())
    }

    /// Draws with replacement: a number in `[0, 1)` each, looked up among the sums of weights up to each class.
    fn drawn_again(&self, samples: usize, generator: &mut Generator) -> Result<Tensor> {
        let x = self.array().to_dtype(compute_dtype(self.dtype()))?.into_contiguous()?;
        let classes = x.shape()[x.rank() - 1];
        let mut shape = crate::layout::Dims::from_slice(x.shape());
        shape[x.rank() - 1] = samples;
        let mut out = Array::empty(&shape, DType::I64)?;
        dispatch_float!(x.dtype(), "multinomial", T => {
            let rows = x.slice::<T>().chunks_exact(classes);
            for (row, out) in rows.zip(out.slice_mut::<i64>().chunks_exact_mut(samples)) {
                let (mut sum, mut sums) = (0 as T, Vec::with_capacity(classes));
                for &weight in row {
                    ensure!(
                        weight >= 0.0,
                        Value,
                        "multinomial: invalid multinomial distribution (encountering probability entry < 0): {weight}; \
                         clamp the weights"
                    );
                    ensure!(
                        weight < T::INFINITY,
                        Value,
                        "multinomial: invalid multinomial distribution (encountering probability entry = infinity or \
                         NaN); weights are finite"
                    );
                    sum += weight;
                    sums.push(sum);
                }
                ensure!(
                    sum > 0.0,
                    Value,
                    "multinomial: invalid multinomial distribution (sum of probabilities <= 0); give each row a weight \
                     above 0"
                );
                sums.iter_mut().for_each(|up_to| *up_to /= sum);
                sums[classes - 1] = 1.0;
                generator.classes(&sums, out);
            }
        });
        Ok(Tensor::constant(out))
    }
}
