//! Attention.

use super::{maybe, Maybe};
use crate::convert::float_of;
use crate::enter::enter;
use crate::flag;
use crate::tensor::{Out, PyTensor};
use firesteel::ops::attention::AttentionOptions;
use pyo3::prelude::*;

/// scaled_dot_product_attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, *, scale=None,
/// enable_gqa=False) -> Tensor: softmax(query @ key.mT * scale + attn_mask) @ value.
#[pyfunction]
#[pyo3(signature = (query, key, value, attn_mask=None, dropout_p=0.0, is_causal=false, *, scale=None, enable_gqa=false))]
fn scaled_dot_product_attention(
    query: &Bound<'_, PyTensor>,
    key: &Bound<'_, PyTensor>,
    value: &Bound<'_, PyTensor>,
    attn_mask: Maybe<'_, '_>,
    #[pyo3(from_py_with = float_of)] dropout_p: f64,
    #[pyo3(from_py_with = flag::is_causal)] is_causal: bool,
    scale: Option<f64>,
    #[pyo3(from_py_with = flag::enable_gqa)] enable_gqa: bool,
) -> PyResult<Out> {
    let (query, py) = (&query.get().tensor(), query.py());
    let (key, value, mask) = (&key.get().tensor(), &value.get().tensor(), maybe(attn_mask));
    let options = AttentionOptions { dropout_p, is_causal, scale, enable_gqa };
    let keys = key.shape().iter().rev().nth(1).copied().unwrap_or(1);
    let work = query.numel().saturating_mul(keys);
    enter(py, work, || query.scaled_dot_product_attention(key, value, mask.as_ref(), options)).map(Out)
}

/// Adds the functions.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(scaled_dot_product_attention, m)?)
}
