// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Why a guest stopped running.
//!
//! The entry code hands out one number: the vector of an interrupt, or what a light handler
//! answered. [`GuestExit::decode`] is the only reader of that number.

/// What a light handler answers: resume the guest, or leave it for a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
#[must_use]
pub struct LightExit(u64);

impl LightExit {
    /// The guest goes on at once.
    pub const RESUME: Self = Self(0);
    /// The virtual processor waits for an interrupt or a prod (H_CEDE).
    pub const CEDE: Self = Self(1);
    /// The partition asked to be powered off.
    pub const POWER_OFF: Self = Self(2);
    /// The partition asked to be started again.
    pub const REBOOT: Self = Self(3);
    /// The console's ring is full: drain it before the guest tries again.
    pub const DRAIN_CONSOLE: Self = Self(4);
    /// The virtual processor stopped itself.
    pub const STOP_SELF: Self = Self(5);
    /// A page that the guest was promised has lost its backing: the partition stops.
    pub const BACKING_TOO_SMALL: Self = Self(6);
    /// A call of the control interface, about which all partitions must be known.
    pub const CONTROL: Self = Self(7);
    /// The partition's pool has no frame for what the guest tried, and will try again.
    pub const NO_FRAME: Self = Self(8);

    /// The virtual processor lets others run (H_CONFER).
    pub const CONFER: Self = Self(9);
    /// The virtual processor waits for a prod (H_JOIN, H_CONFER to itself).
    pub const JOIN: Self = Self(10);

    /// The page table is to be exchanged for another one, for which all virtual processors must be out
    /// of the guest (H_RESIZE_HPT_COMMIT).
    pub const RESIZE: Self = Self(11);

    /// As the entry code wants it. Values are below 0x100, the first vector.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// Why the guest is out, for the run loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestExit {
    /// H_CEDE.
    Cede,
    /// RTAS power-off.
    PowerOff,
    /// RTAS system-reboot.
    Reboot,
    /// Output waits.
    DrainConsole,
    /// RTAS stop-self.
    StopSelf,
    /// A page's backing is smaller than the page.
    BackingTooSmall,
    /// H_CONTROL.
    Control,
    /// The pool has no frame.
    NoFrame,
    /// H_CONFER.
    Confer,
    /// H_JOIN.
    Join,
    /// H_RESIZE_HPT_COMMIT.
    Resize,
    /// System reset taken from the guest.
    SystemReset,
    /// Machine check taken from the guest.
    MachineCheck,
    /// An external interrupt that was meant for the hypervisor.
    External,
    /// The hypervisor's own timer.
    HypervisorDecrementer,
    /// An instruction that the processor does not implement, or not for guests.
    EmulationAssist,
    /// Hypervisor maintenance.
    Maintenance,
    /// A doorbell from another thread of the hypervisor.
    Doorbell,
    /// An interrupt for the hypervisor.
    Virtualization,
    /// A facility that the guest does not have.
    FacilityUnavailable,
    /// The processor wants help with a denormalised operand.
    SoftPatch,
    /// A number that the entry code cannot hand out.
    Unknown(u64),
}

impl GuestExit {
    /// Decodes the number that the entry code handed out.
    #[must_use]
    pub const fn decode(reason: u64) -> Self {
        match reason {
            1 => Self::Cede,
            2 => Self::PowerOff,
            3 => Self::Reboot,
            4 => Self::DrainConsole,
            5 => Self::StopSelf,
            6 => Self::BackingTooSmall,
            7 => Self::Control,
            8 => Self::NoFrame,
            9 => Self::Confer,
            10 => Self::Join,
            11 => Self::Resize,
            0x100 => Self::SystemReset,
            0x200 => Self::MachineCheck,
            0x500 => Self::External,
            0x980 => Self::HypervisorDecrementer,
            0xe40 => Self::EmulationAssist,
            0xe60 => Self::Maintenance,
            0xe80 => Self::Doorbell,
            0xea0 => Self::Virtualization,
            0xf80 => Self::FacilityUnavailable,
            0x1500 => Self::SoftPatch,
            other => Self::Unknown(other),
        }
    }

    /// A slot for each kind in a table of counts.
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Cede => 0,
            Self::PowerOff => 1,
            Self::Reboot => 2,
            Self::DrainConsole => 3,
            Self::StopSelf => 4,
            Self::SystemReset => 5,
            Self::MachineCheck => 6,
            Self::HypervisorDecrementer => 7,
            Self::EmulationAssist => 8,
            Self::Maintenance => 9,
            Self::Doorbell => 10,
            Self::Virtualization => 11,
            Self::FacilityUnavailable => 12,
            Self::SoftPatch => 13,
            Self::External => 14,
            Self::Unknown(_) => 15,
            Self::BackingTooSmall => 16,
            Self::Control => 17,
            Self::NoFrame => 18,
            Self::Confer => 19,
            Self::Join => 20,
            Self::Resize => 21,
        }
    }

    /// Names in the order of [`GuestExit::index`].
    pub const NAMES: [&'static str; 22] = [
        "cede",
        "power-off",
        "reboot",
        "console-full",
        "stop-self",
        "system-reset",
        "machine-check",
        "hypervisor-decrementer",
        "emulation-assist",
        "maintenance",
        "doorbell",
        "virtualization",
        "facility-unavailable",
        "soft-patch",
        "external",
        "unknown",
        "backing-too-small",
        "control",
        "no-frame",
        "confer",
        "join",
        "resize",
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn light_exits_decode_to_themselves() {
        for (light, exit) in [
            (LightExit::CEDE, GuestExit::Cede),
            (LightExit::POWER_OFF, GuestExit::PowerOff),
            (LightExit::REBOOT, GuestExit::Reboot),
            (LightExit::DRAIN_CONSOLE, GuestExit::DrainConsole),
            (LightExit::STOP_SELF, GuestExit::StopSelf),
            (LightExit::BACKING_TOO_SMALL, GuestExit::BackingTooSmall),
            (LightExit::CONTROL, GuestExit::Control),
            (LightExit::NO_FRAME, GuestExit::NoFrame),
            (LightExit::CONFER, GuestExit::Confer),
            (LightExit::JOIN, GuestExit::Join),
            (LightExit::RESIZE, GuestExit::Resize),
        ] {
            assert!(light.get() < 0x100);
            assert_eq!(GuestExit::decode(light.get()), exit);
        }
    }

    #[test]
    fn every_number_decodes_and_has_a_name() {
        for reason in 0..0x2000 {
            assert!(GuestExit::decode(reason).index() < GuestExit::NAMES.len());
        }
        assert_eq!(GuestExit::decode(0xea0), GuestExit::Virtualization);
        assert_eq!(GuestExit::decode(0), GuestExit::Unknown(0));
    }
}
