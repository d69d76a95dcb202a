// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where a partition in exploitation mode finds the controller's pages, in guest real space.
//!
//! | range | what |
//! |---|---|
//! | `0x6_0100_0000_0000` | a pair of 64 KiB pages for each interrupt number: trigger, then management |
//! | `0x6_0100_4000_0000` | a pair for each event queue: its notification page, then one that is never there |
//! | `0x6_0302_0318_0000` | four 64 KiB pages of thread registers, of which a guest has the OS's |
//!
//! Interrupt numbers up to [`FIRST_DEVICE`] are for the guest's own use, the others are devices'. A
//! page has something behind it only where the partition has the source or queue; which page of the
//! machine that is, [`Native::page_at`](super::Native::page_at) says when the page is first touched.
//!
//! The addresses are the ones that QEMU's `pseries` machine has, and so are the numbers.

use penstock_arch::addr::GuestReal;

use crate::ids::{Lisn, ServerNumber};
use crate::priority::Priority;

/// Bytes of every page.
pub const PAGE_BYTES: u64 = 1 << PAGE_SHIFT;
/// log2 of the bytes of every page, as H_INT_GET_SOURCE_INFO tells it.
pub const PAGE_SHIFT: u32 = 16;
/// log2 of the bytes of a pair of pages.
const PAIR_SHIFT: u32 = PAGE_SHIFT + 1;

/// Where the pages of the sources are.
pub const ESB_BASE: u64 = 0x6_0100_0000_0000;
/// The first interrupt number that is a device's.
pub const FIRST_DEVICE: u32 = 0x1000;
/// Interrupt numbers that have a place in the window.
pub const LISNS: u32 = 0x2000;
/// Where the notification pages of the event queues are.
pub const END_BASE: u64 = ESB_BASE + ((LISNS as u64) << PAIR_SHIFT);
/// Virtual processors whose queues have a place: as many as there are numbers for their IPIs.
const SERVERS: u32 = FIRST_DEVICE;
/// Event queues of a virtual processor that have a place: one for each priority.
const ENDS_PER_SERVER: u64 = 8;
/// Where the thread registers are.
pub const TIMA_BASE: u64 = 0x6_0302_0318_0000;
/// The page of the thread registers with an operating system's rights.
pub const TIMA_OS: GuestReal = GuestReal::new(TIMA_BASE + 2 * PAGE_BYTES);
/// The page of the thread registers with a user's rights, which is never there.
pub const TIMA_USER: GuestReal = GuestReal::new(TIMA_BASE + 3 * PAGE_BYTES);

/// A range of guest real addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its first address.
    pub base: GuestReal,
    /// Its bytes, a multiple of the page size.
    pub bytes: u64,
}

impl Window {
    /// The pages of `count` sources from `first` on.
    #[must_use]
    pub const fn of_sources(first: Lisn, count: u32) -> Self {
        Self {
            base: GuestReal::new(ESB_BASE + ((first.get() as u64) << PAIR_SHIFT)),
            bytes: (count as u64) << PAIR_SHIFT,
        }
    }

    /// The notification pages of `count` virtual processors.
    #[must_use]
    pub const fn of_queues(count: u32) -> Self {
        Self {
            base: GuestReal::new(END_BASE),
            bytes: (count as u64 * ENDS_PER_SERVER) << PAIR_SHIFT,
        }
    }

    /// The OS's page of the thread registers.
    pub const TIMA: Self = Self {
        base: TIMA_OS,
        bytes: PAGE_BYTES,
    };
}

/// Which page of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EsbPage {
    /// A store is an event.
    Trigger,
    /// Loads end an event or look at P and Q.
    Management,
}

/// What a guest real address of a page means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PageName {
    /// A page of a source, which the partition may have or not.
    Source(Lisn, EsbPage),
    /// The notification page of a queue, which the partition may have or not.
    Notification(ServerNumber, Priority),
    /// The thread registers, with the OS's rights.
    Tima,
}

/// Trigger and management page of a source.
#[must_use]
pub const fn esb_pages(lisn: Lisn) -> (GuestReal, GuestReal) {
    let pair = ESB_BASE + ((lisn.get() as u64) << PAIR_SHIFT);
    (GuestReal::new(pair), GuestReal::new(pair + PAGE_BYTES))
}

/// The notification page of a queue.
#[must_use]
pub const fn notification_page(server: ServerNumber, priority: Priority) -> GuestReal {
    let end = server.get() as u64 * ENDS_PER_SERVER + priority.get() as u64;
    GuestReal::new(END_BASE + (end << PAIR_SHIFT))
}

/// What the page is that an address lies in.
pub(super) fn name(at: GuestReal) -> Option<PageName> {
    let page = at.get() / PAGE_BYTES * PAGE_BYTES;
    if page == TIMA_OS.get() {
        return Some(PageName::Tima);
    }
    let within = page.checked_sub(ESB_BASE)?;
    let second = within >> PAGE_SHIFT & 1 != 0;
    let pair = within >> PAIR_SHIFT;
    if pair < u64::from(LISNS) {
        let lisn = Lisn::new(u32::try_from(pair).ok()?);
        let page = if second {
            EsbPage::Management
        } else {
            EsbPage::Trigger
        };
        return Some(PageName::Source(lisn, page));
    }
    if second {
        // The queue's own escalation bits, which are the hypervisor's.
        return None;
    }
    let end = pair - u64::from(LISNS);
    let server = u32::try_from(end / ENDS_PER_SERVER).ok()?;
    if server >= SERVERS {
        return None;
    }
    let priority = Priority::new(u8::try_from(end % ENDS_PER_SERVER).ok()?)?;
    Some(PageName::Notification(ServerNumber::new(server), priority))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_where_design_decision_9_has_them() {
        let (trigger, management) = esb_pages(Lisn::new(0));
        assert_eq!(trigger, GuestReal::new(0x6_0100_0000_0000));
        assert_eq!(management, GuestReal::new(0x6_0100_0001_0000));
        let (trigger, management) = esb_pages(Lisn::new(0x1000));
        assert_eq!(trigger, GuestReal::new(0x6_0100_2000_0000));
        assert_eq!(management, GuestReal::new(0x6_0100_2001_0000));
        assert_eq!(TIMA_OS, GuestReal::new(0x6_0302_031a_0000));
        assert_eq!(TIMA_USER, GuestReal::new(0x6_0302_031b_0000));
        let priority = Priority::new(6).unwrap();
        assert_eq!(
            notification_page(ServerNumber::new(2), priority),
            GuestReal::new(0x6_0100_4000_0000 + 22 * 0x2_0000)
        );
        assert_eq!(
            Window::of_sources(Lisn::new(0x1000), 2),
            Window {
                base: GuestReal::new(0x6_0100_2000_0000),
                bytes: 0x4_0000
            }
        );
        assert_eq!(
            Window::of_queues(2),
            Window {
                base: GuestReal::new(0x6_0100_4000_0000),
                bytes: 0x20_0000
            }
        );
    }

    #[test]
    fn names_are_the_inverse_of_places() {
        for number in [0, 1, 0xfff, 0x1000, 0x1fff] {
            let lisn = Lisn::new(number);
            let (trigger, management) = esb_pages(lisn);
            assert_eq!(
                name(trigger),
                Some(PageName::Source(lisn, EsbPage::Trigger))
            );
            assert_eq!(
                name(management.checked_add(0xfff8).unwrap()),
                Some(PageName::Source(lisn, EsbPage::Management))
            );
        }
        for (server, priority) in [(0, 0), (0, 7), (1, 0), (63, 6)] {
            let (server, priority) = (ServerNumber::new(server), Priority::new(priority).unwrap());
            let page = notification_page(server, priority);
            let expected = Some(PageName::Notification(server, priority));
            assert_eq!(name(page), expected);
            // The page behind it holds the escalation's bits.
            assert_eq!(name(page.checked_add(PAGE_BYTES).unwrap()), None);
        }
        assert_eq!(name(TIMA_OS), Some(PageName::Tima));
    }

    #[test]
    fn other_addresses_have_no_name() {
        for at in [
            0,
            ESB_BASE - 1,
            TIMA_BASE,
            TIMA_BASE + PAGE_BYTES,
            TIMA_USER.get(),
            END_BASE + (u64::from(SERVERS) << 20),
            u64::MAX,
        ] {
            assert_eq!(name(GuestReal::new(at)), None, "{at:#x}");
        }
    }
}
