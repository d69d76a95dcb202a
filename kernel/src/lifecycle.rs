// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The states of a partition, and which of the operator's verbs each allows.
//!
//! A partition has memory, a page table and interrupts while it is running, paused or failed; one
//! that is shut off has only its definition. A failed one keeps what it has, for whoever looks for
//! the reason, until it is destroyed.

use core::fmt;

/// Why a partition is paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PauseReason {
    /// The operator said `suspend`.
    Operator,
    /// It touched memory that cannot be backed at the moment. It goes on, and tries again, when
    /// another partition has given memory back.
    NoMemory,
    /// A tool holds it by the control interface.
    Tool,
    /// It touched more memory than its limit lets it have, which only its end changes.
    MemoryLimit,
}

impl PauseReason {
    /// Whether the partition goes on by itself when memory comes back.
    #[must_use]
    pub const fn ends_with_memory(self) -> bool {
        match self {
            Self::Operator | Self::Tool | Self::MemoryLimit => false,
            Self::NoMemory => true,
        }
    }
}

impl fmt::Display for PauseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Operator => "by the operator",
            Self::NoMemory => "no memory",
            Self::Tool => "by a tool",
            Self::MemoryLimit => "memory limit",
        })
    }
}

/// State of a partition, in virsh's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionState {
    /// Its virtual processors run, wait for a thread, have ceded it, or are stopped.
    Running,
    /// Its virtual processors are held.
    Paused(PauseReason),
    /// Switched itself off, was destroyed, or never started.
    ShutOff,
    /// Stopped by the hypervisor because of an error.
    Failed,
}

impl fmt::Display for PartitionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Running => f.write_str("running"),
            Self::Paused(reason) => write!(f, "paused ({reason})"),
            Self::ShutOff => f.write_str("shut off"),
            Self::Failed => f.write_str("failed"),
        }
    }
}

/// What the operator does to a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Makes it anew from its definition, and runs it.
    Start,
    /// Holds it.
    Suspend,
    /// Lets it go on.
    Resume,
    /// Asks its guest to shut down.
    Shutdown,
    /// Has its guest start over at once.
    Reboot,
    /// Stops it at once, and takes back all that it has.
    Destroy,
    /// Connects the console to it; to a failed one for what it said last.
    Console,
}

impl PartitionState {
    /// Whether a partition in this state can be dealt with so.
    #[must_use]
    pub const fn allows(self, verb: Verb) -> bool {
        match (self, verb) {
            (
                Self::Running,
                Verb::Suspend | Verb::Shutdown | Verb::Reboot | Verb::Destroy | Verb::Console,
            )
            | (Self::Paused(_), Verb::Resume | Verb::Reboot | Verb::Destroy | Verb::Console)
            | (Self::ShutOff, Verb::Start)
            | (Self::Failed, Verb::Destroy | Verb::Console) => true,
            (
                Self::Running | Self::Paused(_) | Self::ShutOff | Self::Failed,
                Verb::Start
                | Verb::Suspend
                | Verb::Resume
                | Verb::Shutdown
                | Verb::Reboot
                | Verb::Destroy
                | Verb::Console,
            ) => false,
        }
    }

    /// The same for whoever looks, where a tool holds the partition all the while.
    #[must_use]
    pub const fn while_held(self) -> Self {
        match self {
            Self::Running => Self::Paused(PauseReason::Tool),
            Self::Paused(_) | Self::ShutOff | Self::Failed => self,
        }
    }

    /// Whether the machine still has work for it, now or later.
    #[must_use]
    pub const fn is_alive(self) -> bool {
        matches!(self, Self::Running | Self::Paused(_))
    }

    /// Whether it has memory, a page table and interrupts.
    #[must_use]
    pub const fn has_resources(self) -> bool {
        !matches!(self, Self::ShutOff)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec::Vec;

    const STATES: [PartitionState; 7] = [
        PartitionState::Running,
        PartitionState::Paused(PauseReason::Operator),
        PartitionState::Paused(PauseReason::NoMemory),
        PartitionState::Paused(PauseReason::Tool),
        PartitionState::Paused(PauseReason::MemoryLimit),
        PartitionState::ShutOff,
        PartitionState::Failed,
    ];

    #[test]
    fn each_verb_has_its_states() {
        let states = |verb| -> Vec<bool> { STATES.map(|state| state.allows(verb)).to_vec() };
        assert_eq!(
            states(Verb::Start),
            [false, false, false, false, false, true, false]
        );
        assert_eq!(
            states(Verb::Suspend),
            [true, false, false, false, false, false, false]
        );
        assert_eq!(
            states(Verb::Resume),
            [false, true, true, true, true, false, false]
        );
        assert_eq!(
            states(Verb::Shutdown),
            [true, false, false, false, false, false, false]
        );
        assert_eq!(
            states(Verb::Reboot),
            [true, true, true, true, true, false, false]
        );
        assert_eq!(
            states(Verb::Destroy),
            [true, true, true, true, true, false, true]
        );
        assert_eq!(
            states(Verb::Console),
            [true, true, true, true, true, false, true]
        );
    }

    #[test]
    fn only_what_is_shut_off_has_nothing() {
        assert_eq!(
            STATES.map(PartitionState::has_resources),
            [true, true, true, true, true, false, true]
        );
        assert_eq!(
            STATES.map(PartitionState::is_alive),
            [true, true, true, true, true, false, false]
        );
    }

    #[test]
    fn states_say_why() {
        assert_eq!(
            STATES.map(|state| state.to_string()),
            [
                "running",
                "paused (by the operator)",
                "paused (no memory)",
                "paused (by a tool)",
                "paused (memory limit)",
                "shut off",
                "failed"
            ]
        );
        assert!(PauseReason::NoMemory.ends_with_memory());
        assert!(!PauseReason::Operator.ends_with_memory());
        assert!(!PauseReason::Tool.ends_with_memory());
        assert_eq!(
            STATES.map(PartitionState::while_held)[0],
            PartitionState::Paused(PauseReason::Tool)
        );
        assert_eq!(STATES.map(PartitionState::while_held)[1..], STATES[1..]);
        assert!(!PauseReason::MemoryLimit.ends_with_memory());
    }
}
