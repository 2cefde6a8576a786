//! Names of all operations, for the tests: each must be in the table of cases.

use super::{binary, compare, unary};

/// Name of an operation as users spell it, and whether gradients flow through it.
#[derive(Debug, Clone, Copy)]
pub struct Registered {
    /// As users spell it.
    pub name: &'static str,
    /// Whether it has a gradient rule.
    pub differentiable: bool,
}

const OTHERS: &[&str] = &[
    "clone",
    "contiguous",
    "copy_",
    "fill_",
    "zero_",
    "expand",
    "view",
    "reshape",
    "permute",
    "transpose",
    "squeeze",
    "unsqueeze",
    "narrow",
    "select",
    "diagonal",
    "getitem",
    "setitem",
    "cat",
    "stack",
    "split",
    "chunk",
    "unbind",
    "index_select",
    "gather",
    "scatter",
    "scatter_add",
    "index_add",
    "index_put_",
    "masked_select",
    "pad",
    "flip",
    "roll",
    "repeat",
    "tril",
    "triu",
    "sum",
    "nansum",
    "mean",
    "var",
    "std",
    "prod",
    "max",
    "min",
    "amax",
    "amin",
    "logsumexp",
    "norm",
    "cumsum",
    "cumprod",
    "sort",
    "topk",
    "pow",
    "clamp",
    "where",
    "lerp",
    "masked_fill",
    "gelu",
    "softplus",
    "leaky_relu",
    "elu",
    "celu",
    "selu",
    "hardtanh",
    "threshold",
    "hardshrink",
    "softshrink",
    "relu6",
    "hardswish",
    "hardsigmoid",
    "mish",
    "logsigmoid",
    "matmul",
    "bmm",
    "addmm",
    "baddbmm",
    "linear",
    "einsum",
    "softmax",
    "log_softmax",
    "cross_entropy",
    "nll_loss",
    "mse_loss",
    "l1_loss",
    "smooth_l1_loss",
    "huber_loss",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "conv1d",
    "conv2d",
    "max_pool2d",
    "avg_pool2d",
    "dropout",
    "embedding",
    "layer_norm",
    "rms_norm",
    "group_norm",
    "batch_norm",
];

/// Every operation.
pub fn registered() -> Vec<Registered> {
    let with_gradient = unary::ROWS.iter().map(|row| row.name);
    let with_gradient = with_gradient.chain(binary::ROWS.iter().copied()).chain(OTHERS.iter().copied());
    // Rounded quotients are steps: their gradient is 0, and `trunc_divide` is spelled `div(rounding_mode=)`.
    let with_gradient = with_gradient.filter(|name| *name != "trunc_divide");
    let mut all: Vec<_> =
        with_gradient.map(|name| Registered { name, differentiable: name != "floor_divide" }).collect();
    all.extend(compare::ROWS.iter().map(|name| Registered { name, differentiable: false }));
    all
}
