// SPDX-License-Identifier: Apache-2.0 OR MIT
//! hcalls as functions.
//!
//! LoPAR, Hypervisor Call Interrupt: number in r3, arguments from r4; status in r3, results from r4.

use crate::cpu;

/// What an hcall returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// r3.
    pub status: u64,
    /// r4 to r11.
    pub values: [u64; 8],
}

/// Makes an hcall with up to four arguments.
pub fn call(number: u64, arguments: [u64; 4]) -> Reply {
    let [a, b, c, d] = arguments;
    call_with(number, [a, b, c, d, 0, 0, 0, 0, 0])
}

/// Makes an hcall with all nine arguments.
pub fn call_with(number: u64, arguments: [u64; 9]) -> Reply {
    let [a, b, c, d, e, f, g, h, i] = arguments;
    let mut registers = [number, a, b, c, d, e, f, g, h, i];
    cpu::hcall_raw(&mut registers);
    let [status, values @ .., _] = registers;
    Reply { status, values }
}
