//! Generators, seeds, and random tensors.

use crate::convert::{check_device, dim_of, float_of, ints_of, shape_of, size_of, DTypeArg, Operand};
use crate::create::model_of;
use crate::enter::enter;
use crate::error::{integer_range, IntoPy};
use crate::flag;
use crate::format;
use crate::tensor::{delivered, dtype_for, expect_no_history, Out, PyTensor};
use firesteel::format::MemoryFormat;
use firesteel::random::{default_generator, fresh_seed, use_thread_generator, Generator};
use firesteel::{Array, DType, Tensor};
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyTuple};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Generator(device="cpu")
///
/// A source of random numbers with a state of its own: PyTorch's numbers for the same seed.
#[pyclass(frozen, name = "Generator", module = "firesteel", weakref)]
pub struct PyGenerator(Option<Source>); // none: the default one of the thread that asks

/// Where the numbers of one call come from.
#[derive(Clone)]
struct Source(Arc<Mutex<Generator>>);

impl Default for Source {
    fn default() -> Self {
        Self(default_generator())
    }
}

impl Source {
    fn lock(&self) -> MutexGuard<'_, Generator> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PyGenerator {
    fn source(&self) -> Source {
        self.0.clone().unwrap_or_default()
    }
}

type GeneratorArg<'a, 'py> = Option<&'a Bound<'py, PyGenerator>>;

fn source(generator: GeneratorArg<'_, '_>) -> Source {
    generator.map_or_else(Source::default, |generator| generator.get().source())
}

/// `to` of `random_`: without it the first number is the end; `None` stands for the largest number.
enum End {
    Missing,
    Open,
    At(i64),
}

impl<'a, 'py> FromPyObject<'a, 'py> for End {
    type Error = PyErr;
    fn extract(value: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        Ok(value.extract::<Option<i64>>()?.map_or(End::Open, End::At))
    }
}

/// A seed as PyTorch takes it: 64 bits, negative ones counted from the end.
fn seed_of(seed: &Bound<'_, PyAny>) -> PyResult<u64> {
    if let Ok(seed) = seed.extract::<u64>() {
        return Ok(seed);
    }
    match seed.extract::<i64>() {
        Ok(seed) => Ok(seed as u64),
        Err(_) if seed.cast::<PyInt>().is_ok() => Err(integer_range(
            seed.py(),
            format!("manual_seed: Overflow when unpacking long long: {seed} does not fit into 64 bits; use a smaller seed"),
        )),
        Err(_) => Err(PyRuntimeError::new_err(format!(
            "manual_seed expected a long, but got {}; convert it with int()",
            seed.get_type().name()?
        ))),
    }
}

fn state_tensor(py: Python<'_>, source: &Source) -> PyResult<Out> {
    let state = source.lock().state();
    Ok(Out(Tensor::from_slice(&state, &[state.len()]).py(py)?))
}

fn restore(py: Python<'_>, source: &Source, state: &Bound<'_, PyTensor>) -> PyResult<()> {
    let state = &state.get().tensor();
    if state.dtype() != DType::U8 {
        return Err(PyTypeError::new_err(format!(
            "set_state: the RNG state must be a uint8 tensor, not {}",
            state.dtype()
        )));
    }
    let bytes = state.array().to_vec::<u8>().py(py)?;
    source.lock().set_state(&bytes).py(py)
}

#[pymethods]
impl PyGenerator {
    #[new]
    #[pyo3(signature = (device=None))]
    fn new(py: Python<'_>, device: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        check_device(py, device)?;
        Ok(Self(Some(Source(Arc::default()))))
    }

    /// Starts the sequence of `seed`.
    fn manual_seed<'py>(slf: Bound<'py, Self>, seed: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Self>> {
        let seed = seed_of(seed)?;
        slf.get().source().lock().manual_seed(seed);
        Ok(slf)
    }

    /// Starts the sequence of a seed that the system chooses, and returns it.
    fn seed(&self) -> u64 {
        let seed = fresh_seed();
        self.source().lock().manual_seed(seed);
        seed
    }

    /// The seed that the sequence was started with.
    fn initial_seed(&self) -> u64 {
        self.source().lock().initial_seed()
    }

    /// The state as a uint8 tensor.
    fn get_state(&self, py: Python<'_>) -> PyResult<Out> {
        state_tensor(py, &self.source())
    }

    /// Goes on from a state that `get_state` returned.
    fn set_state(&self, py: Python<'_>, new_state: &Bound<'_, PyTensor>) -> PyResult<()> {
        restore(py, &self.source(), new_state)
    }

    /// Always the CPU.
    #[getter]
    fn device<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        py.import("firesteel._types")?.getattr("cpu")
    }
}

/// manual_seed(seed) -> Generator: starts the default generator's sequence of `seed`.
#[pyfunction]
fn manual_seed(py: Python<'_>, seed: &Bound<'_, PyAny>) -> PyResult<Py<PyGenerator>> {
    // May run Python code: before the lock. What is no int becomes one, as in PyTorch.
    let seed = match seed.cast::<PyInt>() {
        Ok(seed) => seed_of(seed)?,
        Err(_) => seed_of(&py.get_type::<PyInt>().call1((seed,))?)?,
    };
    Source::default().lock().manual_seed(seed);
    Py::new(py, PyGenerator(None))
}

/// seed() -> int: starts the default generator with a seed that the system chooses.
#[pyfunction]
fn seed() -> u64 {
    let seed = fresh_seed();
    Source::default().lock().manual_seed(seed);
    seed
}

/// initial_seed() -> int: the seed of the default generator.
#[pyfunction]
fn initial_seed() -> u64 {
    Source::default().lock().initial_seed()
}

/// Gives the calling thread a default generator of its own, at the start of the sequence of `seed`.
#[pyfunction]
fn _use_thread_generator(seed: &Bound<'_, PyAny>) -> PyResult<()> {
    use_thread_generator(seed_of(seed)?);
    Ok(())
}

/// get_rng_state() -> Tensor: the default generator's state.
#[pyfunction]
fn get_rng_state(py: Python<'_>) -> PyResult<Out> {
    state_tensor(py, &Source::default())
}

/// set_rng_state(new_state): sets the default generator's state.
#[pyfunction]
fn set_rng_state(py: Python<'_>, new_state: &Bound<'_, PyTensor>) -> PyResult<()> {
    restore(py, &Source::default(), new_state)
}

fn numel_of(shape: &[usize]) -> usize {
    shape.iter().fold(1usize, |n, &extent| n.saturating_mul(extent))
}

fn finish(py: Python<'_>, tensor: Tensor, requires_grad: bool) -> PyResult<Out> {
    if requires_grad {
        tensor.set_requires_grad(true).py(py)?;
    }
    Ok(Out(tensor))
}

macro_rules! random_of_shape {
    ($($(#[doc = $doc:literal])+ $name:ident = $make:path;)*) => {
        $(
            $(#[doc = $doc])+
            #[pyfunction]
            #[pyo3(signature = (*args, size=None, generator=None, dtype=None, device=None, requires_grad=false, pin_memory=false, out=None))]
            fn $name<'py>(
                py: Python<'py>,
                args: &Bound<'py, PyTuple>,
                size: Option<&Bound<'py, PyAny>>,
                generator: GeneratorArg<'_, 'py>,
                dtype: Option<DTypeArg>,
                device: Option<&Bound<'py, PyAny>>,
                #[pyo3(from_py_with = flag::wants_grad)] requires_grad: bool,
                #[pyo3(from_py_with = flag::pin_memory)] pin_memory: bool,
                out: Option<&Bound<'py, PyAny>>,
            ) -> PyResult<Bound<'py, PyAny>> {
                let _ = pin_memory;
                check_device(py, device)?;
                let extents = size_of(stringify!($name), args, size)?;
                let shape = shape_of(stringify!($name), &extents)?;
                let dtype = dtype_for(stringify!($name), dtype, out)?.unwrap_or(DType::F32);
                let source = source(generator);
                let tensor = enter(py, numel_of(&shape), || $make(&shape, dtype, &mut source.lock()))?;
                delivered(py, stringify!($name), finish(py, tensor, requires_grad)?, out)
            }
        )*
    };
}

random_of_shape! {
    /// rand(*size, *, generator=None, dtype=None, requires_grad=False) -> Tensor: uniform in [0, 1).
    rand = Tensor::rand;
    /// randn(*size, *, generator=None, dtype=None, requires_grad=False) -> Tensor: normal with mean 0 and standard deviation 1.
    randn = Tensor::randn;
}

/// randint(low=0, high, size, *, generator=None, dtype=int64) -> Tensor: integers in [low, high).
#[pyfunction]
#[pyo3(signature = (*args, low=None, high=None, size=None, generator=None, dtype=None, device=None, requires_grad=false, out=None))]
fn randint<'py>(
    py: Python<'py>,
    args: &Bound<'py, PyTuple>,
    low: Option<i64>,
    high: Option<i64>,
    size: Option<&Bound<'py, PyAny>>,
    generator: GeneratorArg<'_, 'py>,
    dtype: Option<DTypeArg>,
    device: Option<&Bound<'py, PyAny>>,
    #[pyo3(from_py_with = flag::wants_grad)] requires_grad: bool,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    check_device(py, device)?;
    let mut items: Vec<Bound<'_, PyAny>> = args.iter().collect();
    let size = match size {
        Some(size) => size.clone(),
        None => {
            items.pop().ok_or_else(|| PyTypeError::new_err("randint() missing required argument: size"))?
        }
    };
    let mut numbers =
        items.iter().map(|item| dim_of(item).map(|n| n as i64)).collect::<PyResult<Vec<_>>>()?;
    let high = match high.or_else(|| numbers.pop()) {
        Some(high) => high,
        None => return Err(PyTypeError::new_err("randint() missing required argument: high")),
    };
    let low = low.or_else(|| numbers.pop()).unwrap_or(0);
    let shape = shape_of("randint", &ints_of(&size)?)?;
    let dtype = dtype_for("randint", dtype, out)?.unwrap_or(DType::I64);
    let source = source(generator);
    let tensor =
        enter(py, numel_of(&shape), || Tensor::randint(low, high, &shape, dtype, &mut source.lock()))?;
    delivered(py, "randint", finish(py, tensor, requires_grad)?, out)
}

/// randperm(n, *, generator=None, dtype=int64) -> Tensor: the integers 0..n in random order.
#[pyfunction]
#[pyo3(signature = (n, *, generator=None, dtype=None, device=None, requires_grad=false, out=None))]
fn randperm<'py>(
    py: Python<'py>,
    #[pyo3(from_py_with = dim_of)] n: isize,
    generator: GeneratorArg<'_, 'py>,
    dtype: Option<DTypeArg>,
    device: Option<&Bound<'py, PyAny>>,
    #[pyo3(from_py_with = flag::wants_grad)] requires_grad: bool,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    check_device(py, device)?;
    let n = usize::try_from(n).map_err(|_| {
        PyRuntimeError::new_err(format!("randperm: n must be non-negative, got {n}; use 0 or more"))
    })?;
    let source = source(generator);
    let dtype = dtype_for("randperm", dtype, out)?.unwrap_or(DType::I64);
    let tensor = enter(py, n, || Tensor::randperm(n, dtype, &mut source.lock()))?;
    delivered(py, "randperm", finish(py, tensor, requires_grad)?, out)
}

macro_rules! random_like {
    ($($(#[doc = $doc:literal])+ $name:ident = $make:path;)*) => {
        $(
            $(#[doc = $doc])+
            #[pyfunction]
            #[pyo3(signature = (input, *, generator=None, dtype=None, device=None, requires_grad=false, memory_format=None))]
            fn $name(
                py: Python<'_>,
                input: &Bound<'_, PyTensor>,
                generator: GeneratorArg<'_, '_>,
                dtype: Option<DTypeArg>,
                device: Option<&Bound<'_, PyAny>>,
                #[pyo3(from_py_with = flag::wants_grad)] requires_grad: bool,
                #[pyo3(from_py_with = format::wanted)] memory_format: Option<MemoryFormat>,
            ) -> PyResult<Out> {
                check_device(py, device)?;
                let x = &model_of(py, &input.get().tensor(), memory_format)?;
                let dtype = dtype.map_or(x.dtype(), |d| d.0);
                let source = source(generator);
                finish(py, enter(py, x.numel(), || $make(x, dtype, &mut source.lock()))?, requires_grad)
            }
        )*
    };
}

random_like! {
    /// rand_like(input, *, dtype=None) -> Tensor: uniform in [0, 1), in the input's shape.
    rand_like = Tensor::rand_like;
    /// randn_like(input, *, dtype=None) -> Tensor: normal with mean 0 and standard deviation 1, in the input's shape.
    randn_like = Tensor::randn_like;
}

/// randint_like(input, low=0, high, *, dtype=None) -> Tensor: integers in [low, high), in the input's shape.
#[pyfunction]
#[pyo3(signature = (input, low, high=None, *, generator=None, dtype=None, device=None))]
fn randint_like(
    py: Python<'_>,
    input: &Bound<'_, PyTensor>,
    low: i64,
    high: Option<i64>,
    generator: GeneratorArg<'_, '_>,
    dtype: Option<DTypeArg>,
    device: Option<&Bound<'_, PyAny>>,
) -> PyResult<Out> {
    check_device(py, device)?;
    let x = &input.get().tensor();
    let (low, high) = high.map_or((0, low), |high| (low, high));
    let dtype = dtype.map_or(x.dtype(), |d| d.0);
    let source = source(generator);
    enter(py, x.numel(), || x.randint_like(low, high, dtype, &mut source.lock())).map(Out)
}

/// bernoulli(input, *, generator=None) -> Tensor: 1 with the probability that each element names, else 0.
#[pyfunction]
#[pyo3(signature = (input, p=None, *, generator=None, out=None))]
fn bernoulli<'py>(
    py: Python<'py>,
    input: &Bound<'py, PyTensor>,
    p: Option<f64>,
    generator: GeneratorArg<'_, 'py>,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let x = input.get().tensor();
    let Some(dtype) = dtype_for("bernoulli", None, out)? else {
        return delivered(py, "bernoulli", zeros_and_ones(py, &x, p, generator)?, out);
    };
    expect_no_history("bernoulli", &[&x]).py(py)?;
    // Any dtype holds zeros and ones.
    let drawn = zeros_and_ones(py, &x, p, generator)?.0.detach().to_dtype(dtype).py(py)?;
    delivered(py, "bernoulli", Out(drawn), out)
}

/// 1 with probability `p`, without it with the probability that each element of `x` names.
fn zeros_and_ones(
    py: Python<'_>,
    x: &Tensor,
    p: Option<f64>,
    generator: GeneratorArg<'_, '_>,
) -> PyResult<Out> {
    let source = source(generator);
    enter(py, x.numel(), || match p {
        None => x.bernoulli(&mut source.lock()),
        Some(p) => {
            let out = Tensor::empty(x.shape(), x.dtype())?;
            out.bernoulli_(p, &mut source.lock())?;
            Ok(out)
        }
    })
    .map(Out)
}

/// multinomial(input, num_samples, replacement=False, *, generator=None) -> Tensor: classes of each row of weights, as
/// int64; without replacement each at most once.
#[pyfunction]
#[pyo3(signature = (input, num_samples, replacement=false, *, generator=None, out=None))]
fn multinomial<'py>(
    py: Python<'py>,
    input: &Bound<'py, PyTensor>,
    num_samples: i64,
    #[pyo3(from_py_with = flag::replacement)] replacement: bool,
    generator: GeneratorArg<'_, 'py>,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    delivered(
        py,
        "multinomial",
        classes(py, &input.get().tensor(), num_samples, replacement, generator)?,
        out,
    )
}

fn classes(
    py: Python<'_>,
    weights: &Tensor,
    num_samples: i64,
    replacement: bool,
    generator: GeneratorArg<'_, '_>,
) -> PyResult<Out> {
    let source = source(generator);
    enter(py, weights.numel(), || weights.multinomial(num_samples, replacement, &mut source.lock())).map(Out)
}

/// normal(mean, std, size=None, *, generator=None) -> Tensor: normal numbers; mean and std are numbers or tensors.
#[pyfunction]
#[pyo3(signature = (mean=Operand::Scalar(firesteel::Scalar::Float(0.0)), std=Operand::Scalar(firesteel::Scalar::Float(1.0)), size=None, *, generator=None, dtype=None, device=None, requires_grad=false, out=None))]
fn normal<'py>(
    py: Python<'py>,
    mean: Operand,
    std: Operand,
    size: Option<&Bound<'py, PyAny>>,
    generator: GeneratorArg<'_, 'py>,
    dtype: Option<DTypeArg>,
    device: Option<&Bound<'py, PyAny>>,
    #[pyo3(from_py_with = flag::wants_grad)] requires_grad: bool,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    check_device(py, device)?;
    if out.is_some() {
        let given =
            [&mean, &std].into_iter().filter_map(|x| if let Operand::Tensor(x) = x { Some(x) } else { None });
        expect_no_history("normal", &given.collect::<Vec<_>>()).py(py)?;
    }
    let source = source(generator);
    let draw = |shape: &[usize], dtype: DType, mean: f64, std: f64| -> firesteel::Result<Tensor> {
        let out = Tensor::constant(Array::empty(shape, dtype)?);
        out.normal_(mean, std, &mut source.lock())?;
        Ok(out)
    };
    let tensor = match (mean, std) {
        (Operand::Scalar(mean), Operand::Scalar(std)) => {
            let Some(size) = size else {
                return Err(PyTypeError::new_err(
                    "normal() with two numbers needs size, the shape of the result",
                ));
            };
            let shape = shape_of("normal", &ints_of(size)?)?;
            let dtype = dtype_for("normal", dtype, out)?.unwrap_or(DType::F32);
            draw(&shape, dtype, mean.to_f64(), std.to_f64())
        }
        (Operand::Tensor(mean), Operand::Scalar(std)) => draw(mean.shape(), mean.dtype(), 0.0, std.to_f64())
            .and_then(|noise| noise.add(&mean.detach()))
            .and_then(|drawn| drawn.drawn("NormalBackward1", &[&mean])),
        (mean, Operand::Tensor(std)) => {
            let given = if let Operand::Tensor(mean) = &mean { Some(mean.clone()) } else { None };
            draw(std.shape(), std.dtype(), 0.0, 1.0)
                .and_then(|noise| noise.mul(&std.detach()))
                .and_then(|noise| noise.add(&mean.beside(&std)?.detach()))
                .and_then(|drawn| match &given {
                    Some(mean) => drawn.drawn("NormalBackward3", &[mean, &std]),
                    None => drawn.drawn("NormalBackward2", &[&std]),
                })
        }
    };
    delivered(py, "normal", finish(py, tensor.py(py)?, requires_grad)?, out)
}

#[pymethods]
impl PyTensor {
    /// uniform_(from=0, to=1) -> Tensor: overwrites with uniform numbers in [from, to).
    #[pyo3(signature = (r#from=0.0, to=1.0, *, generator=None))]
    fn uniform_<'py>(
        slf: Bound<'py, Self>,
        #[pyo3(from_py_with = float_of)] r#from: f64,
        #[pyo3(from_py_with = float_of)] to: f64,
        generator: GeneratorArg<'_, 'py>,
    ) -> PyResult<Bound<'py, Self>> {
        let (x, source) = (&slf.get().tensor(), source(generator));
        enter(slf.py(), x.numel(), || x.uniform_(r#from, to, &mut source.lock()))?;
        Ok(slf)
    }

    /// normal_(mean=0, std=1) -> Tensor: overwrites with normal numbers.
    #[pyo3(signature = (mean=0.0, std=1.0, *, generator=None))]
    fn normal_<'py>(
        slf: Bound<'py, Self>,
        #[pyo3(from_py_with = float_of)] mean: f64,
        #[pyo3(from_py_with = float_of)] std: f64,
        generator: GeneratorArg<'_, 'py>,
    ) -> PyResult<Bound<'py, Self>> {
        let (x, source) = (&slf.get().tensor(), source(generator));
        enter(slf.py(), x.numel(), || x.normal_(mean, std, &mut source.lock()))?;
        Ok(slf)
    }

    /// bernoulli(p=None) -> Tensor: 1 with probability p, without it with the probability that each element
    /// names, else 0.
    #[pyo3(signature = (p=None, *, generator=None))]
    fn bernoulli(&self, py: Python<'_>, p: Option<f64>, generator: GeneratorArg<'_, '_>) -> PyResult<Out> {
        zeros_and_ones(py, &self.tensor(), p, generator)
    }

    /// multinomial(num_samples, replacement=False) -> Tensor: classes of each row of weights, as int64; without
    /// replacement each at most once.
    #[pyo3(signature = (num_samples, replacement=false, *, generator=None))]
    fn multinomial(
        &self,
        py: Python<'_>,
        num_samples: i64,
        #[pyo3(from_py_with = flag::replacement)] replacement: bool,
        generator: GeneratorArg<'_, '_>,
    ) -> PyResult<Out> {
        classes(py, &self.tensor(), num_samples, replacement, generator)
    }

    /// bernoulli_(p=0.5) -> Tensor: overwrites with 1 at probability p (a number or a tensor), else 0.
    #[pyo3(signature = (p=Operand::Scalar(firesteel::Scalar::Float(0.5)), *, generator=None))]
    fn bernoulli_<'py>(
        slf: Bound<'py, Self>,
        p: Operand,
        generator: GeneratorArg<'_, 'py>,
    ) -> PyResult<Bound<'py, Self>> {
        let (x, source) = (&slf.get().tensor(), source(generator));
        enter(slf.py(), x.numel(), || match p {
            Operand::Scalar(p) => x.bernoulli_(p.to_f64(), &mut source.lock()),
            Operand::Tensor(p) => x.bernoulli_each_(&p, &mut source.lock()),
        })?;
        Ok(slf)
    }

    /// random_(from=0, to=None) -> Tensor: overwrites with integers in [from, to), or any that the dtype can hold.
    #[pyo3(signature = (r#from=None, to=End::Missing, *, generator=None), text_signature = "($self, from=None, to=None, *, generator=None)")]
    fn random_<'py>(
        slf: Bound<'py, Self>,
        r#from: Option<i64>,
        to: End,
        generator: GeneratorArg<'_, 'py>,
    ) -> PyResult<Bound<'py, Self>> {
        let (x, source) = (&slf.get().tensor(), source(generator));
        let range = match (r#from, to) {
            (None, End::Missing | End::Open) => None,
            (Some(to), End::Missing) => Some((0, Some(to))),
            (Some(from), End::Open) => Some((from, None)),
            (from, End::At(to)) => Some((from.unwrap_or(0), Some(to))),
        };
        enter(slf.py(), x.numel(), || x.random_(range, &mut source.lock()))?;
        Ok(slf)
    }

    /// exponential_(lambd=1) -> Tensor: overwrites with exponentially distributed numbers.
    #[pyo3(signature = (lambd=1.0, *, generator=None))]
    fn exponential_<'py>(
        slf: Bound<'py, Self>,
        #[pyo3(from_py_with = float_of)] lambd: f64,
        generator: GeneratorArg<'_, 'py>,
    ) -> PyResult<Bound<'py, Self>> {
        let (x, source) = (&slf.get().tensor(), source(generator));
        enter(slf.py(), x.numel(), || x.exponential_(lambd, &mut source.lock()))?;
        Ok(slf)
    }
}

/// Adds the class and the functions.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<PyGenerator>()?;
    m.add("default_generator", Py::new(m.py(), PyGenerator(None))?)?;
    m.add_function(wrap_pyfunction!(manual_seed, m)?)?;
    m.add_function(wrap_pyfunction!(seed, m)?)?;
    m.add_function(wrap_pyfunction!(initial_seed, m)?)?;
    m.add_function(wrap_pyfunction!(_use_thread_generator, m)?)?;
    m.add_function(wrap_pyfunction!(get_rng_state, m)?)?;
    m.add_function(wrap_pyfunction!(set_rng_state, m)?)?;
    m.add_function(wrap_pyfunction!(rand, m)?)?;
    m.add_function(wrap_pyfunction!(randn, m)?)?;
    m.add_function(wrap_pyfunction!(randint, m)?)?;
    m.add_function(wrap_pyfunction!(randperm, m)?)?;
    m.add_function(wrap_pyfunction!(rand_like, m)?)?;
    m.add_function(wrap_pyfunction!(randn_like, m)?)?;
    m.add_function(wrap_pyfunction!(randint_like, m)?)?;
    m.add_function(wrap_pyfunction!(bernoulli, m)?)?;
    m.add_function(wrap_pyfunction!(multinomial, m)?)?;
    m.add_function(wrap_pyfunction!(normal, m)?)
}
