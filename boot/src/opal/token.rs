// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Numbers of the OPAL calls that Penstock makes (OPAL API, opal-api.h).

/// An OPAL call's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Token(pub u64);

macro_rules! tokens {
    ($($(#[$doc:meta])* $name:ident = $n:literal;)*) => {
        impl Token { $($(#[$doc])* pub const $name: Self = Self($n);)* }
    };
}

tokens! {
    /// Writes to a console.
    CONSOLE_WRITE = 1;
    /// Reads from a console.
    CONSOLE_READ = 2;
    /// Reads the real time clock.
    RTC_READ = 3;
    /// Powers the machine off.
    CEC_POWER_DOWN = 5;
    /// Restarts the machine.
    CEC_REBOOT = 6;
    /// Lets firmware do its background work.
    POLL_EVENTS = 10;
    /// Takes a processor out of firmware.
    START_CPU = 41;
    /// Gives the calling processor back to firmware.
    RETURN_CPU = 69;
    /// Sets byte order of hypervisor interrupts and the MMU kind.
    REINIT_CPUS = 70;
    /// Brings a failed time base back.
    RESYNC_TIMEBASE = 79;
    /// Handles a hypervisor maintenance interrupt.
    HANDLE_HMI = 98;
    /// The same, telling what was lost.
    HANDLE_HMI2 = 166;
    /// Asks whether a call exists.
    CHECK_TOKEN = 80;
    /// Waits for a console's output to drain.
    CONSOLE_FLUSH = 117;
    /// Resets the interrupt controller and chooses its mode.
    XIVE_RESET = 128;
    /// Pages and flags of a source.
    XIVE_GET_IRQ_INFO = 129;
    /// Where a source is routed.
    XIVE_GET_IRQ_CONFIG = 130;
    /// Routes a source.
    XIVE_SET_IRQ_CONFIG = 131;
    /// Queue of a VP and priority.
    XIVE_GET_QUEUE_INFO = 132;
    /// Sets a queue.
    XIVE_SET_QUEUE_INFO = 133;
    /// Gives firmware a page.
    XIVE_DONATE_PAGE = 134;
    /// Allocates virtual processors.
    XIVE_ALLOCATE_VP_BLOCK = 135;
    /// Frees them.
    XIVE_FREE_VP_BLOCK = 136;
    /// What to push for a virtual processor.
    XIVE_GET_VP_INFO = 137;
    /// Enables a virtual processor.
    XIVE_SET_VP_INFO = 138;
    /// Allocates a source.
    XIVE_ALLOCATE_IRQ = 139;
    /// Frees it.
    XIVE_FREE_IRQ = 140;
    /// Waits until a change is seen everywhere.
    XIVE_SYNC = 141;
    /// Position in a queue.
    XIVE_GET_QUEUE_STATE = 143;
    /// Sets the position in a queue.
    XIVE_SET_QUEUE_STATE = 144;
    /// Saved context of a virtual processor.
    XIVE_GET_VP_STATE = 170;
}
