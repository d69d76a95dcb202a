// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The benchmark guest: the cost of hcalls and faults, in instructions, as a guest sees it.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod entry;
#[cfg(target_os = "none")]
mod guest;

#[cfg(not(target_os = "none"))]
fn main() -> std::process::ExitCode {
    eprintln!("bench is a guest for Penstock: start it with ./run-qemu.sh bench");
    std::process::ExitCode::from(2)
}
