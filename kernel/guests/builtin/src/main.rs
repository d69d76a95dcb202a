// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The built-in guest: a small PAPR kernel that checks what a hypervisor gives it.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod entry;
#[cfg(target_os = "none")]
mod guest;

#[cfg(not(target_os = "none"))]
fn main() -> std::process::ExitCode {
    eprintln!("builtin is a guest for Penstock: start it with ./run-qemu.sh --builtin");
    std::process::ExitCode::from(2)
}
