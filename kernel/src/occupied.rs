// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A partition together with the virtual processor that borrows from it.
//!
//! The light handlers get at the partition and the presenter by plain references in [`Vcpu`]: an
//! hcall has no instruction to spare for a count or an index. Yet a partition must end while
//! others live on. So the two are owned as one here, and the virtual processor is only lent to
//! closures that cannot know for how long: no reference to the partition gets out, and none to
//! anything else gets in.

// UNSAFETY: a value that borrows from its neighbour, which safe Rust cannot own.
#![expect(unsafe_code)]

use crate::partition::Partition;
use crate::platform::Platform;
use crate::vcpu::Vcpu;
use alloc::boxed::Box;
use core::mem::ManuallyDrop;
use core::ptr::NonNull;
use spin::Mutex;

/// A partition with its virtual processor, which is behind a lock: the thread that runs it holds that
/// while it is in the guest. The partition can be looked at meanwhile.
///
/// What is lent can be used:
///
/// ```
/// use penstock_kernel::{occupied::Occupied, platform::Platform};
/// fn count<P: Platform>(occupied: &Occupied<P>) -> usize {
///     occupied.with(|vcpu| vcpu.partition.name.len())
/// }
/// ```
///
/// but it cannot be kept:
///
/// ```compile_fail
/// use penstock_kernel::{occupied::Occupied, partition::Partition, platform::Platform};
/// fn keep<P: Platform>(occupied: &Occupied<P>) -> &Partition<P> {
///     occupied.with(|vcpu| vcpu.partition)
/// }
/// ```
///
/// nor exchanged for what does not live as long:
///
/// ```compile_fail
/// use penstock_kernel::{occupied::Occupied, platform::Platform};
/// fn mix<P: Platform>(one: &Occupied<P>, other: &Occupied<P>) {
///     one.with(|a| other.with(|b| a.partition = b.partition));
/// }
/// ```
pub struct Occupied<P: Platform> {
    /// Borrows from `partition`, and is dropped before it.
    vcpu: ManuallyDrop<Box<Mutex<Vcpu<'static, P>>>>,
    /// Owned; a plain pointer, since a box must not be moved while it is borrowed from.
    partition: NonNull<Partition<P>>,
}

// SAFETY: the pointer owns a partition, of which only shared references are given out, and the virtual
// processor is behind a lock.
unsafe impl<P: Platform> Send for Occupied<P>
where
    Partition<P>: Send + Sync,
    Vcpu<'static, P>: Send,
{
}
// SAFETY: as above.
unsafe impl<P: Platform> Sync for Occupied<P>
where
    Partition<P>: Send + Sync,
    Vcpu<'static, P>: Send,
{
}

impl<P: Platform> Occupied<P> {
    /// The partition with a virtual processor that has never run.
    ///
    /// # Errors
    /// The partition, where it has no presenter for one.
    pub fn new(partition: Box<Partition<P>>) -> Result<Self, Box<Partition<P>>> {
        let pointer = NonNull::from(Box::leak(partition));
        // SAFETY: just leaked; it lives until `into_partition` or `drop`, which first drop the
        // only holder of this reference, and it is never borrowed mutably.
        let shared: &'static Partition<P> = unsafe { pointer.as_ref() };
        match shared.presentation(0) {
            Some(presenter) => Ok(Self {
                vcpu: ManuallyDrop::new(Box::new(Mutex::new(Vcpu::new(shared, presenter)))),
                partition: pointer,
            }),
            // SAFETY: the reference ends here, and nobody else has one.
            None => Err(unsafe { Box::from_raw(pointer.as_ptr()) }),
        }
    }

    /// The partition.
    #[must_use]
    pub fn partition(&self) -> &Partition<P> {
        // SAFETY: it lives as long as `self`, and is only ever shared.
        unsafe { self.partition.as_ref() }
    }

    /// Lends the virtual processor, once nobody else has it.
    pub fn with<R>(&self, borrower: impl for<'p> FnOnce(&mut Vcpu<'p, P>) -> R) -> R {
        borrower(&mut self.vcpu.lock())
    }

    /// The partition alone; the virtual processor is gone.
    #[must_use]
    pub fn into_partition(self) -> Box<Partition<P>> {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: nothing uses it afterwards: `this` is not dropped.
        unsafe { ManuallyDrop::drop(&mut this.vcpu) };
        // SAFETY: leaked in `new`, and the last reference went with the virtual processor: `with`
        // let none out, and those of the other methods end before `self` can be given up.
        unsafe { Box::from_raw(this.partition.as_ptr()) }
    }
}

impl<P: Platform> Drop for Occupied<P> {
    fn drop(&mut self) {
        // SAFETY: nothing uses it afterwards.
        unsafe { ManuallyDrop::drop(&mut self.vcpu) };
        // SAFETY: as in `into_partition`.
        drop(unsafe { Box::from_raw(self.partition.as_ptr()) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{FakePlatform, RigOptions, make_partition};
    use penstock_arch::addr::GuestReal;

    #[test]
    fn a_partition_ends_and_gives_its_memory_back() {
        let mut parts = make_partition(RigOptions::default());
        let before = parts.free_before;
        let occupied = Occupied::<FakePlatform>::new(parts.partition).ok().unwrap();
        occupied.with(|vcpu| {
            vcpu.set_start_state(GuestReal::new(0x100), GuestReal::new(0x200));
            vcpu.exits[0] += 1;
        });
        assert_eq!(occupied.with(|vcpu| vcpu.ctx.pc), 0x100);
        assert_eq!(occupied.with(|vcpu| vcpu.exits[0]), 1);
        assert_eq!(occupied.partition().name, "test");
        let partition = occupied.into_partition();
        assert!(parts.frames.left() < before);
        partition.mmu.destroy(&mut parts.frames).unwrap();
        assert_eq!(parts.frames.left(), before);
    }

    #[test]
    fn moving_it_moves_neither_of_the_two() {
        let parts = make_partition(RigOptions::default());
        let occupied = Occupied::<FakePlatform>::new(parts.partition).ok().unwrap();
        let at = occupied.with(|vcpu| (&raw const *vcpu.partition).addr());
        let mut list = alloc::vec![occupied];
        let back = list.remove(0);
        assert_eq!(back.with(|vcpu| (&raw const *vcpu.partition).addr()), at);
        assert_eq!((&raw const *back.partition()).addr(), at);
        assert_eq!(back.with(|vcpu| vcpu.presenter.server().get()), 0);
    }

    #[test]
    fn a_partition_without_presenters_has_no_virtual_processor() {
        let mut parts = make_partition(RigOptions::default());
        parts.partition.presenters = Box::new([]);
        assert!(Occupied::<FakePlatform>::new(parts.partition).is_err());
    }
}
