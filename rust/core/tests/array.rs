//! Views of a storage: what lies outside of it is refused.

use firesteel::array::Array;
use firesteel::layout::{Dims, Layout, Strides};
use firesteel::storage::Storage;
use firesteel::{DType, Kind};

/// A float32 view of 12 elements of memory.
fn view(shape: &[usize], strides: &[isize], offset: usize) -> Result<Array, Kind> {
    let storage = Storage::uninit(48).unwrap();
    let layout = Layout::new(Dims::from_slice(shape), Strides::from_slice(strides), offset);
    Array::from_storage(storage, layout, DType::F32).map_err(|error| {
        assert!(error.message().contains("has 48 bytes"), "{error}");
        error.kind()
    })
}

#[test]
fn views_inside_the_storage_are_made() {
    assert!(view(&[3, 4], &[4, 1], 0).is_ok());
    assert!(view(&[2, 4], &[4, 1], 4).is_ok());
    assert!(view(&[12], &[-1], 11).is_ok());
    assert!(view(&[1 << 40], &[0], 11).is_ok());
    assert!(view(&[0, 1 << 40], &[1 << 40, 1], 1 << 50).is_ok()); // of nothing
}

#[test]
fn views_that_leave_the_storage_are_refused() {
    assert!(view(&[13], &[1], 0).is_err());
    assert!(view(&[2, 4], &[4, 1], 5).is_err());
    assert!(view(&[2], &[-1], 0).is_err()); // before its start
    assert!(view(&[3, 2], &[4, -1], 0).is_err());
    assert!(view(&[2], &[1], usize::MAX).is_err());
    assert!(view(&[3], &[isize::MAX], 0).is_err());
    assert!(view(&[2], &[isize::MIN], 4).is_err());
    assert!(view(&[2], &[1 << 62], 0).is_err()); // whose bytes 64 bits do not count
    assert!(view(&[1 << 40, 1 << 40], &[0, 0], 0).is_err());
}

#[test]
fn memory_that_is_not_aligned_is_refused() {
    let bytes = Array::from_slice(&[0u8; 16], &[16]).unwrap();
    let place = bytes.storage().as_ptr().wrapping_add(2);
    // SAFETY: bytes of `bytes`, which is the owner.
    let storage = || unsafe { Storage::foreign(place, 8, false, bytes.clone()) };
    let error = Array::from_storage(storage(), Layout::contiguous(&[2]), DType::F32).unwrap_err();
    assert_eq!(error.kind(), Kind::Value);
    assert!(error.message().contains("float32 needs memory at a multiple of 4 bytes"), "{error}");
    let of_nothing = Array::from_storage(storage(), Layout::contiguous(&[0]), DType::F32).unwrap();
    assert!(of_nothing.slice::<f32>().is_empty());
}

#[test]
#[should_panic(expected = "array is shared")]
fn memory_of_others_is_not_lent_for_writing() {
    let a = Array::from_slice(&[1.0f32], &[1]).unwrap();
    a.with_own_versions().slice_mut::<f32>();
}
