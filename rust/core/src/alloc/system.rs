//! Memory from the operating system: huge pages for large blocks, the size of the machine.

use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::ALIGNMENT;

/// Blocks from this size on are mapped on their own, aligned to it, and may have huge pages.
#[cfg(target_os = "linux")]
const HUGE_PAGE: usize = 2 << 20;

/// `capacity` uninitialised bytes, or `None` when the system has none.
pub(super) fn allocate(capacity: usize) -> Option<NonNull<u8>> {
    #[cfg(target_os = "linux")]
    if capacity >= HUGE_PAGE {
        return map(capacity);
    }
    let layout = Layout::from_size_align(capacity, ALIGNMENT).ok()?;
    debug_assert!(capacity > 0);
    // SAFETY: the smallest size class has 64 bytes, so the layout is not empty.
    NonNull::new(unsafe { std::alloc::alloc(layout) })
}

/// Gives memory back to the system.
///
/// # Safety
/// `ptr` came from [`allocate`] with the same `capacity`, and nobody uses it any more.
pub(super) unsafe fn free(ptr: NonNull<u8>, capacity: usize) {
    #[cfg(target_os = "linux")]
    if capacity >= HUGE_PAGE {
        // SAFETY: the caller's promise: this is a whole mapping that `map` made.
        unsafe { libc::munmap(ptr.as_ptr().cast(), capacity) };
        return;
    }
    // SAFETY: the caller's promise; `allocate` has built the same layout from the same capacity.
    unsafe { std::alloc::dealloc(ptr.as_ptr(), Layout::from_size_align_unchecked(capacity, ALIGNMENT)) };
}

/// Maps `capacity` bytes (whole pages) at a multiple of 2 MiB and allows huge pages for them.
#[cfg(target_os = "linux")]
fn map(capacity: usize) -> Option<NonNull<u8>> {
    let reserved = capacity.checked_add(HUGE_PAGE)?;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new private mapping touches no existing memory.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), reserved, access, kind, -1, 0) };
    if start == libc::MAP_FAILED {
        return None;
    }
    let start = start.cast::<u8>();
    let before = start.align_offset(HUGE_PAGE);
    let after = HUGE_PAGE - before;
    // SAFETY: `before + capacity + after == reserved`: the ends that are cut off lie in the mapping
    // that was just made, and `ptr .. ptr + capacity` is what stays.
    unsafe {
        let ptr = start.add(before);
        if before > 0 {
            libc::munmap(start.cast(), before);
        }
        if after > 0 {
            libc::munmap(ptr.add(capacity).cast(), after);
        }
        // Only a wish: without huge pages the memory is as good, only slower to touch first.
        libc::madvise(ptr.cast(), capacity, libc::MADV_HUGEPAGE);
        NonNull::new(ptr)
    }
}

/// Bytes that this process can ever have: memory and swap of the machine or of its container.
///
/// Linux grants far more than that and kills the process when it uses it, so requests are compared
/// with this number before they reach the system.
pub(super) fn memory_bytes() -> usize {
    // No lock: a child that is forked while another thread asks first would wait for it forever.
    static BYTES: AtomicUsize = AtomicUsize::new(0);
    match BYTES.load(Relaxed) {
        0 => {
            let bytes = machine_bytes().min(container_bytes());
            BYTES.store(bytes, Relaxed);
            bytes
        }
        known => known,
    }
}

#[cfg(target_os = "linux")]
fn machine_bytes() -> usize {
    // SAFETY: sysinfo is plain data, for which zeros are valid, and the call only writes it.
    let (status, info) = unsafe {
        let mut info: libc::sysinfo = std::mem::zeroed();
        (libc::sysinfo(&mut info), info)
    };
    let units = (info.totalram as usize).saturating_add(info.totalswap as usize);
    match status {
        0 if units > 0 => units.saturating_mul((info.mem_unit as usize).max(1)),
        _ => usize::MAX,
    }
}

#[cfg(all(unix, not(target_os = "linux")))]
fn machine_bytes() -> usize {
    // SAFETY: sysconf only reads its argument.
    let (pages, page) = unsafe { (libc::sysconf(libc::_SC_PHYS_PAGES), libc::sysconf(libc::_SC_PAGESIZE)) };
    // These systems make swap as they need it; twice the memory is certainly too much.
    match (usize::try_from(pages), usize::try_from(page)) {
        (Ok(pages), Ok(page)) if pages > 0 => pages.saturating_mul(page).saturating_mul(2),
        _ => usize::MAX,
    }
}

#[cfg(not(unix))]
fn machine_bytes() -> usize {
    usize::MAX
}

/// The memory limit of the control group (version 2, then version 1); `usize::MAX` without one.
fn container_bytes() -> usize {
    let files = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let read = |file: &&str| std::fs::read_to_string(file).ok()?.trim().parse().ok();
    files.iter().find_map(read).unwrap_or(usize::MAX)
}
