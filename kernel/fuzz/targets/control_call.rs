// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Any bytes as tools: calls of H_CONTROL with any registers and buffers, between what guests and the
//! machine do.
#![no_main]

use libfuzzer_sys::fuzz_target;
use penstock_kernel::control::fuzzing::Tools;
use std::cell::RefCell;

thread_local! {
    static TOOLS: RefCell<Tools> = RefCell::new(Tools::new());
}

fuzz_target!(|bytes: &[u8]| TOOLS.with_borrow_mut(|tools| tools.run(bytes)));
