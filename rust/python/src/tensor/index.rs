//! `x[...]`, `x[...] = v`, and the named ways to pick and place elements.

use super::PyTensor;
use crate::convert::{int_of, scalar_of, Operand};
use crate::data::tensor_of;
use crate::enter::enter;
use crate::error::IntoPy;
use crate::flag;
use crate::tensor::lent::Loan;
use crate::tensor::Out;
use firesteel::layout::{broadcast_shapes, normalize_dim};
use firesteel::{DType, Error, Kind, Tensor};
use pyo3::exceptions::{PyIndexError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyEllipsis, PyInt, PyList, PyRange, PySlice, PyTuple};
use smallvec::SmallVec;

/// What is left after the views of an index expression were taken: index tensors for some dims.
struct Indexed {
    view: Tensor,
    indices: Vec<Option<Tensor>>,
}

impl Indexed {
    fn has_tensors(&self) -> bool {
        self.indices.iter().any(Option::is_some)
    }
}

/// `x[...]` and others run other operations; their errors speak of what the user wrote.
pub fn spoken_of<T>(op: &str, result: firesteel::Result<T>) -> firesteel::Result<T> {
    result.map_err(|error| match (error.kind(), error.message().split_once(": ")) {
        (Kind::External | Kind::Memory, _) | (_, None) => error,
        (kind, Some((_, facts))) => Error::new(kind, format!("{op}: {facts}")),
    })
}

/// An item of an index expression.
enum Item<'py> {
    /// `None`: a new dim.
    New,
    /// `...`: all dims that the other items leave over.
    Rest,
    Slice(Bound<'py, PySlice>),
    At(isize),
    Truth(bool),
    /// A tensor, an array, a list or a range of indices, or a mask.
    Indices(Tensor),
}

impl<'py> Item<'py> {
    // The exact types first: asking other objects for attributes that they lack costs more than a view.
    fn of(op: &str, value: &Bound<'py, PyAny>) -> PyResult<Self> {
        if let Ok(int) = value.cast_exact::<PyInt>() {
            return Ok(Item::At(int_of(int)?));
        }
        if let Ok(slice) = value.cast::<PySlice>() {
            return Ok(Item::Slice(slice.clone()));
        }
        if value.is_none() {
            return Ok(Item::New);
        }
        if value.cast::<PyEllipsis>().is_ok() {
            return Ok(Item::Rest);
        }
        if let Ok(boolean) = value.cast::<PyBool>() {
            return Ok(Item::Truth(boolean.is_true()));
        }
        if let Some(tensor) = index_tensor(value)? {
            if tensor.rank() == 0 && !tensor.dtype().is_float() && tensor.dtype() != DType::Bool {
                return Ok(Item::At(tensor.array().item_i64().py(value.py())? as isize));
            }
            return Ok(Item::Indices(tensor));
        }
        if value.cast::<PyInt>().is_ok() || value.hasattr(intern!(value.py(), "__index__"))? {
            return Ok(Item::At(int_of(value)?));
        }
        Err(PyIndexError::new_err(format!(
            "{op}: only integers, slices (`:`), ellipsis (`...`), None and long or byte Variables are valid indices \
             (got {}); convert it with int()",
            value.get_type().name()?
        )))
    }

    /// How many dims of the tensor it uses up.
    fn dims_used(&self) -> usize {
        match self {
            Item::New | Item::Rest | Item::Truth(_) => 0,
            Item::Slice(_) | Item::At(_) => 1,
            Item::Indices(tensor) => covers(Some(tensor)),
        }
    }
}

/// A list of indices, as a tensor; nothing for other objects.
fn index_tensor(item: &Bound<'_, PyAny>) -> PyResult<Option<Tensor>> {
    if let Ok(tensor) = item.cast::<PyTensor>() {
        return mask_of(item.py(), tensor.get().tensor()).map(Some);
    }
    let is_sequence = item.cast::<PyList>().is_ok()
        || item.cast::<PyTuple>().is_ok()
        || item.cast::<PyRange>().is_ok()
        || item.hasattr(intern!(item.py(), "__array_interface__"))?;
    if !is_sequence {
        return Ok(None);
    }
    let tensor = tensor_of(item, None)?;
    // An empty list has no type of its own; as indices it is int64.
    if tensor.numel() == 0 && tensor.dtype() == DType::F32 {
        return Ok(Some(tensor.to_dtype(DType::I64).py(item.py())?));
    }
    mask_of(item.py(), tensor).map(Some)
}

/// An index of uint8 is a mask, as it was before there was bool.
fn mask_of(py: Python<'_>, index: Tensor) -> PyResult<Tensor> {
    if index.dtype() == DType::U8 {
        return index.to_dtype(DType::Bool).py(py);
    }
    Ok(index)
}

/// A list that stands for a tuple, as in PyTorch: `x[[[0, 1], [1, 2]]]` is `x[[0, 1], [1, 2]]`. So does a short
/// list of anything but numbers.
fn list_of_items<'a, 'py>(key: &'a Bound<'py, PyAny>) -> Option<&'a Bound<'py, PyList>> {
    let list = key.cast::<PyList>().ok().filter(|list| list.len() < 32)?;
    let is_item = |value: Bound<'_, PyAny>| {
        value.is_none()
            || value.cast::<PyList>().is_ok()
            || value.cast::<PyTuple>().is_ok()
            || value.cast::<PySlice>().is_ok()
            || value.cast::<PyEllipsis>().is_ok()
            || value.cast::<PyTensor>().is_ok()
    };
    list.iter().any(is_item).then_some(list)
}

/// Takes the views of `x[key]`, from left to right, and collects its index tensors.
fn parse(op: &str, x: &Tensor, key: &Bound<'_, PyAny>) -> PyResult<Indexed> {
    let mut items: SmallVec<[Item<'_>; 4]> = SmallVec::new();
    if let Ok(tuple) = key.cast::<PyTuple>() {
        for value in tuple.iter_borrowed() {
            items.push(Item::of(op, &value)?);
        }
    } else if let Some(list) = list_of_items(key) {
        for value in list.iter() {
            items.push(Item::of(op, &value)?);
        }
    } else {
        items.push(Item::of(op, key)?);
    }
    let used: usize = items.iter().map(Item::dims_used).sum();
    if used > x.rank() {
        return Err(PyIndexError::new_err(format!(
            "{op}: too many indices for tensor of dimension {} (shape {:?}): {used} given; use fewer",
            x.rank(),
            x.shape()
        )));
    }
    if items.iter().filter(|item| matches!(item, Item::Rest)).count() > 1 {
        return Err(PyIndexError::new_err(format!(
            "{op}: an index can only have a single ellipsis ('...'); leave the others out"
        )));
    }
    let mut parsed = Indexed { view: x.clone(), indices: Vec::new() };
    let mut dim = 0;
    for item in items {
        step(op, &mut parsed, &mut dim, item, x.rank() - used, key.py())?;
    }
    Ok(parsed)
}

fn step(
    op: &str,
    parsed: &mut Indexed,
    dim: &mut usize,
    item: Item<'_>,
    left_over: usize,
    py: Python<'_>,
) -> PyResult<()> {
    let at = *dim as isize;
    match item {
        Item::New => {
            parsed.view = parsed.view.unsqueeze(at).py(py)?;
            *dim += 1;
        }
        Item::Rest => *dim += left_over,
        Item::At(index) => parsed.view = select(op, &parsed.view, at, index).py(py)?,
        Item::Slice(slice) => {
            parsed.view = sliced(op, &parsed.view, *dim, &slice)?;
            *dim += 1;
        }
        Item::Truth(truth) => {
            let mask = Tensor::full(&[1], truth, DType::Bool).py(py)?;
            parsed.view = parsed.view.unsqueeze(at).py(py)?;
            put_index(parsed, *dim, mask);
            *dim += 1;
        }
        Item::Indices(mask) if mask.rank() == 0 && mask.dtype() == DType::Bool => {
            parsed.view = parsed.view.unsqueeze(at).py(py)?;
            put_index(parsed, *dim, mask.reshape(&[1]).py(py)?);
            *dim += 1;
        }
        Item::Indices(tensor) => {
            let covered = covers(Some(&tensor));
            put_index(parsed, *dim, tensor);
            *dim += covered;
        }
    }
    Ok(())
}

/// `x[..., start:stop:step]` of one dim; `x` itself where that is all of it.
fn sliced(op: &str, x: &Tensor, dim: usize, slice: &Bound<'_, PySlice>) -> PyResult<Tensor> {
    let extent = x.shape()[dim];
    let range = slice.indices(extent as isize)?;
    if range.step <= 0 {
        return Err(PyValueError::new_err(format!(
            "{op}: step must be greater than zero, not {}; use .flip(dim) to reverse",
            range.step
        )));
    }
    if range.start == 0 && range.step == 1 && range.stop >= extent as isize {
        return Ok(x.clone());
    }
    let (start, stop) = (range.start.max(0) as usize, range.stop.max(0) as usize);
    x.slice(dim as isize, start, stop.max(start), range.step as usize).py(slice.py())
}

fn select(op: &str, x: &Tensor, dim: isize, index: isize) -> firesteel::Result<Tensor> {
    spoken_of(op, x.select(dim, index))
}

/// Index tensors are listed by dim; a mask of several dims stands at its first.
fn put_index(parsed: &mut Indexed, dim: usize, tensor: Tensor) {
    let covered: usize = parsed.indices.iter().map(|index| covers(index.as_ref())).sum();
    parsed.indices.extend((covered..dim).map(|_| None));
    parsed.indices.push(Some(tensor));
}

fn covers(index: Option<&Tensor>) -> usize {
    index.map_or(1, |t| if t.dtype() == DType::Bool { t.rank() } else { 1 })
}

/// Both tensors of `take_along_dim`, made one shape but for their extents of `dim`.
fn broadcast_but(x: &Tensor, index: &Tensor, dim: isize) -> firesteel::Result<(Tensor, Tensor)> {
    const OP: &str = "take_along_dim";
    if x.rank() == 0 && index.rank() == 0 {
        return Err(Error::new(
            Kind::Index,
            format!("{OP}: Dimension specified as {dim} but tensor has no dimensions; unsqueeze both"),
        ));
    }
    if x.rank() != index.rank() {
        return Err(Error::new(Kind::Shape, format!(
            "{OP}: input and indices should have the same number of dimensions, but got {} dimensions for input, \
             and {} dimensions for indices; unsqueeze one of them",
            x.rank(),
            index.rank()
        )));
    }
    let d = normalize_dim(OP, dim, x.rank())?;
    let mut like_x: SmallVec<[usize; 4]> = index.shape().into();
    like_x[d] = x.shape()[d];
    let mut shape = broadcast_shapes(OP, x.shape(), &like_x)?;
    let x = x.expand(&shape)?;
    shape[d] = index.shape()[d];
    Ok((x, index.expand(&shape)?))
}

#[pymethods]
impl PyTensor {
    fn __getitem__(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<Out> {
        if let Ok(int) = key.cast_exact::<PyInt>() {
            let int = int_of(int)?;
            return match Loan::begin(py, 0) {
                Some(loan) => select("getitem", &self.lent(&loan), 0, int),
                None => select("getitem", &self.tensor(), 0, int),
            }
            .py(py)
            .map(Out);
        }
        let x = &self.tensor();
        let parsed = parse("getitem", x, key)?;
        if parsed.has_tensors() {
            let pick = || spoken_of("getitem", parsed.view.index(&parsed.indices));
            return enter(py, x.numel(), pick).map(Out);
        }
        if parsed.view.is_same(x) {
            // `x[...]` is a new tensor, never `x` itself.
            return super::view::alias(x).py(py).map(Out);
        }
        Ok(Out(parsed.view))
    }

    fn __setitem__(&self, py: Python<'_>, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let x = &self.tensor();
        let recorded = firesteel::autograd::is_recording() && x.requires_grad();
        firesteel::autograd::check_not_leaf("setitem", x, recorded).py(py)?;
        let value = match scalar_of(value) {
            Some(scalar) => Operand::Scalar(scalar),
            None => match value.cast::<PyTensor>() {
                Ok(tensor) => Operand::Tensor(tensor.get().tensor()),
                Err(_) => Operand::Tensor(tensor_of(value, Some(x.dtype()))?),
            },
        };
        let parsed = parse("setitem", x, key)?;
        enter(py, x.numel(), || spoken_of("setitem", assign(&parsed, value, x.dtype())))
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if self.tensor().rank() == 0 {
            return Err(PyTypeError::new_err("iteration over a 0-d tensor; use .item() for its number"));
        }
        Ok(super::join::tuple(py, self.tensor().unbind(0).py(py)?)?.try_iter()?.into_any())
    }

    fn __contains__(&self, py: Python<'_>, element: Operand) -> PyResult<bool> {
        let x = &self.tensor();
        let found = enter(py, x.numel(), || x.eq(&element.beside(x)?)?.any(&[], false))?;
        Ok(found.array().item_i64().py(py)? != 0)
    }

    /// index_select(input, dim, index) -> Tensor: positions of a dim in the order of a vector of ints.
    fn index_select(&self, py: Python<'_>, dim: isize, index: &Bound<'_, PyTensor>) -> PyResult<Out> {
        let (x, index) = (&self.tensor(), &index.get().tensor());
        enter(py, x.numel(), || x.index_select(dim, index)).map(Out)
    }

    /// gather(input, dim, index) -> Tensor: `out[i][j] = input[index[i][j]][j]` for dim 0.
    fn gather(&self, py: Python<'_>, dim: isize, index: &Bound<'_, PyTensor>) -> PyResult<Out> {
        let (x, index) = (&self.tensor(), &index.get().tensor());
        enter(py, index.numel(), || x.gather(dim, index)).map(Out)
    }

    /// take_along_dim(input, indices, dim=None) -> Tensor: the elements that `indices` name along `dim`. The other
    /// dims are broadcast; without `dim` both tensors are flattened.
    #[pyo3(signature = (indices, dim=None))]
    fn take_along_dim(
        &self,
        py: Python<'_>,
        indices: &Bound<'_, PyTensor>,
        dim: Option<isize>,
    ) -> PyResult<Out> {
        let (x, index) = (&self.tensor(), &indices.get().tensor());
        enter(py, index.numel(), || match dim {
            None => spoken_of(
                "take_along_dim",
                x.reshape(&[x.numel()])?.gather(0, &index.reshape(&[index.numel()])?),
            ),
            Some(dim) => {
                let (x, index) = broadcast_but(x, index, dim)?;
                spoken_of("take_along_dim", x.gather(dim, &index))
            }
        })
        .map(Out)
    }

    /// scatter(input, dim, index, src) -> Tensor: a copy with `src` (a tensor or a number) written at the indices.
    #[pyo3(signature = (dim, index, src=None, *, value=None))]
    fn scatter(
        &self,
        py: Python<'_>,
        dim: isize,
        index: &Bound<'_, PyTensor>,
        src: Option<Operand>,
        value: Option<Operand>,
    ) -> PyResult<Out> {
        let (x, index) = (&self.tensor(), &index.get().tensor());
        let src = source_of(py, x, index, src.or(value))?;
        enter(py, x.numel(), || x.scatter(dim, index, &src)).map(Out)
    }

    /// In-place `scatter`.
    #[pyo3(signature = (dim, index, src=None, *, value=None))]
    fn scatter_<'py>(
        slf: Bound<'py, Self>,
        dim: isize,
        index: &Bound<'py, PyTensor>,
        src: Option<Operand>,
        value: Option<Operand>,
    ) -> PyResult<Bound<'py, Self>> {
        let py = slf.py();
        let (x, index) = (&slf.get().tensor(), &index.get().tensor());
        let src = source_of(py, x, index, src.or(value))?;
        enter(py, x.numel(), || x.scatter_(dim, index, &src))?;
        Ok(slf)
    }

    /// scatter_add(input, dim, index, src) -> Tensor: a copy with `src` added at the indices.
    fn scatter_add(
        &self,
        py: Python<'_>,
        dim: isize,
        index: &Bound<'_, PyTensor>,
        src: &Bound<'_, PyTensor>,
    ) -> PyResult<Out> {
        let (x, index, src) = (&self.tensor(), &index.get().tensor(), &src.get().tensor());
        enter(py, x.numel(), || x.scatter_add(dim, index, src)).map(Out)
    }

    /// In-place `scatter_add`.
    fn scatter_add_<'py>(
        slf: Bound<'py, Self>,
        dim: isize,
        index: &Bound<'py, PyTensor>,
        src: &Bound<'py, PyTensor>,
    ) -> PyResult<Bound<'py, Self>> {
        let (x, index, src) = (&slf.get().tensor(), &index.get().tensor(), &src.get().tensor());
        enter(slf.py(), x.numel(), || x.scatter_add_(dim, index, src))?;
        Ok(slf)
    }

    /// index_add(input, dim, index, source, *, alpha=1) -> Tensor: a copy with slices of `source` added.
    #[pyo3(signature = (dim, index, source, *, alpha=None))]
    fn index_add(
        &self,
        py: Python<'_>,
        dim: isize,
        index: &Bound<'_, PyTensor>,
        source: &Bound<'_, PyTensor>,
        alpha: Option<crate::convert::Number>,
    ) -> PyResult<Out> {
        // Row-major, as in PyTorch.
        let x = self.tensor();
        let rows = x.contiguous().py(py)?;
        let out = if rows.is_same(&x) { x.copy().py(py)? } else { rows };
        index_add(py, &out, dim, index, source, alpha)?;
        Ok(Out(out))
    }

    /// In-place `index_add`.
    #[pyo3(signature = (dim, index, source, *, alpha=None))]
    fn index_add_<'py>(
        slf: Bound<'py, Self>,
        dim: isize,
        index: &Bound<'py, PyTensor>,
        source: &Bound<'py, PyTensor>,
        alpha: Option<crate::convert::Number>,
    ) -> PyResult<Bound<'py, Self>> {
        index_add(slf.py(), &slf.get().tensor(), dim, index, source, alpha)?;
        Ok(slf)
    }

    /// index_put_(indices, values, accumulate=False) -> Tensor: writes, or adds, at lists of indices.
    #[pyo3(signature = (indices, values, accumulate=false))]
    fn index_put_<'py>(
        slf: Bound<'py, Self>,
        indices: &Bound<'py, PyAny>,
        values: &Bound<'py, PyTensor>,
        #[pyo3(from_py_with = flag::accumulate)] accumulate: bool,
    ) -> PyResult<Bound<'py, Self>> {
        let items = super::sequence_of(indices);
        let indices = items.iter().map(index_tensor).collect::<PyResult<Vec<_>>>()?;
        let (x, values) = (&slf.get().tensor(), &values.get().tensor());
        enter(slf.py(), x.numel(), || x.index_put_(&indices, values, accumulate))?;
        Ok(slf)
    }

    /// masked_select(input, mask) -> Tensor: the elements where a bool mask holds, as a vector.
    fn masked_select(&self, py: Python<'_>, mask: &Bound<'_, PyTensor>) -> PyResult<Out> {
        let (x, mask) = (&self.tensor(), &mask.get().tensor());
        enter(py, x.numel(), || {
            firesteel::ensure!(
                mask.dtype() == DType::Bool,
                DType,
                "masked_select: expected a mask of dtype bool (BoolTensor), got {}; compare or convert with .bool() first",
                mask.dtype()
            );
            let shape = firesteel::layout::broadcast_shapes("masked_select", x.shape(), mask.shape())?;
            x.expand(&shape)?.index(&[Some(mask.expand(&shape)?)])
        })
        .map(Out)
    }

    /// nonzero(input, *, as_tuple=False) -> Tensor: indices of the elements that are not 0, one row each.
    #[pyo3(signature = (*, as_tuple=false))]
    fn nonzero<'py>(
        &self,
        py: Python<'py>,
        #[pyo3(from_py_with = flag::as_tuple)] as_tuple: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let x = &self.tensor();
        if as_tuple {
            let columns = enter(py, x.numel(), || x.nonzero_by_dim())?;
            return Ok(super::join::tuple(py, columns)?.into_any());
        }
        let rows = enter(py, x.numel(), || x.nonzero())?;
        Ok(Out(rows).into_pyobject(py)?.into_any())
    }
}

/// `view[indices] = value`.
fn assign(parsed: &Indexed, value: Operand, dtype: DType) -> firesteel::Result<()> {
    match (parsed.has_tensors(), value) {
        (false, Operand::Scalar(scalar)) => parsed.view.fill_(scalar),
        (false, Operand::Tensor(source)) => {
            parsed.view.copy_(&source.without_leading_ones(parsed.view.rank())?)
        }
        (true, Operand::Scalar(scalar)) => {
            // Of one element, so that `fill_`'s rule for numbers that do not fit is this one's, too.
            let value = Tensor::full(&[], scalar, dtype)?;
            parsed.view.index_put_(&parsed.indices, &value, false)
        }
        (true, Operand::Tensor(value)) => parsed.view.index_put_(&parsed.indices, &value, false),
    }
}

/// What `scatter` writes: a tensor, or a number for every index.
fn source_of(py: Python<'_>, x: &Tensor, index: &Tensor, src: Option<Operand>) -> PyResult<Tensor> {
    match src {
        Some(Operand::Tensor(src)) => Ok(src),
        Some(Operand::Scalar(scalar)) => {
            let value = Tensor::constant(scalar.to_value("scatter", x.dtype()).py(py)?);
            value.expand(index.shape()).py(py)
        }
        None => {
            Err(PyTypeError::new_err("scatter: missing 1 required argument: src; give a tensor or a number"))
        }
    }
}

fn index_add(
    py: Python<'_>,
    target: &Tensor,
    dim: isize,
    index: &Bound<'_, PyTensor>,
    source: &Bound<'_, PyTensor>,
    alpha: Option<crate::convert::Number>,
) -> PyResult<()> {
    let (index, source) = (&index.get().tensor(), &source.get().tensor());
    enter(py, target.numel(), || match alpha {
        // The factor takes the source's dtype, as in PyTorch; nothing is multiplied where nothing is added.
        Some(alpha) if source.numel() > 0 => {
            let factor = Tensor::constant(alpha.0.to_value("index_add", source.dtype())?);
            target.index_add_(dim, index, &source.mul(&factor)?)
        }
        _ => target.index_add_(dim, index, source),
    })
}

/// Methods that are also functions of the module.
pub const FUNCTIONS: &[&str] = &[
    "index_select",
    "gather",
    "take_along_dim",
    "scatter",
    "scatter_add",
    "index_add",
    "masked_select",
    "nonzero",
];
