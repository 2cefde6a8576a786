//! Convolutions.

use super::{maybe, pair_of, single_of, sizes_of, Maybe};
use crate::convert::dim_of;
use crate::enter::enter;
use crate::tensor::Out;
use crate::tensor::PyTensor;
use firesteel::ops::conv::{ConvOptions, ConvPadding};
use firesteel::Tensor;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyString;

/// A convolution's arguments as users give them.
struct Arguments<'a, 'py> {
    op: &'static str,
    /// Number of dims that the window moves along.
    spatial: usize,
    stride: Argument<'a, 'py>,
    padding: Argument<'a, 'py>,
    dilation: Argument<'a, 'py>,
    groups: isize,
}

type Argument<'a, 'py> = Option<&'a Bound<'py, PyAny>>;

impl Arguments<'_, '_> {
    /// One number for all dims, or one for each, as the last of three; `default` where nothing is given.
    fn sizes(&self, role: &str, value: Argument<'_, '_>, default: usize) -> PyResult<[usize; 3]> {
        let Some(value) = value else { return Ok([default; 3]) };
        match self.spatial {
            3 => sizes_of(self.op, role, value),
            2 => pair_of(self.op, role, value).map(|[rows, cols]| [default, rows, cols]),
            _ => single_of(self.op, role, value).map(|[_, n]| [default, default, n]),
        }
    }

    fn padding(&self) -> PyResult<ConvPadding> {
        let name = self.padding.map(|value| value.cast::<PyString>());
        let Some(Ok(name)) = name else {
            return self.sizes("padding", self.padding, 0).map(ConvPadding::Zeros);
        };
        match name.to_cow()?.as_ref() {
            "same" => Ok(ConvPadding::Same),
            "valid" => Ok(ConvPadding::Zeros([0; 3])),
            other => Err(PyRuntimeError::new_err(format!(
                "{}: Invalid padding string: '{other}'; use 'same' or 'valid'",
                self.op
            ))),
        }
    }

    /// All but the padding, which may be a word.
    fn options(&self) -> PyResult<ConvOptions> {
        let (op, groups) = (self.op, self.groups);
        let groups = usize::try_from(groups).map_err(|_| {
            PyRuntimeError::new_err(format!(
                "{op}: non-positive groups is not supported, got groups={groups}; use at least 1"
            ))
        });
        Ok(ConvOptions {
            stride: self.sizes("stride", self.stride, 1)?,
            padding: [0; 3],
            dilation: self.sizes("dilation", self.dilation, 1)?,
            groups: groups?,
        })
    }
}

/// Multiplications of a convolution, about: how long it takes.
fn work(x: &Tensor, weight: &Tensor) -> usize {
    x.numel().saturating_mul(weight.shape().first().copied().unwrap_or(1))
}

/// Computes a convolution.
fn convolve(
    py: Python<'_>,
    [input, weight]: [&Bound<'_, PyTensor>; 2],
    bias: Maybe<'_, '_>,
    arguments: &Arguments<'_, '_>,
) -> PyResult<Out> {
    let (spatial, options, padding) = (arguments.spatial, arguments.options()?, arguments.padding()?);
    let (x, weight, bias) = (&input.get().tensor(), &weight.get().tensor(), maybe(bias));
    let bias = bias.as_ref();
    enter(py, work(x, weight), || match spatial {
        3 => x.conv3d(weight, bias, padding, options),
        2 => x.conv2d(weight, bias, padding, options),
        _ => x.conv1d(weight, bias, padding, options),
    })
    .map(Out)
}

/// Computes a transposed convolution.
fn convolve_transposed(
    py: Python<'_>,
    [input, weight]: [&Bound<'_, PyTensor>; 2],
    bias: Maybe<'_, '_>,
    output_padding: Argument<'_, '_>,
    arguments: &Arguments<'_, '_>,
) -> PyResult<Out> {
    let (spatial, padding) = (arguments.spatial, arguments.sizes("padding", arguments.padding, 0)?);
    let options = ConvOptions { padding, ..arguments.options()? };
    let extra = arguments.sizes("output_padding", output_padding, 0)?;
    let (x, weight, bias) = (&input.get().tensor(), &weight.get().tensor(), maybe(bias));
    let bias = bias.as_ref();
    enter(py, work(x, weight), || match spatial {
        3 => x.conv_transpose3d(weight, bias, extra, options),
        2 => x.conv_transpose2d(weight, bias, extra, options),
        _ => x.conv_transpose1d(weight, bias, extra, options),
    })
    .map(Out)
}

macro_rules! convolution {
    ($(#[$doc:meta])* $name:ident, $spatial:literal) => {
        $(#[$doc])*
        #[pyfunction]
        #[pyo3(signature = (input, weight, bias=None, stride=None, padding=None, dilation=None, groups=1))]
        fn $name(
            py: Python<'_>,
            input: &Bound<'_, PyTensor>,
            weight: &Bound<'_, PyTensor>,
            bias: Maybe<'_, '_>,
            stride: Option<&Bound<'_, PyAny>>,
            padding: Option<&Bound<'_, PyAny>>,
            dilation: Option<&Bound<'_, PyAny>>,
            #[pyo3(from_py_with = dim_of)] groups: isize,
        ) -> PyResult<Out> {
            let op = stringify!($name);
            let arguments = Arguments { op, spatial: $spatial, stride, padding, dilation, groups };
            convolve(py, [input, weight], bias, &arguments)
        }
    };
}

macro_rules! transposed_convolution {
    ($(#[$doc:meta])* $name:ident, $spatial:literal) => {
        $(#[$doc])*
        #[pyfunction]
        #[pyo3(signature = (
            input, weight, bias=None, stride=None, padding=None, output_padding=None, groups=1, dilation=None
        ))]
        fn $name(
            py: Python<'_>,
            input: &Bound<'_, PyTensor>,
            weight: &Bound<'_, PyTensor>,
            bias: Maybe<'_, '_>,
            stride: Option<&Bound<'_, PyAny>>,
            padding: Option<&Bound<'_, PyAny>>,
            output_padding: Option<&Bound<'_, PyAny>>,
            #[pyo3(from_py_with = dim_of)] groups: isize,
            dilation: Option<&Bound<'_, PyAny>>,
        ) -> PyResult<Out> {
            let op = stringify!($name);
            let arguments = Arguments { op, spatial: $spatial, stride, padding, dilation, groups };
            convolve_transposed(py, [input, weight], bias, output_padding, &arguments)
        }
    };
}

convolution! {
    /// conv1d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1) -> Tensor: convolution of signals
    /// (N, C, L) or (C, L); padding may be 'valid' or 'same'.
    conv1d, 1
}
convolution! {
    /// conv2d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1) -> Tensor: convolution of images
    /// (N, C, H, W) or (C, H, W); padding may be 'valid' or 'same'.
    conv2d, 2
}
convolution! {
    /// conv3d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1) -> Tensor: convolution of volumes
    /// (N, C, D, H, W) or (C, D, H, W); padding may be 'valid' or 'same'.
    conv3d, 3
}
transposed_convolution! {
    /// conv_transpose1d(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1) -> Tensor:
    /// what the gradient of conv1d's input is.
    conv_transpose1d, 1
}
transposed_convolution! {
    /// conv_transpose2d(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1) -> Tensor:
    /// what the gradient of conv2d's input is.
    conv_transpose2d, 2
}
transposed_convolution! {
    /// conv_transpose3d(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1) -> Tensor:
    /// what the gradient of conv3d's input is.
    conv_transpose3d, 3
}

/// Adds the functions.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(conv1d, m)?)?;
    m.add_function(wrap_pyfunction!(conv2d, m)?)?;
    m.add_function(wrap_pyfunction!(conv3d, m)?)?;
    m.add_function(wrap_pyfunction!(conv_transpose1d, m)?)?;
    m.add_function(wrap_pyfunction!(conv_transpose2d, m)?)?;
    m.add_function(wrap_pyfunction!(conv_transpose3d, m)?)
}
