//! Memory for results on the CPU, which is used again.
//!
//! A step of training makes the same tensors as the one before. Memory from the system is cleared page by page when it is first touched,
//! which took a fifth of a step's processor time. So the memory of a tensor that is dropped is kept for the next of its size, as long as
//! a [`Reuse`] exists; it is freed with the last. Memory that is taken holds whatever it held before: nothing is cleared.

use std::collections::HashMap;
use std::mem::{self, MaybeUninit};
use std::sync::{Mutex, MutexGuard, PoisonError};

use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;
use burn::tensor::{Bytes, Shape, TensorData};
use burn_std::{AccessError, AccessPolicy, AllocationController, AllocationProperty, DType};

/// The number of values from which memory is kept; an allocator serves smaller tensors from memory that it keeps itself.
const LARGE: usize = 1 << 12;

/// Memory that no tensor uses, by its number of values.
struct Spare {
    users: usize,
    by_size: Option<HashMap<usize, Vec<Vec<f32>>>>,
}

static SPARE: Mutex<Spare> = Mutex::new(Spare { users: 0, by_size: None });

/// A panic elsewhere leaves no half-changed state behind.
fn spare() -> MutexGuard<'static, Spare> {
    SPARE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps the memory of dropped tensors while it exists.
#[derive(Debug)]
pub struct Reuse(());

impl Reuse {
    /// Begins to keep memory.
    pub fn begin() -> Self {
        spare().users += 1;
        Self(())
    }
}

impl Drop for Reuse {
    fn drop(&mut self) {
        let mut spare = spare();
        spare.users -= 1;
        if spare.users == 0 {
            spare.by_size = None;
        }
    }
}

/// Returns `size` values, which are arbitrary.
pub fn take(size: usize) -> Vec<f32> {
    let kept = spare().by_size.as_mut().and_then(|by_size| by_size.get_mut(&size)?.pop());
    kept.unwrap_or_else(|| vec![0.0; size])
}

/// Keeps memory for [`take`], if there is a [`Reuse`].
fn give(values: Vec<f32>) {
    let mut spare = spare();
    if spare.users > 0 && values.len() >= LARGE {
        spare.by_size.get_or_insert_default().entry(values.len()).or_default().push(values);
    }
}

/// Creates a tensor whose memory is kept when it is dropped.
pub fn tensor(values: Vec<f32>, shape: Shape) -> FloatTensor<Flex> {
    let size = mem::size_of_val(&values[..]);
    // SAFETY: the controller holds `size` bytes, which are floats and so initialised.
    let bytes = unsafe { Bytes::from_controller(Box::new(Kept(values)), size) };
    FloatTensor::<Flex>::from_data(TensorData::from_bytes(bytes, shape, DType::F32))
}

/// The memory of a tensor.
struct Kept(Vec<f32>);

impl Drop for Kept {
    fn drop(&mut self) {
        give(mem::take(&mut self.0));
    }
}

impl AllocationController for Kept {
    fn alloc_align(&self) -> usize {
        align_of::<f32>()
    }

    fn property(&self) -> AllocationProperty {
        AllocationProperty::Native
    }

    unsafe fn memory_mut(&mut self, _: AccessPolicy) -> Result<&mut [MaybeUninit<u8>], AccessError> {
        let size = mem::size_of_val(&self.0[..]);
        // SAFETY: the values are that many bytes, borrowed as long as the result; the caller writes no uninitialised bytes, and any
        // other bytes are floats.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), size) })
    }

    fn memory(&self, _: AccessPolicy) -> Result<&[MaybeUninit<u8>], AccessError> {
        let size = mem::size_of_val(&self.0[..]);
        // SAFETY: the values are that many bytes, borrowed as long as the result.
        Ok(unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), size) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_while_something_asks_for_it_and_freed_afterwards() {
        // A size that no other test of this process uses.
        let size = 7 * (LARGE + 3);
        let kept = |size: usize| {
            spare()
                .by_size
                .as_ref()
                .and_then(|by_size| by_size.get(&size))
                .map_or(0, |values: &Vec<Vec<f32>>| values.len())
        };
        drop(tensor(take(size), [size].into()));
        let (one, other) = (Reuse::begin(), Reuse::begin());
        assert_eq!(kept(size), 0);
        let first = tensor(take(size), [size].into());
        let address = first.storage::<f32>().as_ptr();
        let view = first.clone();
        drop(first);
        assert_eq!(kept(size), 0, "a tensor still uses it");
        drop(view);
        assert_eq!(kept(size), 1);
        drop(one);
        let mut values = take(size);
        assert_eq!((values.as_ptr(), values.len(), kept(size)), (address, size, 0));
        values.fill(2.0);
        let mut again = tensor(values, [7, LARGE + 3, 1].into());
        again.storage_mut::<f32>()[1] = 5.0;
        assert_eq!(again.into_data().try_into_vec::<f32>().unwrap()[..3], [2.0, 5.0, 2.0]);
        for small in [0, 1, LARGE - 1] {
            drop(tensor(take(small), [small].into()));
            assert_eq!(kept(small), 0);
        }
        drop(other);
    }
}
