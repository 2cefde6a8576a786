//! `firesteel.channels_last` and its like.

use firesteel::format::MemoryFormat;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

/// The order of a tensor's dims in memory: `contiguous_format`, `channels_last`, `channels_last_3d`, or
/// `preserve_format`, which is that of the input.
#[pyclass(frozen, eq, hash, name = "memory_format", module = "firesteel")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PyMemoryFormat(Option<MemoryFormat>);

impl PyMemoryFormat {
    const ALL: [Self; 4] = [
        Self(None),
        Self(Some(MemoryFormat::Contiguous)),
        Self(Some(MemoryFormat::ChannelsLast)),
        Self(Some(MemoryFormat::ChannelsLast3d)),
    ];

    fn name(self) -> &'static str {
        self.0.map_or("preserve_format", MemoryFormat::name)
    }
}

#[pymethods]
impl PyMemoryFormat {
    fn __repr__(&self) -> String {
        // PyTorch's own spelling, as for dtypes.
        format!("torch.{}", self.name())
    }

    fn __reduce__(&self) -> &'static str {
        self.name()
    }
}

/// The argument `memory_format`: nothing for None and for `preserve_format`.
pub fn wanted(value: &Bound<'_, PyAny>) -> PyResult<Option<MemoryFormat>> {
    if value.is_none() {
        return Ok(None);
    }
    match value.cast::<PyMemoryFormat>() {
        Ok(format) => Ok(format.get().0),
        Err(_) => Err(PyTypeError::new_err(format!(
            "argument 'memory_format' must be firesteel.memory_format, not {}; use one such as \
             firesteel.channels_last",
            value.get_type().name()?
        ))),
    }
}

/// Adds the class and the formats.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<PyMemoryFormat>()?;
    for format in PyMemoryFormat::ALL {
        m.add(format.name(), format)?;
    }
    Ok(())
}
