// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The RTAS functions that a guest finds below `/rtas`: name, token, arguments, source.
//!
//! The table is the only list of them: the device tree is built from it and calls are looked up
//! in it. The numbers of inputs and outputs are those of LoPAR's argument call buffers and are
//! compared before anything in the block is used.

use crate::presentation::InterruptMode;

/// What a function does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "each variant is the RTAS function of the same name"
)]
pub enum Call {
    DisplayCharacter,
    GetTimeOfDay,
    SetTimeOfDay,
    PowerOff,
    SystemReboot,
    QueryCpuStoppedState,
    StartCpu,
    StopSelf,
    GetSystemParameter,
    SetSystemParameter,
    SetXive,
    GetXive,
    IntOff,
    IntOn,
    EventScan,
    NvramFetch,
    NvramStore,
    OsTerm,
    CheckException,
}

/// One RTAS function as the device tree advertises it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtasFunction {
    /// Name of the property of `/rtas` whose value is the token.
    pub name: &'static str,
    /// Number by which the guest calls it.
    pub token: u32,
    /// Input cells.
    pub nargs: u8,
    /// Output cells, the status among them.
    pub nret: u8,
    /// What it does.
    pub call: Call,
    /// Section of LoPAR, RTAS Call Function Definition.
    pub section: &'static str,
}

impl RtasFunction {
    /// Whether a partition in this mode of interrupts is told of it: the calls on sources are XICS's
    /// (LoPAR, XIVE Legacy vs. Exploitation Mode Hypervisor Call Function Table).
    #[must_use]
    pub const fn is_in(&self, mode: InterruptMode) -> bool {
        match self.call {
            Call::SetXive | Call::GetXive | Call::IntOff | Call::IntOn => {
                matches!(mode, InterruptMode::Xics)
            }
            _ => true,
        }
    }
}

/// Token of the first function. Tokens are ours to choose; QEMU's pseries machine begins here too.
const FIRST_TOKEN: u32 = 0x2000;

const fn function(
    index: u32,
    name: &'static str,
    nargs: u8,
    nret: u8,
    call: Call,
    section: &'static str,
) -> RtasFunction {
    RtasFunction {
        name,
        token: FIRST_TOKEN + index,
        nargs,
        nret,
        call,
        section,
    }
}

/// Every function, in the order of the tokens.
pub static FUNCTIONS: [RtasFunction; 19] = [
    function(
        0,
        "display-character",
        1,
        1,
        Call::DisplayCharacter,
        "display-character",
    ),
    function(
        1,
        "get-time-of-day",
        0,
        8,
        Call::GetTimeOfDay,
        "get-time-of-day",
    ),
    function(
        2,
        "set-time-of-day",
        7,
        1,
        Call::SetTimeOfDay,
        "set-time-of-day",
    ),
    function(3, "power-off", 2, 1, Call::PowerOff, "power-off"),
    function(
        4,
        "system-reboot",
        0,
        1,
        Call::SystemReboot,
        "system-reboot",
    ),
    function(
        5,
        "query-cpu-stopped-state",
        1,
        2,
        Call::QueryCpuStoppedState,
        "query-cpu-stopped state",
    ),
    function(6, "start-cpu", 3, 1, Call::StartCpu, "start-cpu"),
    function(7, "stop-self", 0, 1, Call::StopSelf, "stop-self"),
    function(
        8,
        "ibm,get-system-parameter",
        3,
        1,
        Call::GetSystemParameter,
        "ibm,get-system-parameter",
    ),
    function(
        9,
        "ibm,set-system-parameter",
        2,
        1,
        Call::SetSystemParameter,
        "ibm,set-system-parameter",
    ),
    function(10, "ibm,set-xive", 3, 1, Call::SetXive, "ibm,set-xive"),
    function(11, "ibm,get-xive", 1, 3, Call::GetXive, "ibm,get-xive"),
    function(12, "ibm,int-off", 1, 1, Call::IntOff, "ibm,int-off"),
    function(13, "ibm,int-on", 1, 1, Call::IntOn, "ibm,int-on"),
    function(14, "event-scan", 4, 1, Call::EventScan, "event-scan"),
    function(15, "nvram-fetch", 3, 2, Call::NvramFetch, "nvram-fetch"),
    function(16, "nvram-store", 3, 2, Call::NvramStore, "nvram-store"),
    function(17, "ibm,os-term", 1, 1, Call::OsTerm, "ibm,os-term"),
    function(
        18,
        "check-exception",
        6,
        1,
        Call::CheckException,
        "check-exception",
    ),
];

// `find` indexes by token, and `RtasCall` holds all cells of any function.
const _: () = {
    let mut i = 0;
    while i < FUNCTIONS.len() {
        assert!(FUNCTIONS[i].token as usize == FIRST_TOKEN as usize + i);
        assert!(
            FUNCTIONS[i].nargs as usize + FUNCTIONS[i].nret as usize <= super::block::MAX_CELLS
        );
        assert!(FUNCTIONS[i].nret >= 1 && FUNCTIONS[i].nret as usize <= super::block::MAX_RETURNS);
        i += 1;
    }
};

/// The function with this token.
#[must_use]
pub fn find(token: u32) -> Option<&'static RtasFunction> {
    let index = usize::try_from(token.checked_sub(FIRST_TOKEN)?).ok()?;
    FUNCTIONS.get(index)
}
