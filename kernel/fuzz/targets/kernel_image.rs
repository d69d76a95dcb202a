// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Any bytes as a guest's kernel: a plan stays inside the file and guest memory, and no two parts of
//! it overlap.
//!
//! The first eight bytes choose the load address and the sizes, the rest is the file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use penstock_arch::addr::GuestReal;
use penstock_kernel::image::{self, FDT_BYTES, LoadRequest, RTAS_BYTES};

fuzz_target!(|bytes: &[u8]| {
    let Some((&[flags, load, units, initrd @ ..], kernel)) = bytes.split_first_chunk::<8>() else {
        return;
    };
    let initrd_bytes = u64::from(u32::from_be_bytes([0, initrd[0], initrd[1], initrd[2]]));
    let request = LoadRequest {
        kernel,
        load_address: (flags & 1 != 0).then(|| GuestReal::new(u64::from(load) << 14)),
        memory_bytes: (u64::from(units) << 24).max(1 << 24) << (flags >> 1 & 7),
        initrd_bytes: (flags & 0x80 != 0).then_some(initrd_bytes),
        fdt_bytes: FDT_BYTES,
    };
    let plan = match image::plan(&request) {
        Ok(plan) => plan,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let mut parts = vec![
        (plan.rtas.get(), RTAS_BYTES),
        (plan.fdt.get(), plan.fdt_bytes),
    ];
    assert!(parts.iter().all(|(start, bytes)| start + bytes <= 1 << 30));
    if let Some(range) = plan.initrd {
        parts.push((range.start.get(), range.end.get() - range.start.get()));
    }
    for copy in &plan.copies {
        assert!(copy.file.start <= copy.file.end && copy.file.end <= kernel.len());
        let bytes = copy.file.len() as u64 + copy.zero_bytes;
        assert!(copy.guest.get() + bytes <= plan.kernel_end.get());
        parts.push((copy.guest.get(), bytes));
    }
    let entry = plan.entry.get();
    assert!(
        parts
            .iter()
            .any(|(start, bytes)| (*start..start + bytes).contains(&entry))
    );
    parts.sort_unstable();
    for pair in parts.windows(2) {
        assert!(pair[0].0 + pair[0].1 <= pair[1].0, "parts overlap");
    }
    let (start, bytes) = parts[parts.len() - 1];
    assert!(start + bytes <= request.memory_bytes);
});
