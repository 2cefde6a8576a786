//! Bytes that arrays share, with the version counter that in-place operations bump.

use crate::alloc::Block;
use crate::mode;
use crate::Result;
use std::any::Any;
use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::OnceLock;

/// A block of untyped bytes. Views share it; every in-place write counts its version up, so that
/// the backward pass can tell whether a value it saved is still the value it saw.
pub struct Storage {
    ptr: *mut u8,
    len_bytes: usize,
    version: AtomicU32,
    /// A number of its own, once it was asked for; 0 before.
    serial: AtomicU64,
    /// Whether it was made in inference mode.
    is_inference: bool,
    owner: Owner,
}

enum Owner {
    Block {
        block: Block,
    },
    /// The memory of another storage, under a version counter of its own.
    Shared(Box<dyn Keeper>),
    /// Memory of somebody else, kept alive by holding its owner.
    Foreign {
        _owner: Box<dyn Any + Send + Sync>,
        writable: bool,
    },
}

/// Somebody who keeps a storage alive.
pub(crate) trait Keeper: Send + Sync {
    /// The storage.
    fn storage(&self) -> &Storage;
    /// Another one who keeps it.
    fn again(&self) -> Box<dyn Keeper>;
}

// SAFETY: the memory belongs to the owner that moves along; access is through raw pointers whose
// users promise not to race, as NumPy's and PyTorch's users do.
unsafe impl Send for Storage {}
// SAFETY: as above.
unsafe impl Sync for Storage {}

impl Storage {
    #[inline]
    fn make(ptr: *mut u8, len_bytes: usize, is_inference: bool, owner: Owner) -> Self {
        Self { ptr, len_bytes, version: AtomicU32::new(0), serial: AtomicU64::new(0), is_inference, owner }
    }

    /// `len_bytes` bytes with no value yet.
    pub fn uninit(len_bytes: usize) -> Result<Self> {
        let block = Block::new(len_bytes)?;
        let ptr = block.as_ptr();
        Ok(Self::make(ptr, len_bytes, mode::is_inference(), Owner::Block { block }))
    }

    /// Shares memory that `owner` keeps alive.
    ///
    /// # Safety
    /// `ptr` must be valid for reads (and writes, if `writable`) of `len_bytes` bytes, and aligned for
    /// the element types it is used with, as long as `owner` lives.
    pub unsafe fn foreign(
        ptr: *mut u8,
        len_bytes: usize,
        writable: bool,
        owner: impl Any + Send + Sync,
    ) -> Self {
        let owner = Owner::Foreign { _owner: Box::new(owner), writable };
        Self::make(ptr, len_bytes, mode::is_inference(), owner)
    }

    /// The memory that `other` keeps alive, under a version counter of its own.
    pub(crate) fn sharing(other: &dyn Keeper) -> Self {
        let keeper = match &other.storage().owner {
            Owner::Shared(root) => root.again(), // no chains
            _ => other.again(),
        };
        let Self { ptr, len_bytes, is_inference, .. } = *keeper.storage();
        Self::make(ptr, len_bytes, is_inference, Owner::Shared(keeper))
    }

    /// Start of the bytes.
    #[inline]
    pub fn as_ptr(&self) -> *mut u8 {
        self.ptr
    }

    /// Number of bytes.
    #[inline]
    pub fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    /// How often it was written in place.
    #[inline]
    pub fn version(&self) -> u32 {
        self.version.load(Ordering::Relaxed)
    }

    /// A number that no other storage has, before or after.
    pub(crate) fn serial(&self) -> u64 {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        match self.serial.load(Ordering::Relaxed) {
            0 => {
                let new = NEXT.fetch_add(1, Ordering::Relaxed);
                let set = self.serial.compare_exchange(0, new, Ordering::Relaxed, Ordering::Relaxed);
                set.map_or_else(|other| other, |_| new)
            }
            serial => serial,
        }
    }

    /// Counts one in-place write.
    #[inline]
    pub fn bump_version(&self) {
        self.version.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether it was made in inference mode: no graph may save it.
    #[inline]
    pub fn is_inference(&self) -> bool {
        self.is_inference
    }

    /// Whether it may be written in inference mode alone. (Writes through `.data` are seen by nobody.)
    #[inline]
    pub fn is_for_inference_alone(&self) -> bool {
        self.is_inference && !matches!(self.owner, Owner::Shared(_))
    }

    /// Bytes that the allocator counts for this memory; 0 for memory of somebody else.
    pub fn allocated_bytes(&self) -> usize {
        match &self.owner {
            Owner::Block { block } => block.capacity(),
            Owner::Shared(other) => other.storage().allocated_bytes(),
            Owner::Foreign { .. } => 0,
        }
    }

    /// Whether the memory came from our allocator, so that a gradient may take it over.
    pub(crate) fn is_owned(&self) -> bool {
        matches!(self.owner, Owner::Block { .. })
    }

    /// Whether it may be written.
    pub fn is_writable(&self) -> bool {
        match &self.owner {
            Owner::Block { .. } => true,
            Owner::Shared(other) => other.storage().is_writable(),
            Owner::Foreign { writable, .. } => *writable,
        }
    }
}

static ON_FREE: OnceLock<fn(u64)> = OnceLock::new();

/// Sets what is told the numbers of storages that are freed, of those that have one.
pub(crate) fn on_free(tell: fn(u64)) {
    let _ = ON_FREE.set(tell);
}

impl Drop for Storage {
    #[inline]
    fn drop(&mut self) {
        let serial = *self.serial.get_mut();
        if serial != 0 {
            if let Some(tell) = ON_FREE.get() {
                tell(serial);
            }
        }
    }
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Storage({} bytes, version {})", self.len_bytes, self.version())
    }
}
