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

    /// Number of cells.
    #[inline]
    #[must_use]
    pub const fn count(&self) -> usize {
        self.count
    }

    /// Sets all cells to zero again.
    pub fn clear(&self, ops: &impl PageOps) {
        // SAFETY: the frames own this memory, and cells, which others may hold references to, are
        // no plain data.
        unsafe { ops.zero(self.frames.base(), self.frames.len()) };
    }

    /// The cell at `index`, if there is one.
    ///
    /// Refers to that cell alone, where the slice's `get` goes through a reference to all of them: the
    /// same to the machine, but Miri follows a reference cell by cell.
    #[inline]
    #[must_use]
    pub fn cell(&self, index: usize) -> Option<&T> {
        if index >= self.count {
            return None;
        }
        // SAFETY: below the number of cells.
        let cell = unsafe { self.first.add(index) };
        // SAFETY: lies in the owned frames, zeroed at creation, and lives as long as `self`.
        Some(unsafe { cell.as_ref() })
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

/// Two arrays of a power of two of cells each, at least eight: an index into both wraps instead of
/// being checked.
///
/// They may use fewer cells than they have memory for. So which cells an index names may change, but
/// each index names some cells of the memory that they own all their life.
pub struct RealPair<A: Cell, B: Cell> {
    first: RealArray<A>,
    second: RealArray<B>,
    /// One less than the cells in use of each; always below the arrays' count, and never below seven.
    mask: AtomicUsize,
}

impl<A: Cell, B: Cell> RealPair<A, B> {
    /// As many cells as fit into the frames, all zero.
    ///
    /// # Errors
    /// The frames, where they have not the same number of cells, or that is no power of two, or they
    /// are not aligned.
    pub fn new(first: Frames, second: Frames, ops: &impl PageOps) -> Result<Self, [Frames; 2]> {
        let first = match RealArray::<A>::new(first, ops) {
            Ok(first) => first,
            Err(first) => return Err([first, second]),
        };
        let second = match RealArray::<B>::new(second, ops) {
            Ok(second) => second,
            Err(second) => return Err([first.into_frames(), second]),
        };
        if first.count != second.count || first.count < 8 || !first.count.is_power_of_two() {
            return Err([first.into_frames(), second.into_frames()]);
        }
        let mask = AtomicUsize::new(first.count - 1);
        Ok(Self {
            first,
            second,
            mask,
        })
    }

    #[inline]
    fn mask(&self) -> usize {
        self.mask.load(Ordering::Relaxed)
    }

    /// Number of cells of each.
    #[inline]
    #[must_use]
    pub fn count(&self) -> u64 {
        self.mask() as u64 + 1
    }

    /// Number of cells of each that there is memory for.
    #[must_use]
    pub const fn capacity(&self) -> u64 {
        self.first.count as u64
    }

    /// Uses the first `count` cells only, whatever is in them. `false`, and no change, where that is
    /// no power of two, or more than there is memory for, or less than a block to zero.
    #[must_use]
    pub fn set_count(&self, count: u64) -> bool {
        let smallest = const {
            let cell = if size_of::<A>() < size_of::<B>() {
                size_of::<A>()
            } else {
                size_of::<B>()
            };
            cell as u64
        };
        let bytes = count.saturating_mul(smallest);
        if !count.is_power_of_two() || count < 8 || count > self.capacity() || bytes < CACHE_BLOCK {
            return false;
        }
        let Ok(count) = usize::try_from(count) else {
            return false;
        };
        self.mask.store(count - 1, Ordering::Relaxed);
        true
    }

    /// The cells at `index`, modulo the number of cells.
    #[inline]
    #[must_use]
    pub fn at(&self, index: u64) -> (&A, &B) {
        // The mask makes the cast harmless, wherever it might truncate.
        #[expect(clippy::cast_possible_truncation)]
        let index = index as usize & self.mask();
        // SAFETY: below the number of cells, for no mask ever is above one less than that.
        unsafe { self.at_unchecked(index) }
    }

    /// The cells at `index`.
    ///
    /// # Safety
    /// The mask was `index` or more, once.
    #[inline]
    unsafe fn at_unchecked(&self, index: usize) -> (&A, &B) {
        // SAFETY: below the number of cells, for no mask ever is above one less than that.
        let first = unsafe { self.first.first.add(index) };
        // SAFETY: the same, for both have as many.
        let second = unsafe { self.second.first.add(index) };
        // SAFETY: lies in the owned frames, initialised, and lives as long as `self`.
        let first = unsafe { first.as_ref() };
        // SAFETY: the same.
        (first, unsafe { second.as_ref() })
    }

    /// The cells at `index`, if there are any.
    #[inline]
    #[must_use]
    pub fn get(&self, index: u64) -> Option<(&A, &B)> {
        let index = usize::try_from(index).ok()?;
        // SAFETY: looked at just now.
        (index <= self.mask()).then(|| unsafe { self.at_unchecked(index) })
    }

    /// The eight cells of the first array that `index` is one of, modulo the number of cells.
    #[inline]
    #[must_use]
    pub fn eight(&self, index: u64) -> &[A; 8] {
        // The mask makes the cast harmless, wherever it might truncate.
        #[expect(clippy::cast_possible_truncation)]
        let first = index as usize & self.mask() & !7;
        // SAFETY: as in `at`; at least eight cells follow, their number being a multiple of eight.
        let cells = unsafe { self.first.first.add(first) };
        // SAFETY: eight cells lie there in the owned frames, and live as long as `self`.
        unsafe { cells.cast::<[A; 8]>().as_ref() }
    }

    /// The address of the first array.
    #[inline]
    #[must_use]
    pub const fn base(&self) -> HostReal {
        self.first.base()
    }

    /// Sets all cells that are in use to zero again.
    pub fn clear(&self, ops: &impl PageOps) {
        self.clear_some(ops, 0, u64::MAX);
    }

    /// The same for those from cell `from` on, at most `count`, both taken down to blocks.
    pub fn clear_some(&self, ops: &impl PageOps, from: u64, count: u64) {
        let from = from.min(self.count());
        let count = count.min(self.count() - from);
        self.first.clear_cells(ops, from, count);
        self.second.clear_cells(ops, from, count);
    }

    /// Gives the memory back.
    pub fn into_frames(self) -> [Frames; 2] {
        [self.first.into_frames(), self.second.into_frames()]
    }
}

impl<T: Cell> RealArray<T> {
    /// Sets `count` cells from `from` on to zero, both taken down to blocks; none beyond the array.
    fn clear_cells(&self, ops: &impl PageOps, from: u64, count: u64) {
        let cell = size_of::<T>() as u64;
        let all = self.count as u64 * cell;
        let from = from.saturating_mul(cell).min(all) & !(CACHE_BLOCK - 1);
        let bytes = count.saturating_mul(cell).min(all - from) & !(CACHE_BLOCK - 1);
        let at = HostReal::new(self.base().get() + from);
        // SAFETY: the frames own this memory, and cells, which others may hold references to, are
        // no plain data.
        unsafe { ops.zero(at, bytes) };
    }
}

impl<A: Cell, B: Cell> core::fmt::Debug for RealPair<A, B> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("RealPair")
            .field("first", &self.first)
            .field("second", &self.second)
            .field("count", &self.count())
            .finish()
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
    use crate::fake::{TestMachine, TestMemory};
    use core::sync::atomic::Ordering;

    #[test]
    fn pairs_wrap_and_arrays_check() {
        let memory = TestMemory::new(0x1_0000);
        let machine = TestMachine::new();
        let mut frames = memory.frames();
        let mut block = |bytes| frames.alloc(bytes, 0x80).unwrap();
        // The first with cells twice as large.
        type Pair = RealPair<[AtomicU64; 2], AtomicU64>;
        let pair = Pair::new(block(0x200), block(0x100), &machine).unwrap();
        assert_eq!((pair.count(), pair.capacity()), (32, 32));
        let store = |index, value| {
            let (first, second) = pair.at(index);
            first[0].store(value, Ordering::Relaxed);
            second.store(value + 1, Ordering::Relaxed);
        };
        let load = |index| {
            let (first, second) = pair.at(index);
            (
                first[0].load(Ordering::Relaxed),
                second.load(Ordering::Relaxed),
            )
        };
        store(3, 7);
        assert_eq!(load(3 + 32), (7, 8));
        assert_eq!(pair.eight(5)[3][0].load(Ordering::Relaxed), 7);
        assert_eq!(pair.eight(8)[3][0].load(Ordering::Relaxed), 0);
        assert!(core::ptr::eq(&raw const pair.eight(31)[7], pair.at(31).0));
        pair.clear(&machine);
        assert_eq!(load(3), (0, 0));

        for refused in [0, 4, 8, 12, 24, 64, u64::MAX] {
            assert!(!pair.set_count(refused), "{refused}");
        }
        store(19, 7);
        assert!(pair.set_count(16));
        assert_eq!((pair.count(), pair.capacity()), (16, 32));
        assert!(core::ptr::eq(pair.at(19).0, pair.at(3).0));
        // Only what is in use.
        pair.clear(&machine);
        assert!(pair.set_count(32));
        assert_eq!(load(19), (7, 8));
        pair.clear_some(&machine, 0, 16);
        assert_eq!(load(19), (7, 8));
        pair.clear_some(&machine, 16, u64::MAX);
        assert_eq!(load(19), (0, 0));
        let back = pair.into_frames();
        assert_eq!(back.map(|frames| frames.len()), [0x200, 0x100]);

        // Not as many, no power of two.
        for (first, second) in [(0x200, 0x80), (0x300, 0x180), (0x80, 0x80)] {
            let back = Pair::new(block(first), block(second), &machine).unwrap_err();
            assert_eq!(back.map(|frames| frames.len()), [first, second]);
        }
        let array = RealArray::<AtomicBe64>::new(block(0x180), &machine).unwrap();
        assert_eq!((array.count(), array.len()), (48, 48));
        for (index, cell) in array.iter().enumerate() {
            assert!(core::ptr::eq(cell, array.cell(index).unwrap()));
        }
        assert!(array.cell(48).is_none());
    }
}
