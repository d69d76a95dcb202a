// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The symbol by which the runtime's entry code finds this guest.

// UNSAFETY: an unmangled symbol.
#![expect(unsafe_code)]

use penstock_guest_rt::start::Boot;

// SAFETY: the runtime declares it with this signature, and nothing else has this name.
#[unsafe(no_mangle)]
extern "Rust" fn guest_main(boot: Boot) {
    crate::guest::main(boot);
}
