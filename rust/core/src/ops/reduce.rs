//! Sums, means, products and counts over dims, and what all reductions share: which dims, which shape.

use crate::array::Array;
use crate::autograd::{apply::apply, Grads, Op, Saved, Saves};
use crate::dtype::{bf16, f16, Bool, Element};
use crate::kernels::num::Num;
use crate::kernels::reduce::{reduce, By, Fold, Itself, Load, Plus, Times};
use crate::layout::{normalize_dim, Dims};
use crate::tensor::Tensor;
use crate::{bail, dispatch_all, ensure, DType, Result};
use smallvec::SmallVec;

/// One flag per dim.
pub(super) type Mask = SmallVec<[bool; 4]>;

/// Which dims a reduction removes, as a mask; all of them for an empty list.
pub(super) fn reduced_dims(op: &str, dims: &[isize], rank: usize) -> Result<Mask> {
    if dims.is_empty() {
        return Ok(Mask::from_elem(true, rank));
    }
    let mut mask = Mask::from_elem(false, rank);
    let mut seen: SmallVec<[usize; 4]> = SmallVec::new();
    for &dim in dims {
        let d = normalize_dim(op, dim, rank)?;
        ensure!(
            !seen.contains(&d),
            Value,
            "{op}: dim {d} appears multiple times in the list of dims {dims:?}; name each dim once"
        );
        seen.push(d);
        if rank > 0 {
            mask[d] = true;
        }
    }
    Ok(mask)
}

/// The result's shape, with reduced dims as 1 or dropped.
pub(super) fn reduced_shape(shape: &[usize], mask: &[bool], keepdim: bool) -> Dims {
    let dims = shape.iter().zip(mask);
    dims.filter(|(_, &reduced)| keepdim || !reduced)
        .map(|(&n, &reduced)| if reduced { 1 } else { n })
        .collect()
}

/// A gradient of the reduced shape, repeated along the reduced dims.
pub(super) fn expand_reduced(grad: &Tensor, mask: &[bool], keepdim: bool, shape: &[usize]) -> Result<Tensor> {
    let grad = if keepdim { grad.clone() } else { grad.reshape(&reduced_shape(shape, mask, true))? };
    grad.expand(shape)
}

/// The dims that a reduction removes, and whether they stay as extents of 1.
#[derive(Debug, Clone)]
pub(super) struct Over {
    /// The reduced dims.
    pub mask: Mask,
    /// Whether they stay.
    pub keepdim: bool,
    /// Whether no dims were named: PyTorch's node names differ.
    pub all: bool,
    /// How many dims were named.
    named: usize,
}

impl Over {
    pub(super) fn new(op: &str, x: &Tensor, dims: &[isize], keepdim: bool) -> Result<Self> {
        let mask = reduced_dims(op, dims, x.rank())?;
        Ok(Self { mask, keepdim, all: dims.is_empty() && !keepdim, named: dims.len() })
    }

    /// The result's shape.
    pub(super) fn shape(&self, shape: &[usize]) -> Dims {
        reduced_shape(shape, &self.mask, self.keepdim)
    }

    /// Elements per result.
    pub(super) fn count(&self, shape: &[usize]) -> usize {
        shape.iter().zip(&self.mask).filter(|(_, &reduced)| reduced).map(|(&n, _)| n).product()
    }

    /// A tensor of the result's shape, repeated to the input's.
    pub(super) fn expand(&self, x: &Tensor, shape: &[usize]) -> Result<Tensor> {
        expand_reduced(x, &self.mask, self.keepdim, shape)
    }

    /// PyTorch's name of the node: 0 for all dims, 1 for named ones.
    pub(super) fn node_name(&self, op: &str) -> String {
        format!("{op}Backward{}", u8::from(!self.all))
    }

    /// The same dims, kept: for gradient rules.
    pub(super) fn kept(&self) -> Self {
        Self { keepdim: true, all: false, ..self.clone() }
    }

    /// A reduced array in the result's shape.
    pub(super) fn finish(&self, reduced: Array, shape: &[usize]) -> Array {
        reduced.into_layout(crate::Layout::contiguous(&self.shape(shape)))
    }

    /// Checks that an operation without a value for nothing has elements to reduce.
    pub(super) fn check_not_empty(&self, op: &str, shape: &[usize]) -> Result<()> {
        // A dim without elements is refused even where the result has none either.
        if self.count(shape) > 0 && (self.named > 0 || shape.iter().all(|&n| n > 0)) {
            return Ok(());
        }
        if self.named == 0 {
            bail!(
                Value,
                "{op}: Expected reduction dim to be specified for input.numel() == 0, of shape {shape:?}; specify \
                 the reduction dim with the 'dim' argument"
            );
        }
        let dim = (0..shape.len()).find(|&d| self.mask[d] && shape[d] == 0).unwrap_or(0);
        bail!(
            Index,
            "{op}: Expected reduction dim {dim} to have non-zero size, in shape {shape:?}; reduce a tensor with elements"
        )
    }
}

/// An element type and the one that its sums are computed in.
trait Summed: Element {
    /// The type of sums.
    type Sum: Num;
    /// How an element becomes one of those.
    type Load: Load<Self, Self::Sum>;
    /// The same as a value.
    const LOAD: Self::Load;
}

/// The element in a wider type.
#[derive(Clone, Copy)]
struct Widened;

macro_rules! summed {
    ($($type:ty => $sum:ty: |$x:ident| $widen:expr;)*) => {
        $(
            impl Load<$type, $sum> for Widened {
                #[inline(always)]
                fn load(self, $x: $type) -> $sum {
                    $widen
                }
            }
            impl Summed for $type {
                type Sum = $sum;
                type Load = Widened;
                const LOAD: Widened = Widened;
            }
        )*
    };
    ($($type:ty,)*) => {
        $(impl Summed for $type {
            type Sum = $type;
            type Load = Itself; // and not a conversion: sums of partial sums are the same loops then
            const LOAD: Itself = Itself;
        })*
    };
}
summed! {
    Bool => i64: |x| i64::from(x.get());
    u8 => i64: |x| i64::from(x);
    i32 => i64: |x| i64::from(x);
    f16 => f32: |x| x.to_f32();
    bf16 => f32: |x| x.to_f32();
}
summed! { i64, f32, f64, }

/// The dtype of sums of `dtype`: itself if float, else int64.
fn sum_dtype(dtype: DType) -> DType {
    if dtype.is_float() {
        dtype
    } else {
        DType::I64
    }
}

fn sums<T: Summed, F: Fold<T::Sum>>(x: &Array, mask: &[bool], fold: F) -> Result<Array> {
    reduce::<T, T::Sum, _, _>(x, mask, T::LOAD, fold)
}

/// The sum of an array over dims.
pub(super) fn sum_array(x: &Array, over: &Over) -> Result<Array> {
    let sum = dispatch_all!(x.dtype(), T => sums::<T, _>(x, &over.mask, Plus))?;
    over.finish(sum, x.shape()).into_dtype(sum_dtype(x.dtype()))
}

/// Sum over dims; integers and bool give int64.
#[derive(Debug)]
struct Sum(Over);

impl Op<1> for Sum {
    const NAME: &'static str = "sum";

    fn grad_fn_name(&self) -> String {
        self.0.node_name("Sum")
    }

    fn forward(&mut self, [x]: [&Array; 1]) -> Result<Array> {
        sum_array(x, &self.0)
    }

    fn backward(&self, saved: &Saved<1>, grad: &Tensor) -> Result<Grads<1>> {
        Ok([Some(self.0.expand(grad, &saved.shape(0))?)])
    }
}

/// Sum over dims of the elements that are not NaN.
#[derive(Debug)]
struct NanSum(Over);

fn nan_sums<T: Summed>(x: &Array, mask: &[bool]) -> Result<Array> {
    let load = By(|x: T| {
        let x = T::LOAD.load(x);
        if x.is_nan() {
            T::Sum::ZERO
        } else {
            x
        }
    });
    reduce::<T, T::Sum, _, _>(x, mask, load, Plus)
}

impl Op<1> for NanSum {
    const NAME: &'static str = "nansum";

    fn saves(&self, _needs: [bool; 1]) -> Saves<1> {
        Saves::all_inputs()
    }

    fn forward(&mut self, [x]: [&Array; 1]) -> Result<Array> {
        let sum = match x.dtype() {
            DType::F16 => nan_sums::<f16>(x, &self.0.mask)?,
            DType::BF16 => nan_sums::<bf16>(x, &self.0.mask)?,
            DType::F32 => nan_sums::<f32>(x, &self.0.mask)?,
            DType::F64 => nan_sums::<f64>(x, &self.0.mask)?,
            _ => return sum_array(x, &self.0), // no integer is NaN
        };
        self.0.finish(sum, x.shape()).into_dtype(x.dtype())
    }

    fn backward(&self, saved: &Saved<1>, grad: &Tensor) -> Result<Grads<1>> {
        let is_number = saved.input(0)?.isnan()?.logical_not()?;
        let grad = self.0.expand(grad, &saved.shape(0))?;
        Ok([Some(super::clamp::masked(&grad, &is_number)?)])
    }
}

/// Arithmetic mean over dims.
#[derive(Debug)]
struct Mean(Over);

fn means<T: Summed>(x: &Array, over: &Over) -> Result<Array> {
    let mut sum = sums::<T, _>(x, &over.mask, Plus)?;
    let count = over.count(x.shape()) as f64;
    // Divided before it is rounded to a 16-bit type. The result is row-major and new.
    for value in sum.slice_mut::<T::Sum>() {
        *value = T::Sum::from_f64(value.to_f64() / count);
    }
    Ok(sum)
}

impl Op<1> for Mean {
    const NAME: &'static str = "mean";

    fn grad_fn_name(&self) -> String {
        self.0.node_name("Mean")
    }

    fn forward(&mut self, [x]: [&Array; 1]) -> Result<Array> {
        let mean = match x.dtype() {
            DType::F16 => means::<f16>(x, &self.0),
            DType::BF16 => means::<bf16>(x, &self.0),
            DType::F32 => means::<f32>(x, &self.0),
            DType::F64 => means::<f64>(x, &self.0),
            other => bail!(
                DType,
                "mean: could not infer output dtype. Input dtype must be either a floating point or complex \
                 dtype. Got: {}; convert with .float() first",
                other.scalar_name()
            ),
        }?;
        self.0.finish(mean, x.shape()).into_dtype(x.dtype())
    }

    fn backward(&self, saved: &Saved<1>, grad: &Tensor) -> Result<Grads<1>> {
        let shape = saved.shape(0);
        Ok([Some(self.0.expand(&(grad / self.0.count(&shape) as f64), &shape)?)])
    }
}

/// Product over all elements or along one dim.
#[derive(Debug)]
struct Prod {
    over: Over,
    /// None for all dims.
    dim: Option<usize>,
}

impl Op<1> for Prod {
    const NAME: &'static str = "prod";

    fn grad_fn_name(&self) -> String {
        self.over.node_name("Prod")
    }

    fn saves(&self, _needs: [bool; 1]) -> Saves<1> {
        Saves::all_inputs().and_output()
    }

    fn forward(&mut self, [x]: [&Array; 1]) -> Result<Array> {
        let product = match x.dtype() {
            DType::F64 => sums::<f64, _>(x, &self.over.mask, Times),
            dtype if dtype.is_float() => sums::<f32, _>(x, &self.over.mask, Times),
            _ => sums::<i64, _>(x, &self.over.mask, Times),
        }?;
        self.over.finish(product, x.shape()).into_dtype(sum_dtype(x.dtype()))
    }

    fn backward(&self, saved: &Saved<1>, grad: &Tensor) -> Result<Grads<1>> {
        let x = saved.input(0)?;
        let shape = saved.shape(0);
        let grad = self.over.expand(grad, &shape)?;
        if !has_zero(&x)? {
            return Ok([Some(grad * self.over.expand(&saved.output()?, &shape)? / x)]);
        }
        let others = match self.dim {
            Some(dim) => others_product(&x, dim)?,
            None => others_product(&x.reshape(&[x.numel()])?, 0)?.reshape(&shape)?,
        };
        Ok([Some(grad * others)])
    }
}

/// Whether an element is 0.
pub(super) fn has_zero(x: &Tensor) -> Result<bool> {
    any_zero(x.array())
}

/// As `has_zero`, of an array.
pub(super) fn any_zero(x: &Array) -> Result<bool> {
    let nonzero = x.to_dtype(DType::Bool)?.into_contiguous()?;
    Ok(nonzero.slice::<Bool>().contains(&Bool::from(false)))
}

/// Each element's product of all others along `dim`, by halving: right at zeros in every derivative.
fn others_product(x: &Tensor, dim: usize) -> Result<Tensor> {
    let n = x.shape()[dim];
    if n == 1 {
        return Tensor::ones(x.shape(), x.dtype());
    }
    let d = dim as isize;
    let half = n / 2;
    let (a, b) = (x.narrow(d, 0, half)?, x.narrow(d, half as isize, half)?);
    // An odd one out is a factor of every pair's others, and the pairs are all of its own.
    let pairs = &a * &b;
    let mut others = others_product(&pairs, dim)?;
    let mut odd = None;
    if n % 2 == 1 {
        let last = x.narrow(d, 2 * half as isize, 1)?;
        odd = Some(pairs.narrow(d, 0, 1)? * others.narrow(d, 0, 1)?);
        others = others * last;
    }
    let (first, second) = (&others * b, others * a);
    match odd {
        Some(odd) => Tensor::cat(&[&first, &second, &odd], d),
        None => Tensor::cat(&[&first, &second], d),
    }
}

impl Tensor {
    /// Sum over `dims` (all if empty); integers and bool give int64.
    pub fn sum(&self, dims: &[isize], keepdim: bool) -> Result<Tensor> {
        apply(Sum(Over::new("sum", self, dims, keepdim)?), [self])
    }

    /// Sum over `dims` (all if empty) that counts NaN as 0.
    pub fn nansum(&self, dims: &[isize], keepdim: bool) -> Result<Tensor> {
        apply(NanSum(Over::new("nansum", self, dims, keepdim)?), [self])
    }

    /// Arithmetic mean over `dims` (all if empty).
    pub fn mean(&self, dims: &[isize], keepdim: bool) -> Result<Tensor> {
        apply(Mean(Over::new("mean", self, dims, keepdim)?), [self])
    }

    /// Product of all elements, or along `dim`; integers and bool give int64.
    pub fn prod(&self, dim: Option<isize>, keepdim: bool) -> Result<Tensor> {
        let dims = dim.as_slice();
        let over = Over::new("prod", self, dims, keepdim)?;
        let dim = (0..self.rank()).find(|&d| over.mask[d] && !dims.is_empty());
        apply(Prod { over, dim }, [self])
    }

    /// Number of elements over `dims` (all if empty) that are not 0.
    pub fn count_nonzero(&self, dims: &[isize]) -> Result<Tensor> {
        let over = Over::new("count_nonzero", self, dims, false)?;
        let x = self.array();
        let count = sums::<Bool, _>(x, &over.mask, Plus)?; // converted: 0 is false, all else true
        Ok(Tensor::constant(over.finish(count, x.shape())))
    }

    /// Sums dims that broadcasting repeated, so that the result has `shape`.
    pub(crate) fn sum_to_size(&self, shape: &[usize]) -> Result<Tensor> {
        ensure!(
            shape.len() <= self.rank(),
            Shape,
            "sum_to_size: a gradient of shape {:?} for an input of shape {shape:?}; it must have that shape, or one \
             that the input broadcasts to",
            self.shape()
        );
        let lead = self.rank() - shape.len();
        let dims: SmallVec<[isize; 4]> = (0..self.rank())
            .filter(|&d| d < lead || (shape[d - lead] == 1 && self.shape()[d] != 1))
            .map(|d| d as isize)
            .collect();
        let sum = if dims.is_empty() { self.clone() } else { self.sum(&dims, true)? };
        sum.reshape(shape)
    }
}
