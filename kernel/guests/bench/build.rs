// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Hands the test guests' linker script to the linker, for the bare-metal target only.

fn main() {
    println!("cargo::rerun-if-changed=../rt/guest.ld");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        let folder = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| ".".into());
        println!("cargo::rustc-link-arg-bins=-T{folder}/../rt/guest.ld");
    }
}
