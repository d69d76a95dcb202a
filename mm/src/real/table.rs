// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Arrays of cells in owned real memory.

// UNSAFETY: turns owned real memory into references.
#![expect(unsafe_code)]

use super::Frames;
use crate::page_ops::{CACHE_BLOCK, PageOps};
use core::ops::Deref;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, AtomicU64};
use penstock_arch::addr::HostReal;
use penstock_arch::endian::AtomicBe64;
pub use penstock_arch::endian::BeCell;

/// What may lie in owned memory that is also accessed behind the compiler's back.
///
/// # Safety
/// All-zero memory is a valid value, the type changes only through shared references, and it
/// needs no drop.
pub unsafe trait Cell: Sync {}

// SAFETY: zero is a value of an atomic integer.
unsafe impl Cell for AtomicU64 {}
// SAFETY: a transparent atomic integer.
unsafe impl Cell for AtomicBe64 {}
// SAFETY: an array of cells is one.
unsafe impl<T: Cell, const N: usize> Cell for [T; N] {}

// SAFETY: a transparent atomic integer.
unsafe impl Cell for BeCell {}

/// What lies beside each entry of a page table: the guest's doubleword 1, and the entry's neighbours
/// in the ring of those that map the same page.
#[derive(Debug)]
#[repr(C)]
pub struct ReverseCells {
    /// The guest's doubleword 1, in the processor's byte order.
    pub guest_r: AtomicU64,
    /// The next entry's number.
    pub next: AtomicU32,
    /// The number of the one before.
    pub previous: AtomicU32,
}

// The budget of design decision 4.
const _: () = assert!(size_of::<ReverseCells>() == 16);

// SAFETY: zero is a value of each field, and all are atomic.
unsafe impl Cell for ReverseCells {}

/// An array of cells at a real address.
pub struct RealArray<T: Cell> {
    first: NonNull<T>,
    count: usize,
    frames: Frames,
}

// SAFETY: owns its memory, which has no tie to a thread.
unsafe impl<T: Cell> Send for RealArray<T> {}
// SAFETY: cells are Sync, and a shared array gives out only shared references.
unsafe impl<T: Cell> Sync for RealArray<T> {}

impl<T: Cell> RealArray<T> {
    /// As many cells as fit into `frames`, all zero.
    ///
    /// # Errors
    /// The frames, where they are not aligned for cells or for zeroing, or lie at address 0.
    pub fn new(frames: Frames, ops: &impl PageOps) -> Result<Self, Frames> {
        let align = (align_of::<T>() as u64).max(CACHE_BLOCK);
        let Ok(bytes) = usize::try_from(frames.len()) else {
            return Err(frames);
        };
        if !frames.base().is_aligned(align) || !frames.len().is_multiple_of(CACHE_BLOCK) {
            return Err(frames);
        }
        let Some(first) = pointer::<T>(frames.base()) else {
            return Err(frames);
        };
        // SAFETY: the frames own this memory, and no reference into it exists yet.
        unsafe { ops.zero(frames.base(), frames.len()) };
        Ok(Self {
            first,
            count: bytes / size_of::<T>(),
            frames,
        })
    }

    /// The address of the first cell.
    #[inline]
    #[must_use]
    pub const fn base(&self) -> HostReal {
        self.frames.base()
    }

    /// Sets all cells to zero again.
    pub fn clear(&self, ops: &impl PageOps) {
        // SAFETY: the frames own this memory, and cells, which others may hold references to, are
        // no plain data.
        unsafe { ops.zero(self.frames.base(), self.frames.len()) };
    }

    /// Gives the memory back.
    pub fn into_frames(self) -> Frames {
        self.frames
    }
}

impl<T: Cell> Deref for RealArray<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: `count` cells lie at `first` within the owned frames, zeroed at creation, and
        // the memory lives as long as `self`.
        unsafe { core::slice::from_raw_parts(self.first.as_ptr(), self.count) }
    }
}

impl<T: Cell> core::fmt::Debug for RealArray<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "RealArray({} cells in {:?})", self.count, self.frames)
    }
}

/// An array of a power of two of cells, at least eight: an index wraps instead of being checked.
pub struct RealTable<T: Cell> {
    array: RealArray<T>,
    mask: usize,
}

impl<T: Cell> RealTable<T> {
    /// As many cells as fit into `frames`, all zero.
    ///
    /// # Errors
    /// The frames, where their size is no power of two of cells or they are not aligned.
    pub fn new(frames: Frames, ops: &impl PageOps) -> Result<Self, Frames> {
        let array = RealArray::new(frames, ops)?;
        if array.count < 8 || !array.count.is_power_of_two() {
            return Err(array.into_frames());
        }
        let mask = array.count - 1;
        Ok(Self { array, mask })
    }

    /// Number of cells.
    #[inline]
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.mask as u64 + 1
    }

    /// The cell at `index`, modulo the number of cells.
    #[inline]
    #[must_use]
    pub fn at(&self, index: u64) -> &T {
        // The mask makes the cast harmless, wherever it might truncate.
        #[expect(clippy::cast_possible_truncation)]
        let index = index as usize & self.mask;
        // SAFETY: below the number of cells, for the mask is one less than that power of two.
        let cell = unsafe { self.array.first.add(index) };
        // SAFETY: lies in the owned frames, initialised, and lives as long as `self`.
        unsafe { cell.as_ref() }
    }

    /// The eight cells that `index` is one of, modulo the number of cells.
    #[inline]
    #[must_use]
    pub fn eight(&self, index: u64) -> &[T; 8] {
        // The mask makes the cast harmless, wherever it might truncate.
        #[expect(clippy::cast_possible_truncation)]
        let first = index as usize & self.mask & !7;
        // SAFETY: as in `at`; at least eight cells follow, their number being a multiple of eight.
        let cells = unsafe { self.array.first.add(first) };
        // SAFETY: eight cells lie there in the owned frames, and live as long as `self`.
        unsafe { cells.cast::<[T; 8]>().as_ref() }
    }

    /// The address of the first cell.
    #[inline]
    #[must_use]
    pub const fn base(&self) -> HostReal {
        self.array.base()
    }

    /// Sets all cells to zero again.
    pub fn clear(&self, ops: &impl PageOps) {
        self.array.clear(ops);
    }

    /// Gives the memory back.
    pub fn into_frames(self) -> Frames {
        self.array.into_frames()
    }
}

impl<T: Cell> core::fmt::Debug for RealTable<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.array.fmt(f)
    }
}

/// A pointer to what lies at `at`, unless that is address 0.
pub(super) fn pointer<T>(at: HostReal) -> Option<NonNull<T>> {
    let address = usize::try_from(at.get()).ok()?;
    NonNull::new(core::ptr::with_exposed_provenance_mut(address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::TestMemory;
    use core::sync::atomic::Ordering;

    #[test]
    fn tables_wrap_and_arrays_check() {
        let memory = TestMemory::new(0x1_0000);
        let machine = crate::fake::TestMachine::new();
        let mut frames = memory.frames();
        let table =
            RealTable::<AtomicU64>::new(frames.alloc(0x80, 0x80).unwrap(), &machine).unwrap();
        assert_eq!(table.count(), 16);
        table.at(3).store(7, Ordering::Relaxed);
        assert_eq!(table.at(3 + 16).load(Ordering::Relaxed), 7);
        assert_eq!(table.eight(5)[3].load(Ordering::Relaxed), 7);
        assert_eq!(table.eight(8)[3].load(Ordering::Relaxed), 0);
        assert!(core::ptr::eq(&raw const table.eight(15)[7], table.at(15)));
        table.clear(&machine);
        assert_eq!(table.at(3).load(Ordering::Relaxed), 0);

        let array =
            RealArray::<AtomicBe64>::new(frames.alloc(0x180, 0x80).unwrap(), &machine).unwrap();
        assert_eq!(array.len(), 48);
        assert!(array.get(48).is_none());
        let back = RealTable::<AtomicBe64>::new(array.into_frames(), &machine).unwrap_err();
        assert_eq!(back.len(), 0x180);
    }
}
