//! Recurrent layers and cells.

use super::{maybe, Maybe};
use crate::convert::{dim_of, float_of};
use crate::enter::enter;
use crate::tensor::{tensors_of, tuple, Out, PyTensor};
use firesteel::ops::recurrent::{Cell, RecurrentOptions};
use firesteel::Tensor;
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// The arguments after the input, of both forms: `(hx, params, has_biases, num_layers, dropout, train, bidirectional,
/// batch_first)`, or `(batch_sizes, hx, params, ..., bidirectional)`.
type Rest<'a, 'py> = [&'a Bound<'py, PyAny>; 8];

fn flag(op: &str, name: &str, value: &Bound<'_, PyAny>) -> PyResult<bool> {
    value.extract().map_err(|_| {
        PyTypeError::new_err(format!(
            "{op}: argument '{name}' must be bool, not {}; use True or False",
            value.get_type()
        ))
    })
}

/// Number of rows of each step.
fn batch_sizes(op: &str, value: &Bound<'_, PyAny>) -> PyResult<Vec<usize>> {
    let sizes = value.cast::<PyTensor>()?.get().tensor();
    let list = if sizes.rank() == 1 { sizes.array().to_vec::<i64>().ok() } else { None };
    let list =
        list.and_then(|sizes| sizes.into_iter().map(usize::try_from).collect::<Result<Vec<_>, _>>().ok());
    list.ok_or_else(|| {
        PyRuntimeError::new_err(format!(
            "{op}: batch_sizes must be a 1-dimensional tensor of positive integers, got shape {:?} ({}); make it \
             with nn.utils.rnn.pack_padded_sequence",
            sizes.shape(),
            sizes.dtype()
        ))
    })
}

fn layers<'py>(
    py: Python<'py>,
    op: &str,
    cell: Cell,
    input: &Bound<'py, PyTensor>,
    rest: Rest<'_, 'py>,
) -> PyResult<Bound<'py, PyTuple>> {
    let is_tensor = |value: &Bound<'py, PyAny>| value.cast::<PyTensor>().is_ok();
    let is_packed = is_tensor(rest[if cell == Cell::Lstm { 0 } else { 1 }]);
    let sizes = if is_packed { Some(batch_sizes(op, rest[0])?) } else { None };
    let [hx, params, has_biases, num_layers, dropout, train, bidirectional] =
        std::array::from_fn(|i| rest[i + usize::from(is_packed)]);
    let states =
        if is_tensor(hx) { vec![hx.cast::<PyTensor>()?.get().tensor()] } else { tensors_of(op, hx)? };
    let params = tensors_of(op, params)?;
    let num_layers = dim_of(num_layers)?;
    let options = RecurrentOptions {
        cell,
        has_biases: flag(op, "has_biases", has_biases)?,
        num_layers: usize::try_from(num_layers).map_err(|_| {
            PyRuntimeError::new_err(format!(
                "{op}: num_layers must be at least 1, got {num_layers}; use more"
            ))
        })?,
        dropout: float_of(dropout)?,
        training: flag(op, "train", train)?,
        bidirectional: flag(op, "bidirectional", bidirectional)?,
        batch_first: !is_packed && flag(op, "batch_first", rest[7])?,
    };
    let x = &input.get().tensor();
    let work =
        x.numel().saturating_mul(params.first().map_or(1, |weight| weight.shape().first().map_or(1, |n| *n)));
    let results = enter(py, work, || {
        let (states, params): (Vec<_>, Vec<_>) = (states.iter().collect(), params.iter().collect());
        x.recurrent(sizes.as_deref(), &states, &params, options)
    })?;
    tuple(py, results)
}

macro_rules! layer_functions {
    ($($(#[doc = $doc:literal])+ $name:ident: $cell:ident)*) => {$(
        $(#[doc = $doc])+
        #[pyfunction]
        fn $name<'py>(
            py: Python<'py>,
            input: &Bound<'py, PyTensor>,
            hx: &Bound<'py, PyAny>,
            params: &Bound<'py, PyAny>,
            has_biases: &Bound<'py, PyAny>,
            num_layers: &Bound<'py, PyAny>,
            dropout: &Bound<'py, PyAny>,
            train: &Bound<'py, PyAny>,
            bidirectional: &Bound<'py, PyAny>,
            batch_first: &Bound<'py, PyAny>,
        ) -> PyResult<Bound<'py, PyTuple>> {
            let rest = [hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first];
            layers(py, stringify!($name), Cell::$cell, input, rest)
        }
    )*};
}

layer_functions! {
    /// lstm(input, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first) -> tuple[Tensor, ...]:
    /// layers of LSTM cells; or lstm(data, batch_sizes, hx, params, ...) for packed sequences.
    lstm: Lstm
    /// gru(input, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first) -> tuple[Tensor, ...]:
    /// layers of GRU cells; or gru(data, batch_sizes, hx, params, ...) for packed sequences.
    gru: Gru
    /// rnn_tanh(input, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first) -> tuple[Tensor, ...]:
    /// layers of cells without gates; or rnn_tanh(data, batch_sizes, hx, params, ...) for packed sequences.
    rnn_tanh: Tanh
    /// rnn_relu(input, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first) -> tuple[Tensor, ...]:
    /// as rnn_tanh, with relu in the place of tanh.
    rnn_relu: Relu
}

fn cell<'py>(
    py: Python<'py>,
    op: &str,
    cell: Cell,
    input: &Bound<'py, PyTensor>,
    states: &[Tensor],
    weights: [&Bound<'py, PyTensor>; 2],
    biases: [Maybe<'_, 'py>; 2],
) -> PyResult<Vec<Tensor>> {
    let [input_weight, hidden_weight] = weights.map(|weight| weight.get().tensor());
    let biases = match biases.map(maybe) {
        [None, None] => None,
        [Some(input), Some(hidden)] => Some([input, hidden]),
        _ => return Err(PyRuntimeError::new_err(format!("{op}: give both biases or none"))),
    };
    let x = &input.get().tensor();
    let work = x.numel().saturating_mul(input_weight.shape().first().map_or(1, |n| *n));
    enter(py, work, || {
        let states: Vec<_> = states.iter().collect();
        let biases = biases.as_ref().map(|[input, hidden]| [input, hidden]);
        x.recurrent_cell(cell, &states, [&input_weight, &hidden_weight], biases)
    })
}

/// lstm_cell(input, hx, w_ih, w_hh, b_ih=None, b_hh=None) -> tuple[Tensor, Tensor]: one step of an LSTM cell.
#[pyfunction]
#[pyo3(signature = (input, hx, w_ih, w_hh, b_ih=None, b_hh=None))]
fn lstm_cell<'py>(
    py: Python<'py>,
    input: &Bound<'py, PyTensor>,
    hx: &Bound<'py, PyAny>,
    w_ih: &Bound<'py, PyTensor>,
    w_hh: &Bound<'py, PyTensor>,
    b_ih: Maybe<'_, 'py>,
    b_hh: Maybe<'_, 'py>,
) -> PyResult<Bound<'py, PyTuple>> {
    let states = tensors_of("lstm_cell", hx)?;
    tuple(py, cell(py, "lstm_cell", Cell::Lstm, input, &states, [w_ih, w_hh], [b_ih, b_hh])?)
}

macro_rules! cell_functions {
    ($($(#[doc = $doc:literal])+ $name:ident: $cell:ident)*) => {$(
        $(#[doc = $doc])+
        #[pyfunction]
        #[pyo3(signature = (input, hx, w_ih, w_hh, b_ih=None, b_hh=None))]
        fn $name<'py>(
            py: Python<'py>,
            input: &Bound<'py, PyTensor>,
            hx: &Bound<'py, PyTensor>,
            w_ih: &Bound<'py, PyTensor>,
            w_hh: &Bound<'py, PyTensor>,
            b_ih: Maybe<'_, 'py>,
            b_hh: Maybe<'_, 'py>,
        ) -> PyResult<Out> {
            let states = [hx.get().tensor()];
            let mut after = cell(py, stringify!($name), Cell::$cell, input, &states, [w_ih, w_hh], [b_ih, b_hh])?;
            Ok(Out(after.swap_remove(0)))
        }
    )*};
}

cell_functions! {
    /// gru_cell(input, hx, w_ih, w_hh, b_ih=None, b_hh=None) -> Tensor: one step of a GRU cell.
    gru_cell: Gru
    /// rnn_tanh_cell(input, hx, w_ih, w_hh, b_ih=None, b_hh=None) -> Tensor: one step of a cell without gates.
    rnn_tanh_cell: Tanh
    /// rnn_relu_cell(input, hx, w_ih, w_hh, b_ih=None, b_hh=None) -> Tensor: the same with relu in the place of tanh.
    rnn_relu_cell: Relu
}

/// Adds the functions.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(lstm, m)?)?;
    m.add_function(wrap_pyfunction!(gru, m)?)?;
    m.add_function(wrap_pyfunction!(rnn_tanh, m)?)?;
    m.add_function(wrap_pyfunction!(rnn_relu, m)?)?;
    m.add_function(wrap_pyfunction!(lstm_cell, m)?)?;
    m.add_function(wrap_pyfunction!(gru_cell, m)?)?;
    m.add_function(wrap_pyfunction!(rnn_tanh_cell, m)?)?;
    m.add_function(wrap_pyfunction!(rnn_relu_cell, m)?)
}
