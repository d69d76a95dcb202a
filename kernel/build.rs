// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Passes the linker script to the bare-metal build, and embeds the built-in guest.

use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let bare = env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "none");
    if bare {
        let script = manifest.join("../linker.ld");
        println!("cargo::rerun-if-changed={}", script.display());
        println!("cargo::rustc-link-arg-bin=penstock=-T{}", script.display());
        println!("cargo::rustc-link-arg-bin=penstock=-zmax-page-size=0x10000");
        println!("cargo::rustc-link-arg-bin=penstock=--no-dynamic-linker");
    }
    println!("cargo::rerun-if-env-changed=PENSTOCK_BUILTIN_GUEST");
    let embedded = out.join("builtin-guest");
    match env::var_os("PENSTOCK_BUILTIN_GUEST").filter(|_| bare) {
        Some(guest) => {
            let guest = Path::new(&guest);
            println!("cargo::rerun-if-changed={}", guest.display());
            if let Err(error) = fs::copy(guest, &embedded) {
                panic!("PENSTOCK_BUILTIN_GUEST: {}: {error}", guest.display());
            }
        }
        None => fs::write(&embedded, []).expect("OUT_DIR is writable"),
    }
}
