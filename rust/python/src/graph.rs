//! What nodes keep, and whole graphs, counted without a Python object for each node.

use crate::dtype::{self, PyDType};
use crate::node::PyNode;
use crate::pass::leading_to;
use firesteel::autograd::saved::SavedArray;
use firesteel::autograd::NodeRef;
use firesteel::storage::Storage;
use firesteel::{Array, DType};
use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// What tells memory from other memory: its address, 0 if there is none.
pub fn memory_key(storage: &Storage) -> usize {
    if storage.len_bytes() == 0 {
        0
    } else {
        storage.as_ptr() as usize
    }
}

/// One saved tensor of a node, and the memory that keeps it.
#[derive(Clone)]
pub struct SavedPart {
    part: String,
    shape: Vec<usize>,
    dtype: DType,
    len_bytes: usize,
    allocated_bytes: usize,
    memory: usize,
    is_packed: bool,
}

/// The same as Python sees it: part, shape, dtype, bytes, and a number that names the memory.
pub type SavedInfo<'py> = (String, Bound<'py, PyTuple>, Py<PyDType>, usize, usize);

impl SavedPart {
    fn of(part: String, array: &Array) -> Self {
        let storage = array.storage();
        Self {
            part,
            shape: array.shape().to_vec(),
            dtype: array.dtype(),
            len_bytes: storage.len_bytes(),
            allocated_bytes: storage.allocated_bytes(),
            memory: memory_key(storage),
            is_packed: false,
        }
    }

    pub fn info<'py>(&self, py: Python<'py>) -> PyResult<SavedInfo<'py>> {
        let shape = PyTuple::new(py, &self.shape)?;
        Ok((self.part.clone(), shape, dtype::object(py, self.dtype), self.len_bytes, self.memory))
    }
}

/// What a node has saved. Of what a hook packed, the tensors in it are told, each with the shape and dtype that
/// was packed; without any, the pack itself stands for the memory, of unknown size.
pub fn saved_in(node: &NodeRef) -> Vec<SavedPart> {
    let mut parts = Vec::new();
    for (part, saved) in node.op().saved() {
        let packed = match saved {
            SavedArray::Plain(array, _) => {
                parts.push(SavedPart::of(part, &array));
                continue;
            }
            SavedArray::Packed(packed) => packed,
        };
        let like = |array: Option<&Array>| SavedPart {
            part: format!("packed {part}"),
            shape: packed.meta().shape.to_vec(),
            dtype: packed.meta().dtype,
            len_bytes: array.map_or(0, |array| array.storage().len_bytes()),
            allocated_bytes: array.map_or(0, |array| array.storage().allocated_bytes()),
            memory: array.map_or(Arc::as_ptr(&packed).cast::<u8>() as usize, |a| memory_key(a.storage())),
            is_packed: true,
        };
        let arrays = packed.arrays();
        parts.extend(arrays.iter().map(|array| like(Some(array))));
        if arrays.is_empty() {
            parts.push(like(None));
        }
    }
    parts
}

/// All nodes behind some, the newest first: as a backward pass visits them.
#[pyclass(frozen, name = "_Graph", module = "firesteel._core")]
pub struct PyGraph(Vec<NodeRef>);

/// What nodes of one operation are and keep: name, operation without its attributes, nodes, bytes.
type OperationInfo = (String, String, usize, usize);
/// Bytes that are kept, those of them that no live tensor uses, and what the allocator counts for the latter.
type BytesInfo = (usize, usize, usize);
/// The place of the node in the graph, and what it keeps.
type HeldInfo<'py> = (usize, SavedInfo<'py>);

#[pymethods]
impl PyGraph {
    /// _Graph(roots, limit=None): the nodes that a backward pass from `roots` may visit, or `limit` of them.
    #[new]
    #[pyo3(signature = (roots, limit=None))]
    fn new(py: Python<'_>, roots: Vec<PyRef<'_, PyNode>>, limit: Option<usize>) -> Self {
        let roots: Vec<NodeRef> = roots.iter().map(|root| root.node().clone()).collect();
        py.detach(|| Self(walk(roots, limit.unwrap_or(usize::MAX))))
    }

    fn __len__(&self) -> usize {
        self.0.len()
    }

    fn __getitem__<'py>(&self, py: Python<'py>, index: usize) -> PyResult<Bound<'py, PyNode>> {
        match self.0.get(index) {
            Some(node) => PyNode::of(py, node.clone()),
            None => Err(PyIndexError::new_err(format!("index {index} of a graph of {} nodes", self.0.len()))),
        }
    }

    /// What the nodes from `start` to `stop` keep: by operation, in bytes, and the `most` largest. Each memory
    /// counts once, for the newest node that keeps it; `live` are the memories of tensors that are alive.
    fn held<'py>(
        &self,
        py: Python<'py>,
        start: usize,
        stop: usize,
        live: HashSet<usize>,
        most: usize,
    ) -> PyResult<(Vec<OperationInfo>, BytesInfo, Vec<HeldInfo<'py>>)> {
        let mut operations: HashMap<(String, String), usize> = HashMap::new();
        let mut counts: Vec<OperationInfo> = Vec::new();
        let mut seen: HashSet<usize> = HashSet::new();
        let mut found: Vec<(usize, SavedPart)> = Vec::new();
        let mut bytes = (0, 0, 0);
        for (index, node) in self.nodes(start, stop) {
            let (name, operation) = (node.name(), kind(node));
            let slot = *operations.entry((name, operation)).or_insert_with_key(|(name, operation)| {
                counts.push((name.clone(), operation.clone(), 0, 0));
                counts.len() - 1
            });
            counts[slot].2 += 1;
            for saved in saved_in(node) {
                if !seen.insert(saved.memory) {
                    continue;
                }
                counts[slot].3 += saved.len_bytes;
                bytes.0 += saved.len_bytes;
                if !live.contains(&saved.memory) {
                    bytes.1 += saved.len_bytes;
                    bytes.2 += saved.allocated_bytes;
                }
                found.push((index, saved));
            }
        }
        found.sort_by_key(|(_, saved)| std::cmp::Reverse(saved.len_bytes));
        found.truncate(most);
        let largest = found.iter().map(|(index, saved)| Ok((*index, saved.info(py)?)));
        Ok((counts, bytes, largest.collect::<PyResult<_>>()?))
    }

    /// Whether nodes keep anything for a backward pass, how many of them one has freed, and how many saved
    /// tensors hooks have packed.
    fn state(&self) -> (bool, usize, usize) {
        let (mut keeps, mut freed, mut packed) = (false, 0, 0);
        for node in &self.0 {
            let saved = saved_in(node);
            keeps |= saved.iter().any(|saved| saved.len_bytes > 0 || saved.is_packed);
            packed += saved.iter().filter(|saved| saved.is_packed).count();
            freed += usize::from(node.op().is_freed());
        }
        (keeps, freed, packed)
    }

    /// Numbers of the nodes outside of the range whose results those from `start` to `stop` use.
    fn used_by(&self, start: usize, stop: usize) -> Vec<u64> {
        let own: HashSet<u64> = self.nodes(start, stop).map(|(_, node)| node.id()).collect();
        let edges = self.nodes(start, stop).flat_map(|(_, node)| node.edges().iter().flatten());
        let used: HashSet<u64> = edges.map(|edge| edge.node.id()).filter(|id| !own.contains(id)).collect();
        let mut used: Vec<u64> = used.into_iter().collect();
        used.sort_unstable();
        used
    }

    /// The nodes that end it: those that have no inputs, as leaves have none.
    fn ends<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyNode>>> {
        let is_end = |node: &&NodeRef| node.edges().is_empty();
        self.0.iter().filter(is_end).map(|node| PyNode::of(py, node.clone())).collect()
    }

    /// Numbers of the nodes that are among `ends` or lead to one of them.
    fn leading_to(&self, ends: Vec<PyRef<'_, PyNode>>) -> HashSet<u64> {
        leading_to(&self.0, &ends.iter().map(|end| end.node().id()).collect())
    }

    /// The graph's nodes as numbers, the newest first.
    fn numbers(&self) -> Vec<u64> {
        self.0.iter().map(|node| node.id()).collect()
    }
}

impl PyGraph {
    fn nodes(&self, start: usize, stop: usize) -> impl Iterator<Item = (usize, &NodeRef)> {
        let stop = stop.min(self.0.len());
        (start.min(stop)..stop).map(|index| (index, &self.0[index]))
    }
}

/// The operation's kind: `MaxPool` of `MaxPool { kernel: 2 }`.
fn kind(node: &NodeRef) -> String {
    let mut operation = node.op().describe();
    let end = operation.find([' ', '(']).unwrap_or(operation.len());
    operation.truncate(end);
    operation
}

/// The nodes behind `roots` and themselves, the newest first.
pub fn walk(roots: Vec<NodeRef>, limit: usize) -> Vec<NodeRef> {
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    let mut waiting = roots;
    while let Some(node) = waiting.pop() {
        if found.len() == limit {
            break;
        }
        if seen.insert(node.id()) {
            let producers = node.edges().iter().flatten().map(|edge| &edge.node);
            waiting.extend(producers.filter(|producer| !seen.contains(&producer.id())).cloned());
            found.push(node);
        }
    }
    found.sort_unstable_by_key(|node: &NodeRef| std::cmp::Reverse(node.id()));
    found
}

/// Adds the class.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<PyGraph>()
}
