//! Tensors as safetensors bytes: names, dtypes, shapes and data, nothing that could run.

use crate::array::Array;
use crate::{bail, DType, Error, Kind, Layout, Result};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::HashMap;

fn to_format(dtype: DType) -> Dtype {
    match dtype {
        DType::Bool => Dtype::BOOL,
        DType::U8 => Dtype::U8,
        DType::I32 => Dtype::I32,
        DType::I64 => Dtype::I64,
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        DType::F32 => Dtype::F32,
        DType::F64 => Dtype::F64,
    }
}

fn from_format(name: &str, dtype: Dtype) -> Result<DType> {
    for known in DType::ALL {
        if to_format(known) == dtype {
            return Ok(known);
        }
    }
    bail!(Value, "load: tensor '{name}' has dtype {dtype:?}, which is not supported")
}

fn format_error(error: impl std::fmt::Display) -> Error {
    Error::new(Kind::Value, format!("safetensors: {error}"))
}

/// The bytes of a file with these tensors and this metadata.
pub fn serialize(tensors: &[(String, Array)], metadata: HashMap<String, String>) -> Result<Vec<u8>> {
    let arrays = tensors.iter().map(|(_, array)| array.contiguous()).collect::<Result<Vec<_>>>()?;
    let mut views = Vec::with_capacity(tensors.len());
    for ((name, _), array) in tensors.iter().zip(&arrays) {
        let view = TensorView::new(to_format(array.dtype()), array.shape().to_vec(), array.bytes());
        views.push((name.as_str(), view.map_err(format_error)?));
    }
    safetensors::serialize(views, Some(metadata)).map_err(format_error)
}

/// Tensors by name, and the text that goes with them.
pub type Contents = (Vec<(String, Array)>, HashMap<String, String>);

/// The tensors and the metadata of a file's bytes, copied.
pub fn deserialize(bytes: &[u8]) -> Result<Contents> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(format_error)?;
    let file = SafeTensors::deserialize(bytes).map_err(format_error)?;
    let mut tensors = Vec::new();
    for (name, view) in file.iter() {
        let dtype = from_format(name, view.dtype())?;
        let mut raw = Array::empty(&[view.data().len()], DType::U8)?;
        raw.slice_mut::<u8>().copy_from_slice(view.data());
        if dtype == DType::Bool && view.data().iter().any(|&byte| byte > 1) {
            bail!(Value, "load: tensor '{name}' has bool bytes other than 0 and 1; the file is damaged");
        }
        tensors.push((name.to_owned(), raw.seen_as(Layout::contiguous(view.shape()), dtype)?));
    }
    Ok((tensors, header.metadata().clone().unwrap_or_default()))
}
