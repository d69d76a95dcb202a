// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Arrays of cells in owned real memory.

// UNSAFETY: turns owned real memory into references.
#![expect(unsafe_code)]

use super::Frames;
use crate::page_ops::{CACHE_BLOCK, PageOps};
use core::ops::Deref;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
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
///
/// It may use fewer cells than it has memory for. So which cell an index names may change, but
/// each index names some cell of the memory that it owns all its life.
pub struct RealTable<T: Cell> {
    array: RealArray<T>,
    /// One less than the cells in use; always below the array's count, and never below seven.
    mask: AtomicUsize,
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
        let mask = AtomicUsize::new(array.count - 1);
        Ok(Self { array, mask })
    }

    #[inline]
    fn mask(&self) -> usize {
        self.mask.load(Ordering::Relaxed)
    }

    /// Number of cells.
    #[inline]
    #[must_use]
    pub fn count(&self) -> u64 {
        self.mask() as u64 + 1
    }

    /// Number of cells that there is memory for.
    #[must_use]
    pub const fn capacity(&self) -> u64 {
        self.array.count as u64
    }

    /// Uses the first `count` cells only, whatever is in them. `false`, and no change, where that is
    /// no power of two, or more than there is memory for, or less than a block to zero.
    #[must_use]
    pub fn set_count(&self, count: u64) -> bool {
        let bytes = count.saturating_mul(size_of::<T>() as u64);
        if !count.is_power_of_two() || count < 8 || count > self.capacity() || bytes < CACHE_BLOCK {
            return false;
        }
        let Ok(count) = usize::try_from(count) else {
            return false;
        };
        self.mask.store(count - 1, Ordering::Relaxed);
        true
    }

    /// The cell at `index`, modulo the number of cells.
    #[inline]
    #[must_use]
    pub fn at(&self, index: u64) -> &T {
        // The mask makes the cast harmless, wherever it might truncate.
        #[expect(clippy::cast_possible_truncation)]
        let index = index as usize & self.mask();
        // SAFETY: below the number of cells, for no mask ever is above one less than that.
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
        let first = index as usize & self.mask() & !7;
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

    /// Sets all cells that are in use to zero again.
    pub fn clear(&self, ops: &impl PageOps) {
        self.clear_some(ops, 0, u64::MAX);
    }

    /// The same for those from byte `from` on, at most `bytes`, both taken down to blocks.
    pub fn clear_some(&self, ops: &impl PageOps, from: u64, bytes: u64) {
        let in_use = self.count() * size_of::<T>() as u64;
        let from = from.min(in_use) & !(CACHE_BLOCK - 1);
        let bytes = bytes.min(in_use - from) & !(CACHE_BLOCK - 1);
        let at = HostReal::new(self.array.base().get() + from);
        // SAFETY: the frames own this memory, and cells, which others may hold references to, are
        // no plain data.
        unsafe { ops.zero(at, bytes) };
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

        // Wider cells, so that half of them is a block.
        let pairs =
            RealTable::<[AtomicU64; 2]>::new(frames.alloc(0x100, 0x80).unwrap(), &machine).unwrap();
        for refused in [0, 4, 12, 32, u64::MAX] {
            assert!(!pairs.set_count(refused), "{refused}");
        }
        pairs.at(11)[0].store(7, Ordering::Relaxed);
        assert!(pairs.set_count(8));
        assert_eq!((pairs.count(), pairs.capacity()), (8, 16));
        assert!(core::ptr::eq(pairs.at(11), pairs.at(3)));
        pairs.clear(&machine);
        assert!(pairs.set_count(16));
        assert_eq!(pairs.at(11)[0].load(Ordering::Relaxed), 7);
        pairs.clear_some(&machine, 0x80, 0x1000);
        assert_eq!(pairs.at(11)[0].load(Ordering::Relaxed), 0);
        assert!(!table.set_count(8), "less than a block");

        let array =
            RealArray::<AtomicBe64>::new(frames.alloc(0x180, 0x80).unwrap(), &machine).unwrap();
        assert_eq!(array.len(), 48);
        assert!(array.get(48).is_none());
        let back = RealTable::<AtomicBe64>::new(array.into_frames(), &machine).unwrap_err();
        assert_eq!(back.len(), 0x180);
    }
}
