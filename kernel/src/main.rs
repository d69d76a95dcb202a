// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The hypervisor's image. On the machine everything begins in `penstock_boot::head`.

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
use penstock_kernel as _;

#[cfg(not(target_os = "none"))]
fn main() -> std::process::ExitCode {
    eprintln!(
        "penstock: this is a hypervisor for POWER machines; start it under QEMU with ./run-qemu.sh"
    );
    std::process::ExitCode::from(2)
}
