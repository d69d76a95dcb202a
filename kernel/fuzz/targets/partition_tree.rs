// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Any bytes as a partition tree: the parser, its checks, and the plan of every partition's start.
#![no_main]

use libfuzzer_sys::fuzz_target;
use penstock_kernel::config::{self, MEMORY_UNIT_BYTES};
use penstock_kernel::image::{self, LoadRequest};

fuzz_target!(|bytes: &[u8]| {
    let partitions = match config::parse(bytes) {
        Ok(partitions) => partitions,
        Err(error) => {
            let line = error.to_string();
            assert!(!line.is_empty() && !line.contains('\n'));
            return;
        }
    };
    let _ = partitions.check_supported();
    let fits = partitions.check_against(1 << 40).is_ok();
    for partition in partitions.as_slice() {
        assert!(partition.memory_bytes > 0 && partition.memory_bytes % MEMORY_UNIT_BYTES == 0);
        assert!(!fits || partition.required_bytes() <= 1 << 40);
        if let Err(error) = image::plan(&LoadRequest::of(partition)) {
            assert!(!error.to_string().is_empty());
        }
    }
});
