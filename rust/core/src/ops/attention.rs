//! Scaled dot-product attention: one operation where the kernels compute it tile by tile, else a composition.

use super::dropout::dropout_mask;
use super::matmul::Tuple;
use super::promote::compute_dtype;
use crate::array::Array;
use crate::autograd::anomaly::as_one;
use crate::autograd::{apply::apply, is_recording, Grads, Kept, Op, Saved, Saves};
use crate::kernels::attention::{backward, forward, Float, Inputs, Outcome};
use crate::layout::{broadcast_shapes, Dims};
use crate::tensor::Tensor;
use crate::{dispatch_float, ensure, DType, Layout, Result};
use smallvec::SmallVec;

const NAME: &str = "scaled_dot_product_attention";

/// What beside the tensors determines attention.
#[derive(Debug, Clone, Copy)]
pub struct AttentionOptions {
    /// Share of the weights that are set to 0; the others are divided by the rest.
    pub dropout_p: f64,
    /// Whether query i sees the keys 0..=i only.
    pub is_causal: bool,
    /// What products of queries and keys are multiplied by; `None` is 1 / sqrt(width).
    pub scale: Option<f64>,
    /// Whether keys and values may have fewer heads (dim -3) than queries, each serving several of them.
    pub enable_gqa: bool,
}

impl Default for AttentionOptions {
    fn default() -> Self {
        Self { dropout_p: 0.0, is_causal: false, scale: None, enable_gqa: false }
    }
}

/// `softmax(query @ key^T * scale + mask) @ value`, without the matrix of scores.
#[derive(Debug)]
struct Attention {
    scale: f64,
    is_causal: bool,
    has_mask: bool,
    dropout_p: f64,
    /// What the weights were multiplied by, if any were dropped.
    drop: Kept,
    /// Per query `ln(sum(exp(scores)))`.
    logs: Kept,
}

/// The inputs as the kernels take them: leading dims expanded to the result's, rows contiguous, the mask as numbers.
struct Ready {
    query: Array,
    key: Array,
    value: Array,
    mask: Option<Array>,
    drop: Option<Array>,
}

/// With a last dim that has a stride of 1.
fn with_rows(x: &Array, dtype: DType) -> Result<Array> {
    let x = x.to_dtype(dtype)?;
    if x.shape()[x.rank() - 1] <= 1 || x.strides()[x.rank() - 1] == 1 {
        Ok(x)
    } else {
        x.contiguous()
    }
}

/// A new array in the order of dims of `like`, whose last dim has a stride of 1.
fn empty_rows(like: &Array, width: usize) -> Result<Array> {
    let mut shape = Dims::from_slice(like.shape());
    shape[like.rank() - 1] = width;
    if like.shape() == shape.as_slice() {
        let out = Array::empty_like(like.layout(), like.dtype())?;
        if width <= 1 || out.strides()[out.rank() - 1] == 1 {
            return Ok(out);
        }
    }
    Array::empty(&shape, like.dtype())
}

impl Ready {
    fn new(query: &Array, key: &Array, value: &Array, mask: Option<&Array>) -> Result<Self> {
        let dtype = compute_dtype(query.dtype());
        let lead = lead_of(query.shape(), key.shape(), value.shape())?;
        let expanded = |x: &Array| {
            let shape: Dims = lead.iter().chain(&x.shape()[x.rank() - 2..]).copied().collect();
            with_rows(x, dtype)?.broadcast_to(NAME, &shape)
        };
        let mask = match mask {
            None => None,
            Some(mask) => {
                let last = [query.shape()[query.rank() - 2], key.shape()[key.rank() - 2]];
                let shape: Dims = lead.iter().chain(&last).copied().collect();
                Some(added(&Tensor::constant(mask.clone()), dtype)?.array().broadcast_to(NAME, &shape)?)
            }
        };
        Ok(Self { query: expanded(query)?, key: expanded(key)?, value: expanded(value)?, mask, drop: None })
    }

    /// Shape of the scores.
    fn scores(&self) -> Dims {
        let (query, key) = (self.query.shape(), self.key.shape());
        query[..query.len() - 1].iter().chain([&key[key.len() - 2]]).copied().collect()
    }

    fn inputs(&self, op: &Attention) -> Inputs<'_> {
        Inputs {
            query: &self.query,
            key: &self.key,
            value: &self.value,
            mask: self.mask.as_ref(),
            drop: self.drop.as_ref(),
            scale: op.scale,
            is_causal: op.is_causal,
        }
    }
}

/// A mask as what is added to the scores: of a bool one, 0 where it is true and -inf elsewhere.
fn added(mask: &Tensor, dtype: DType) -> Result<Tensor> {
    if mask.dtype() != DType::Bool {
        return mask.to_dtype(dtype);
    }
    let hidden = Tensor::full(&[], f64::NEG_INFINITY, dtype)?;
    Tensor::where_self(mask, &Tensor::zeros(&[], dtype)?, &hidden)
}

/// The leading dims of the result.
fn lead_of(query: &[usize], key: &[usize], value: &[usize]) -> Result<Dims> {
    let lead = |shape: &[usize]| Dims::from_slice(&shape[..shape.len() - 2]);
    broadcast_shapes(NAME, &broadcast_shapes(NAME, &lead(query), &lead(key))?, &lead(value))
}

impl Attention {
    fn run<T: Float>(&mut self, ready: &mut Ready) -> Result<Array> {
        let scores = ready.scores();
        if self.dropout_p > 0.0 && scores.iter().all(|&extent| extent > 0) {
            let drop = dropout_mask(&Layout::contiguous(&scores), T::DTYPE, self.dropout_p)?;
            self.drop.set(drop.clone());
            ready.drop = Some(drop.broadcast_to(NAME, &scores)?);
        }
        let Ready { query, value, .. } = &*ready;
        let out = empty_rows(query, value.shape()[value.rank() - 1])?;
        let mut logs = Array::empty(&query.shape()[..query.rank() - 1], T::DTYPE)?;
        forward::<T>(&ready.inputs(self), &out, logs.slice_mut());
        self.logs.set(logs);
        Ok(out)
    }

    fn fused<T: Float>(
        &self,
        needs: [bool; 3],
        ready: &Ready,
        out: &Array,
        grad: &Array,
    ) -> Result<Grads<4>> {
        let logs = self.logs.get(NAME)?;
        let of = [&ready.query, &ready.key, &ready.value];
        let mut grads = [None, None, None];
        for (i, grad) in grads.iter_mut().enumerate().filter(|(i, _)| needs[*i]) {
            *grad = Some(empty_rows(of[i], of[i].shape()[of[i].rank() - 1])?);
        }
        let outcome = Outcome { out, grad, logs: logs.slice() };
        backward::<T>(&ready.inputs(self), &outcome, grads.each_ref().map(Option::as_ref))?;
        let [query, key, value] = grads.map(|grad| grad.map(Tensor::constant));
        Ok([query, key, value, None])
    }

    /// What the weights were multiplied by.
    fn dropped(&self) -> Result<Option<Array>> {
        (self.dropout_p > 0.0 && self.drop.saved().is_some()).then(|| self.drop.get(NAME)).transpose()
    }

    /// The gradients in operations that are recorded. Weights and slopes are right factors everywhere: as transposed
    /// left ones their own gradients would come transposed, and sums over these round otherwise.
    fn recorded(
        &self,
        needs: [bool; 3],
        [query, key, value]: [&Tensor; 3],
        mask: Option<&Tensor>,
        grad: &Tensor,
    ) -> Result<Grads<4>> {
        let compute = |x: &Tensor| x.to_dtype(compute_dtype(x.dtype()));
        let (query, key, value, grad) = (compute(query)?, compute(key)?, compute(value)?, compute(grad)?);
        let weights = weights(&query, &key, mask, self.scale, self.is_causal)?;
        let drop = self.dropped()?.map(Tensor::constant);
        let by_value = match &drop {
            _ if !needs[2] => None,
            Some(drop) => Some(transposed_product(&grad, &weights.mul(drop)?)?),
            None => Some(transposed_product(&grad, &weights)?),
        };
        if !needs[0] && !needs[1] {
            return Ok([None, None, by_value, None]);
        }
        let mut d = grad.matmul(&value.transpose(-2, -1)?)?;
        if let Some(drop) = &drop {
            d = d.mul(drop)?;
        }
        let mean = (&weights * &d).sum(&[-1], true)?;
        let slopes = &weights * (d - mean) * self.scale;
        let by_query = if needs[0] { Some(slopes.matmul(&key)?) } else { None };
        let by_key = if needs[1] { Some(transposed_product(&query, &slopes)?) } else { None };
        Ok([by_query, by_key, by_value, None])
    }
}

/// `b^T @ a`, computed as `(a^T @ b)^T`.
fn transposed_product(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    a.transpose(-2, -1)?.matmul(b)?.transpose(-2, -1)
}

impl Op<4> for Attention {
    const NAME: &'static str = "scaled_dot_product_attention";

    fn grad_fn_name(&self) -> String {
        "ScaledDotProductFlashAttentionForCpuBackward0".into()
    }

    fn saves(&self, _needs: [bool; 4]) -> Saves<4> {
        Saves::inputs([true, true, true, self.has_mask]).and_output()
    }

    fn forward(&mut self, [query, key, value, mask]: [&Array; 4]) -> Result<Array> {
        let mut ready = Ready::new(query, key, value, self.has_mask.then_some(mask))?;
        let out = dispatch_float!(ready.query.dtype(), Self::NAME, T => self.run::<T>(&mut ready)?);
        out.into_dtype(query.dtype())
    }

    fn backward(&self, saved: &Saved<4>, grad: &Tensor) -> Result<Grads<4>> {
        let [query, key, value] = [saved.input(0)?, saved.input(1)?, saved.input(2)?];
        let mask = self.has_mask.then(|| saved.input(3)).transpose()?;
        let needs = std::array::from_fn(|i| saved.needs(i));
        if is_recording() {
            return self.recorded(needs, [&query, &key, &value], mask.as_ref(), grad);
        }
        let mask = mask.as_ref().map(Tensor::array);
        let mut ready = Ready::new(query.array(), key.array(), value.array(), mask)?;
        if let Some(drop) = self.dropped()? {
            ready.drop = Some(drop.broadcast_to(NAME, &ready.scores())?);
        }
        let dtype = ready.query.dtype();
        let (out, grad) = (with_rows(saved.output()?.array(), dtype)?, with_rows(grad.array(), dtype)?);
        dispatch_float!(dtype, Self::NAME, T => self.fused::<T>(needs, &ready, &out, &grad))
    }

    fn visit_kept(&self, visit: &mut dyn FnMut(&Kept)) {
        visit(&self.logs);
        visit(&self.drop);
    }
}

/// `softmax(query @ key^T * scale + mask)`; 0 for a query that may see no key.
fn weights(
    query: &Tensor,
    key: &Tensor,
    mask: Option<&Tensor>,
    scale: f64,
    is_causal: bool,
) -> Result<Tensor> {
    let dtype = query.dtype();
    let scaled = query.mul(&query.scalar_beside(scale)?)?;
    let mut scores = scaled.matmul(&key.transpose(-2, -1)?)?;
    if let Some(mask) = mask {
        scores = scores.add(&added(mask, dtype)?)?;
    }
    if is_causal {
        let last = &scores.shape()[scores.rank() - 2..];
        let hidden = Tensor::ones(last, DType::Bool)?.triu(1)?;
        scores = scores.masked_fill(&hidden, f64::NEG_INFINITY)?;
    }
    if scores.shape()[scores.rank() - 1] == 0 {
        return Ok(scores);
    }
    let top = scores.detach().amax(&[-1], true)?;
    let blind = top.eq(&top.scalar_beside(f64::NEG_INFINITY)?)?;
    if blind.any(&[], false)?.array().item_i64()? == 0 {
        return scores.softmax(-1);
    }
    scores.masked_fill(&blind, 0.0)?.softmax(-1)?.masked_fill(&blind, 0.0)
}

fn check_dtypes(query: &Tensor, key: &Tensor, value: &Tensor, mask: Option<&Tensor>) -> Result<()> {
    let dtype = query.dtype();
    ensure!(
        key.dtype() == dtype && value.dtype() == dtype,
        DType,
        "{NAME}: Expected query, key, and value to have the same dtype, but got query.dtype: {dtype} key.dtype: {} and \
         value.dtype: {} instead; convert with .to()",
        key.dtype(),
        value.dtype()
    );
    ensure!(
        dtype.is_float(),
        DType,
        "{NAME}: expected scalar type Float but found {}; convert with .float()",
        dtype.scalar_name()
    );
    if let Some(mask) = mask {
        ensure!(
            [DType::Bool, DType::F32, dtype].contains(&mask.dtype()),
            DType,
            "{NAME}: Expected attn_mask dtype to be bool or float or to match query dtype, but got attn_mask.dtype: {} \
             and query.dtype: {dtype} instead; convert it with .to()",
            mask.dtype()
        );
    }
    Ok(())
}

/// Whether `shape` can be repeated to `wanted`.
fn fits(shape: &[usize], wanted: &[usize]) -> bool {
    let pairs = shape.iter().rev().zip(wanted.iter().rev());
    shape.len() <= wanted.len() && pairs.into_iter().all(|(a, b)| a == b || *a == 1)
}

/// Refuses sizes that do not fit; dims before the last two broadcast.
fn check_sizes(query: &Tensor, key: &Tensor, value: &Tensor, mask: Option<&Tensor>) -> Result<()> {
    let shapes = || {
        let [query, key, value] = [query, key, value].map(|x| Tuple(x.shape()).to_string());
        format!("query {query}, key {key}, value {value}")
    };
    let last = |x: &Tensor, dim: usize| x.shape()[x.rank() - dim];
    let (width, length) = (last(query, 1), last(key, 2));
    ensure!(
        last(key, 1) == width,
        Shape,
        "{NAME}: {}: last size {width} of query must equal last size {} of key; project one of them",
        shapes(),
        last(key, 1)
    );
    ensure!(
        last(value, 2) == length,
        Shape,
        "{NAME}: {}: second-to-last size {length} of key must equal second-to-last size {} of value; give a value for \
         each key",
        shapes(),
        last(value, 2)
    );
    let Ok(lead) = lead_of(query.shape(), key.shape(), value.shape()) else {
        crate::bail!(
            Shape,
            "{NAME}: {}: sizes before the last two do not broadcast; they must be equal or 1, or with fewer heads of \
             key and value pass enable_gqa=True",
            shapes()
        )
    };
    let Some(mask) = mask else { return Ok(()) };
    let scores: Dims = lead.iter().copied().chain([last(query, 2), length]).collect();
    ensure!(
        fits(mask.shape(), &scores),
        Shape,
        "{NAME}: attn_mask {} does not broadcast to the scores, {}; its sizes must be equal or 1",
        Tuple(mask.shape()),
        Tuple(&scores)
    );
    Ok(())
}

/// Heads of `x`, its dim -3.
fn heads(x: &Tensor) -> usize {
    x.shape()[x.rank() - 3]
}

/// Each head `times` times.
fn repeat_heads(x: &Tensor, times: usize) -> Result<Tensor> {
    let x = x.unsqueeze(-3)?;
    let mut shape = Dims::from_slice(x.shape());
    shape[x.rank() - 3] = times;
    split_heads(&x.expand(&shape)?, None)
}

/// Dim -3 as `groups` of equal size; with `None` the dims -4 and -3 as one.
fn split_heads(x: &Tensor, groups: Option<usize>) -> Result<Tensor> {
    let mut shape: SmallVec<[usize; 6]> = SmallVec::from_slice(x.shape());
    let dim = x.rank() - 3;
    match groups {
        Some(groups) => {
            shape[dim] /= groups.max(1);
            shape.insert(dim, groups);
        }
        None => {
            shape[dim - 1] *= shape[dim];
            shape.remove(dim);
        }
    }
    x.reshape(&shape)
}

impl Tensor {
    /// `softmax(self @ key^T * scale + mask) @ value` for queries (*, L, E), keys (*, S, E) and values (*, S, F). A bool
    /// mask says where a query sees a key, another one is added; a query that sees none gives zeros.
    pub fn scaled_dot_product_attention(
        &self,
        key: &Tensor,
        value: &Tensor,
        mask: Option<&Tensor>,
        options: AttentionOptions,
    ) -> Result<Tensor> {
        ensure!(
            [self, key, value].iter().all(|x| x.rank() >= 2),
            Shape,
            "{NAME}: Expected query, key, and value to all be at least 2 dimensional, but got query.dim: {} key.dim: {} \
             and value.dim: {} instead; unsqueeze them",
            self.rank(),
            key.rank(),
            value.rank()
        );
        check_dtypes(self, key, value, mask)?;
        ensure!(
            mask.is_none() || !options.is_causal,
            Shape,
            "{NAME}: Explicit attn_mask should not be set when is_causal=True; put both into one mask"
        );
        ensure!(
            (0.0..=1.0).contains(&options.dropout_p),
            Shape,
            "{NAME}: dropout probability has to be between 0 and 1, but got {}; use a share",
            options.dropout_p
        );
        if options.enable_gqa {
            self.grouped(key, value, mask, options)
        } else {
            self.attend(key, value, mask, options)
        }
    }

    /// With keys and values of fewer heads than queries.
    fn grouped(
        &self,
        key: &Tensor,
        value: &Tensor,
        mask: Option<&Tensor>,
        options: AttentionOptions,
    ) -> Result<Tensor> {
        ensure!(
            [self, key, value].iter().all(|x| x.rank() >= 3),
            Index,
            "{NAME}: enable_gqa=True takes heads from dim -3, but got query.dim: {} key.dim: {} and value.dim: {}; \
             unsqueeze them",
            self.rank(),
            key.rank(),
            value.rank()
        );
        let (all, of_key, of_value) = (heads(self), heads(key), heads(value));
        ensure!(
            [of_key, of_value].iter().all(|&some| some > 0 && all.is_multiple_of(some)),
            Shape,
            "{NAME}: Number of heads in key and value must divide the number of heads in query, but got {of_key} and \
             {of_value} for {all}; repeat or drop some"
        );
        let seen = [of_key, of_value].map(|some| all / some);
        if of_key != of_value || seen == [1, 1] {
            let (key, value) = (repeat_heads(key, seen[0])?, repeat_heads(value, seen[1])?);
            return self.attend(&key, &value, mask, options);
        }
        let query = split_heads(self, Some(of_key))?;
        let mask = match mask {
            Some(mask) if mask.rank() > 2 && heads(mask) == all => Some(split_heads(mask, Some(of_key))?),
            Some(mask) if mask.rank() > 2 => Some(mask.unsqueeze(-3)?),
            mask => mask.cloned(),
        };
        let out = query.attend(&key.unsqueeze(-3)?, &value.unsqueeze(-3)?, mask.as_ref(), options)?;
        split_heads(&out, None)
    }

    fn attend(
        &self,
        key: &Tensor,
        value: &Tensor,
        mask: Option<&Tensor>,
        options: AttentionOptions,
    ) -> Result<Tensor> {
        check_sizes(self, key, value, mask)?;
        let AttentionOptions { dropout_p, is_causal, scale, .. } = options;
        let width = self.shape()[self.rank() - 1];
        let scale = scale.unwrap_or(1.0 / (width as f64).sqrt());
        if !mask.is_some_and(Tensor::requires_grad) {
            let has_mask = mask.is_some();
            let (drop, logs) = (Kept::default(), Kept::default());
            let op = Attention { scale, is_causal, has_mask, dropout_p, drop, logs };
            let mask = mask.map_or_else(|| Tensor::empty(&[0], self.dtype()), |mask| Ok(mask.clone()))?;
            return apply(op, [self, key, value, &mask]);
        }
        let inputs: SmallVec<[&Tensor; 4]> = [self, key, value].into_iter().chain(mask).collect();
        as_one(NAME, &inputs, || {
            let dtype = compute_dtype(self.dtype());
            let weights = weights(&self.to_dtype(dtype)?, &key.to_dtype(dtype)?, mask, scale, is_causal)?;
            let weights = weights.dropout(dropout_p, true)?;
            weights.matmul(&value.to_dtype(dtype)?)?.to_dtype(self.dtype())
        })
    }
}
