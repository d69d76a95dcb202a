// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A partition together with the virtual processors that borrow from it.
//!
//! The light handlers get at the partition and the presenter by plain references in [`Vcpu`]: an
//! hcall has no instruction to spare for a count or an index. Yet a partition must end while
//! others live on. So they are owned as one here, and a virtual processor is only lent to
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

/// A partition with its virtual processors, each of which is behind a lock: the thread that runs it
/// holds that while it is in the guest. The partition can be looked at meanwhile.
///
/// What is lent can be used:
///
/// ```
/// use penstock_kernel::{occupied::Occupied, platform::Platform};
/// fn count<P: Platform>(occupied: &Occupied<P>) -> Option<usize> {
///     occupied.with(0, |vcpu| vcpu.partition.name.len())
/// }
/// ```
///
/// but it cannot be kept:
///
/// ```compile_fail
/// use penstock_kernel::{occupied::Occupied, partition::Partition, platform::Platform};
/// fn keep<P: Platform>(occupied: &Occupied<P>) -> Option<&Partition<P>> {
///     occupied.with(0, |vcpu| vcpu.partition)
/// }
/// ```
///
/// nor exchanged for what does not live as long:
///
/// ```compile_fail
/// use penstock_kernel::{occupied::Occupied, platform::Platform};
/// fn mix<P: Platform>(one: &Occupied<P>, other: &Occupied<P>) {
///     one.with(0, |a| other.with(0, |b| a.partition = b.partition));
/// }
/// ```
pub struct Occupied<P: Platform> {
    /// All of them; there is at least one. They borrow from `partition`, and are dropped before it.
    vcpus: ManuallyDrop<Box<[Mutex<Vcpu<'static, P>>]>>,
    /// Owned; a plain pointer, since a box must not be moved while it is borrowed from.
    partition: NonNull<Partition<P>>,
}

// SAFETY: the pointer owns a partition, of which only shared references are given out, and each virtual
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
    /// The partition with its virtual processors, which have never run.
    ///
    /// # Errors
    /// The partition, where it lacks a presenter for one, or has none.
    pub fn new(partition: Box<Partition<P>>) -> Result<Self, Box<Partition<P>>> {
        let pointer = NonNull::from(Box::leak(partition));
        // SAFETY: just leaked; it lives until `into_partition` or `drop`, which first drop the
        // only holders of this reference, and it is never borrowed mutably.
        let shared: &'static Partition<P> = unsafe { pointer.as_ref() };
        let vcpus: Option<Box<[_]>> = (0..shared.vcpus)
            .map(|server| Vcpu::new(shared, server).map(Mutex::new))
            .collect();
        match vcpus {
            Some(vcpus) if !vcpus.is_empty() => Ok(Self {
                vcpus: ManuallyDrop::new(vcpus),
                partition: pointer,
            }),
            // SAFETY: the reference ends here, and nobody else has one.
            _ => Err(unsafe { Box::from_raw(pointer.as_ptr()) }),
        }
    }

    /// The partition.
    #[must_use]
    pub fn partition(&self) -> &Partition<P> {
        // SAFETY: it lives as long as `self`, and is only ever shared.
        unsafe { self.partition.as_ref() }
    }

    /// Lends the virtual processor with this number, once nobody else has it; `None` where there is no
    /// such one.
    pub fn with<R>(
        &self,
        server: usize,
        borrower: impl for<'p> FnOnce(&mut Vcpu<'p, P>) -> R,
    ) -> Option<R> {
        let vcpu = self.vcpus.get(server)?;
        Some(borrower(&mut vcpu.lock()))
    }

    /// Lends each of them, one after the other, once nobody else has it.
    pub fn for_each(&self, mut borrower: impl for<'p> FnMut(&mut Vcpu<'p, P>)) {
        for vcpu in self.vcpus.iter() {
            borrower(&mut vcpu.lock());
        }
    }

    /// The partition alone; the virtual processors are gone.
    #[must_use]
    pub fn into_partition(self) -> Box<Partition<P>> {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: nothing uses it afterwards: `this` is not dropped.
        unsafe { ManuallyDrop::drop(&mut this.vcpus) };
        // SAFETY: leaked in `new`, and the last reference went with the virtual processors: `with`
        // let none out, and those of the other methods end before `self` can be given up.
        unsafe { Box::from_raw(this.partition.as_ptr()) }
    }
}

impl<P: Platform> Drop for Occupied<P> {
    fn drop(&mut self) {
        // SAFETY: nothing uses it afterwards.
        unsafe { ManuallyDrop::drop(&mut self.vcpus) };
        // SAFETY: as in `into_partition`.
        drop(unsafe { Box::from_raw(self.partition.as_ptr()) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::processor::Start;
    use crate::testing::{FakePlatform, RigOptions, make_partition};
    use penstock_arch::addr::GuestReal;

    #[test]
    fn a_partition_ends_and_gives_its_memory_back() {
        let mut parts = make_partition(RigOptions::default());
        let before = parts.free_before;
        let occupied = Occupied::<FakePlatform>::new(parts.partition).ok().unwrap();
        occupied
            .with(0, |vcpu| {
                vcpu.begin(Start {
                    entry: GuestReal::new(0x100),
                    r3: 0x200,
                });
                vcpu.exits[0] += 1;
            })
            .unwrap();
        assert_eq!(occupied.with(0, |vcpu| vcpu.ctx.pc).unwrap(), 0x100);
        assert_eq!(occupied.with(0, |vcpu| vcpu.exits[0]).unwrap(), 1);
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
        let at = occupied
            .with(0, |vcpu| (&raw const *vcpu.partition).addr())
            .unwrap();
        let mut list = alloc::vec![occupied];
        let back = list.remove(0);
        assert_eq!(
            back.with(0, |vcpu| (&raw const *vcpu.partition).addr())
                .unwrap(),
            at
        );
        assert_eq!((&raw const *back.partition()).addr(), at);
        assert_eq!(
            back.with(0, |vcpu| vcpu.presenter.server().get()).unwrap(),
            0
        );
    }

    #[test]
    fn a_partition_without_presenters_has_no_virtual_processor() {
        let mut parts = make_partition(RigOptions::default());
        parts.partition.presenters = Box::new([]);
        assert!(Occupied::<FakePlatform>::new(parts.partition).is_err());
    }
}
