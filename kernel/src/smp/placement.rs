// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which threads run partitions that their tree does not pin.

/// What a thread has already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// The thread runs guests: it has come out of firmware.
    pub is_there: bool,
    /// Virtual processors that the partition tree pins to it, started or not.
    pub pinned: u32,
    /// Virtual processors that it runs, without those.
    pub shared: u32,
}

/// The thread for a virtual processor that is not pinned: of those that nobody is pinned to, or of
/// all where there is none, the one that runs fewest, the first of these. `None` where no thread is
/// there.
#[must_use]
pub fn place(threads: impl Iterator<Item = Load>) -> Option<usize> {
    threads
        .enumerate()
        .filter(|(_, load)| load.is_there)
        .min_by_key(|(_, load)| (load.pinned, load.shared))
        .map(|(number, _)| number)
}

/// How many are pinned to those threads that run who is not pinned: the fewest that any has. They share
/// such virtual processors among themselves. `None` where no thread is there.
#[must_use]
pub fn fewest_pinned(threads: impl Iterator<Item = Load>) -> Option<u32> {
    threads
        .filter(|load| load.is_there)
        .map(|load| load.pinned)
        .min()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn thread(pinned: u32, shared: u32) -> Load {
        Load {
            is_there: true,
            pinned,
            shared,
        }
    }

    #[test]
    fn the_emptiest_first_thread_is_taken() {
        let place = |loads: &[Load]| place(loads.iter().copied());
        assert_eq!(place(&[thread(0, 0), thread(0, 0)]), Some(0));
        assert_eq!(place(&[thread(0, 1), thread(0, 0)]), Some(1));
        assert_eq!(place(&[thread(0, 1), thread(0, 1)]), Some(0));
        // A pinned one has its thread alone as long as there is another.
        assert_eq!(place(&[thread(0, 7), thread(1, 0)]), Some(0));
        assert_eq!(place(&[thread(1, 1), thread(1, 0)]), Some(1));
        assert_eq!(place(&[thread(1, 0), thread(2, 0)]), Some(0));
    }

    #[test]
    fn those_that_nobody_is_pinned_to_share_the_others() {
        let fewest = |loads: &[Load]| fewest_pinned(loads.iter().copied());
        assert_eq!(fewest(&[thread(0, 7), thread(1, 0)]), Some(0));
        assert_eq!(fewest(&[thread(2, 7), thread(1, 0)]), Some(1));
        assert_eq!(fewest(&[Load::default(), thread(3, 0)]), Some(3));
        assert_eq!(fewest(&[Load::default()]), None);
    }

    #[test]
    fn threads_that_did_not_come_run_nothing() {
        assert_eq!(place([Load::default(), thread(3, 3)].into_iter()), Some(1));
        assert_eq!(place([Load::default()].into_iter()), None);
    }
}
