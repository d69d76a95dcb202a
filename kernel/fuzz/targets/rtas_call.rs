// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Any bytes as an RTAS argument call buffer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use penstock_kernel::fuzzing::Guest;
use std::cell::RefCell;

thread_local! {
    static GUEST: RefCell<Guest> = RefCell::new(Guest::new());
}

fuzz_target!(|bytes: &[u8]| GUEST.with_borrow_mut(|guest| guest.rtas(bytes)));
