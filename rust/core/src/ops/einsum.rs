//! Sums of products written as an equation.
//!
//! Operands are joined from left to right. What two operands share and nobody needs later is
//! contracted by a matrix product; what they share and is needed is its batch.

use crate::layout::Dims;
use crate::tensor::Tensor;
use crate::{bail, ensure, Result};
use smallvec::SmallVec;

/// Names a dim: letters first (`A` is 0, `a` is 26), then the dims that ellipses stand for.
type Label = usize;
type Labels = SmallVec<[Label; 6]>;

const LETTERS: usize = 52;

/// A side of an equation: labels, and where its ellipsis stands.
#[derive(Debug, Default, Clone)]
struct Subscripts {
    labels: Labels,
    ellipsis: Option<usize>,
}

fn letter(label: Label) -> String {
    match label {
        0..26 => char::from(b'A' + label as u8).to_string(),
        26..LETTERS => char::from(b'a' + (label - 26) as u8).to_string(),
        _ => "...".into(),
    }
}

/// The equation cut at commas and the arrow.
fn parse(equation: &str) -> Result<(Vec<Subscripts>, Option<Subscripts>)> {
    let mut sides = vec![Subscripts::default()];
    let mut has_arrow = false;
    let mut chars = equation.char_indices().filter(|(_, c)| *c != ' ').peekable();
    while let Some((at, c)) = chars.next() {
        let side = sides.last_mut().expect("starts with one");
        match c {
            'A'..='Z' => side.labels.push(c as usize - 'A' as usize),
            'a'..='z' => side.labels.push(c as usize - 'a' as usize + 26),
            ',' if !has_arrow => sides.push(Subscripts::default()),
            '-' if !has_arrow && chars.next_if(|(_, c)| *c == '>').is_some() => {
                has_arrow = true;
                sides.push(Subscripts::default());
            }
            '.' if side.ellipsis.is_none() && (0..2).all(|_| chars.next_if(|(_, c)| *c == '.').is_some()) => {
                side.ellipsis = Some(side.labels.len());
            }
            _ => bail!(
                Value,
                "einsum: invalid subscript given at index {at} in the equation string {equation:?}; subscripts \
                 must be in [a-zA-Z], with ',' between operands, at most one '...' in each, and one '->'"
            ),
        }
    }
    let output = if has_arrow { sides.pop() } else { None };
    Ok((sides, output))
}

/// The labels of an operand, with its ellipsis expanded; `span` is the longest of all operands'.
fn expand(side: &Subscripts, own: usize, span: usize) -> Labels {
    let mut labels = side.labels.clone();
    if let Some(at) = side.ellipsis {
        // Aligned at the end, as shapes broadcast.
        labels.insert_many(at, LETTERS + span - own..LETTERS + span);
    }
    labels
}

/// Number of dims that each operand's ellipsis stands for.
fn ellipsis_spans(sides: &[Subscripts], operands: &[&Tensor]) -> Result<Vec<usize>> {
    let mut spans = Vec::with_capacity(sides.len());
    for (i, (side, x)) in sides.iter().zip(operands).enumerate() {
        let named = side.labels.len();
        let fits = if side.ellipsis.is_some() { named <= x.rank() } else { named == x.rank() };
        ensure!(
            fits,
            Shape,
            "einsum: the number of subscripts in the equation ({named}) {} the number of dimensions ({}) for \
             operand {i} of shape {:?}{}; give one letter per dim",
            if side.ellipsis.is_some() { "is more than" } else { "does not match" },
            x.rank(),
            x.shape(),
            if side.ellipsis.is_some() { "" } else { " and no ellipsis was given" }
        );
        spans.push(x.rank() - named);
    }
    Ok(spans)
}

/// The output's labels: as written, or by the rule for equations without an arrow: the ellipsis, then
/// in alphabetic order what appears once.
fn output_labels(output: Option<&Subscripts>, inputs: &[Labels], span: usize) -> Result<Labels> {
    let count = |label: Label| inputs.iter().flatten().filter(|&&l| l == label).count();
    let Some(output) = output else {
        let ellipsis = LETTERS..LETTERS + span;
        return Ok(ellipsis.chain((0..LETTERS).filter(|&l| count(l) == 1)).collect());
    };
    for (i, &label) in output.labels.iter().enumerate() {
        let name = letter(label);
        ensure!(
            !output.labels[..i].contains(&label),
            Value,
            "einsum: output subscript '{name}' appears more than once in the output; name it once"
        );
        ensure!(
            count(label) > 0,
            Value,
            "einsum: output subscript {name} does not appear in the equation for any input operand; \
             leave it out, or name it in an operand"
        );
    }
    Ok(expand(output, span, span))
}

/// Refuses extents of one label that differ and do not broadcast.
fn check_extents(inputs: &[Labels], operands: &[&Tensor], span: usize) -> Result<()> {
    let mut seen = vec![1; LETTERS + span];
    for (i, (labels, x)) in inputs.iter().zip(operands).enumerate() {
        let mut own: SmallVec<[(Label, usize); 6]> = SmallVec::new();
        for (&label, &extent) in labels.iter().zip(x.shape()) {
            let name = letter(label);
            if let Some((_, first)) = own.iter().find(|(l, _)| *l == label) {
                ensure!(
                    *first == extent,
                    Shape,
                    "einsum: subscript {name} is repeated for operand {i} but the sizes don't match, \
                     {extent} != {first}; use two letters"
                );
            }
            own.push((label, extent));
            ensure!(
                seen[label] == extent || seen[label] == 1 || extent == 1,
                Shape,
                "einsum: subscript {name} has size {extent} for operand {i} which does not broadcast with \
                 previously seen size {}; use two letters, or expand one of the operands",
                seen[label]
            );
            if extent != 1 {
                seen[label] = extent;
            }
        }
    }
    Ok(())
}

/// A tensor whose dims have names, each a different one.
#[derive(Debug, Clone)]
struct Named {
    tensor: Tensor,
    labels: Labels,
}

impl Named {
    /// Takes the diagonals of labels that are repeated.
    fn new(tensor: &Tensor, mut labels: Labels) -> Result<Self> {
        let mut tensor = tensor.clone();
        let twice = |labels: &Labels| {
            (0..labels.len()).find_map(|j| labels[..j].iter().position(|&l| l == labels[j]).map(|i| (i, j)))
        };
        while let Some((i, j)) = twice(&labels) {
            tensor = tensor.diagonal(0, i as isize, j as isize)?;
            let label = labels.remove(j);
            labels.remove(i);
            labels.push(label);
        }
        Ok(Self { tensor, labels })
    }

    fn extent(&self, label: Label) -> Option<usize> {
        self.labels.iter().position(|&l| l == label).map(|d| self.tensor.shape()[d])
    }

    /// Sums the dims for which `drop` holds, in the operand's dtype: a part of a product.
    fn sum(self, drop: impl Fn(Label) -> bool) -> Result<Self> {
        let dtype = self.tensor.dtype();
        let Self { tensor, labels } = self.wide_sum(drop)?;
        Ok(Self { tensor: tensor.to_dtype(dtype)?, labels })
    }

    /// Sums the dims for which `drop` holds, as `sum` does: integers as int64.
    fn wide_sum(self, drop: impl Fn(Label) -> bool) -> Result<Self> {
        let dims: SmallVec<[isize; 6]> =
            (0..self.labels.len()).filter(|&d| drop(self.labels[d])).map(|d| d as isize).collect();
        if dims.is_empty() {
            return Ok(self);
        }
        let tensor = self.tensor.sum(&dims, false)?;
        Ok(Self { tensor, labels: self.labels.into_iter().filter(|&l| !drop(l)).collect() })
    }

    /// The dims in the order of `order`, with an extent of 1 for each label that this tensor lacks.
    fn arranged(&self, order: &[Label]) -> Result<Tensor> {
        let present = order.iter().filter_map(|l| self.labels.iter().position(|m| m == l));
        let dims: SmallVec<[isize; 6]> = present.map(|d| d as isize).collect();
        let in_order = dims.iter().enumerate().all(|(i, &d)| i == d as usize);
        let tensor = if in_order { self.tensor.clone() } else { self.tensor.permute(&dims)? };
        let shape: Dims = order.iter().map(|&l| self.extent(l).unwrap_or(1)).collect();
        tensor.reshape(&shape)
    }

    /// As a batch of matrices: `batch` dims, then the dims of `rows` made one, then those of `cols`.
    fn as_matrices(&self, batch: &[Label], rows: &[Label], cols: &[Label]) -> Result<Tensor> {
        let order: Labels = batch.iter().chain(rows).chain(cols).copied().collect();
        let size = |labels: &[Label]| labels.iter().filter_map(|&l| self.extent(l)).product::<usize>();
        let lead = batch.iter().map(|&l| self.extent(l).unwrap_or(1));
        let shape: Dims = lead.chain([size(rows), size(cols)]).collect();
        self.arranged(&order)?.reshape(&shape)
    }
}

/// The product of two operands, summed over the labels that are not `needed`.
fn join(left: Named, right: Named, needed: impl Fn(Label) -> bool) -> Result<Named> {
    // A label with extent 1 on one side only sums over the other side alone.
    let alone = |x: &Named, l: Label| !needed(l) && x.extent(l).is_none_or(|extent| extent == 1);
    let left_sums: Labels = left.labels.iter().copied().filter(|&l| alone(&right, l)).collect();
    let right_sums: Labels = right.labels.iter().copied().filter(|&l| alone(&left, l)).collect();
    let left = left.sum(|l| left_sums.contains(&l))?;
    let right = right.sum(|l| right_sums.contains(&l))?;
    // What is left of such a label on the other side has extent 1.
    let (in_left, in_right) = (left.labels.clone(), right.labels.clone());
    let left = left.sum(|l| !needed(l) && !in_right.contains(&l))?;
    let right = right.sum(|l| !needed(l) && !in_left.contains(&l))?;

    let split = |x: &Named, shared: bool, other: &Named| -> Labels {
        x.labels.iter().copied().filter(|&l| needed(l) && other.labels.contains(&l) == shared).collect()
    };
    let batch = split(&left, true, &right);
    let (rows, cols) = (split(&left, false, &right), split(&right, false, &left));
    let contracted: Labels = left.labels.iter().copied().filter(|&l| !needed(l)).collect();
    let labels: Labels = batch.iter().chain(&rows).chain(&cols).copied().collect();
    if contracted.is_empty() {
        let tensor = left.arranged(&labels)?.mul(&right.arranged(&labels)?)?;
        return Ok(Named { tensor, labels });
    }
    super::matmul::check_dtypes("einsum", &left.tensor, &right.tensor)?;
    let a = left.as_matrices(&batch, &rows, &contracted)?;
    let b = right.as_matrices(&batch, &contracted, &cols)?;
    let product = a.matmul(&b)?;
    let lead = product.shape()[..batch.len()].iter().copied();
    let outer =
        rows.iter().filter_map(|&l| left.extent(l)).chain(cols.iter().filter_map(|&l| right.extent(l)));
    let shape: Dims = lead.chain(outer).collect();
    Ok(Named { tensor: product.reshape(&shape)?, labels })
}

impl Tensor {
    /// The sum of products that `equation` describes: `"bij,bjk->bik"`, with `...` for dims that
    /// broadcast; without `->` the labels that appear once are kept, in alphabetic order.
    pub fn einsum(equation: &str, operands: &[&Tensor]) -> Result<Tensor> {
        let (sides, output) = parse(equation)?;
        ensure!(
            !operands.is_empty(),
            Value,
            "einsum: must provide at least one operand; give a tensor for each part of the equation"
        );
        ensure!(
            sides.len() == operands.len(),
            Value,
            "einsum: {} subscripts provided ({}) than operands ({}): {equation:?}; \
             separate one part per operand by commas",
            if sides.len() > operands.len() { "more" } else { "fewer" },
            sides.len(),
            operands.len()
        );
        let spans = ellipsis_spans(&sides, operands)?;
        let span = spans.iter().copied().max().unwrap_or(0);
        let inputs: Vec<Labels> =
            sides.iter().zip(&spans).map(|(side, &own)| expand(side, own, span)).collect();
        let output = output_labels(output.as_ref(), &inputs, span)?;
        check_extents(&inputs, operands, span)?;

        let mut joined = Named::new(operands[0], inputs[0].clone())?;
        for (i, labels) in inputs.iter().enumerate().skip(1) {
            let later = &inputs[i + 1..];
            let needed = |l: Label| output.contains(&l) || later.iter().any(|labels| labels.contains(&l));
            joined = join(joined, Named::new(operands[i], labels.clone())?, needed)?;
        }
        if operands.len() == 1 {
            joined.wide_sum(|l| !output.contains(&l))?.arranged(&output)
        } else {
            joined.sum(|l| !output.contains(&l))?.arranged(&output)
        }
    }

    /// The sum of products over pairs of dims: those of `dims[0]` here, of `dims[1]` in `other`.
    pub fn tensordot(&self, other: &Tensor, dims: [&[isize]; 2]) -> Result<Tensor> {
        ensure!(
            dims[0].len() == dims[1].len(),
            Shape,
            "tensordot: both dimension lists should have same length, but got {:?} and {:?}; \
             name as many dims of each",
            dims[0],
            dims[1]
        );
        let name = |x: &Tensor, dims: &[isize]| -> Result<Labels> {
            let dims = dims.iter().map(|&d| crate::layout::normalize_dim("tensordot", d, x.rank()));
            dims.collect()
        };
        let (ours, theirs) = (name(self, dims[0])?, name(other, dims[1])?);
        for (i, (&d, &e)) in ours.iter().zip(&theirs).enumerate() {
            ensure!(
                !ours[..i].contains(&d) && !theirs[..i].contains(&e),
                Value,
                "tensordot: a dim appears multiple times in {:?}; name it once",
                dims
            );
            ensure!(
                self.shape()[d] == other.shape()[e],
                Shape,
                "tensordot: contracted dimensions need to match, but first has size {} in dim {d} and second \
                 has size {} in dim {e}; name dims of one size",
                self.shape()[d],
                other.shape()[e]
            );
        }
        let left: Labels = (0..self.rank()).collect();
        let pair = |e: usize| theirs.iter().position(|&t| t == e).map(|i| ours[i]);
        let right: Labels = (0..other.rank()).map(|e| pair(e).unwrap_or(self.rank() + e)).collect();
        let needed = |l: Label| l >= self.rank() || !ours.contains(&l);
        let joined = join(
            Named { tensor: self.clone(), labels: left },
            Named { tensor: other.clone(), labels: right },
            needed,
        )?;
        Ok(joined.tensor)
    }
}
