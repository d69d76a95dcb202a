// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The operations and their targets, in the order of the printed table.
//!
//! An operation's cost is what the time base shows between two readings around a batch of
//! operations, the loop's own instructions included (about 8 for each operation). Under QEMU's
//! `-icount shift=0` an instruction takes 1 ns of the 512 MHz time base, whoever executes it.

mod controller;
mod faults;
mod hcalls;
mod measure;

use measure::{Bench, Cost, report};
use penstock_guest_rt::console::println;
use penstock_guest_rt::start::Boot;

/// One row of the table.
struct Operation {
    name: &'static str,
    /// What Penstock aims at, in instructions.
    target: u32,
    /// KVM HV on POWER9, in instructions; `-` where nobody measured it.
    kvm: &'static str,
    run: fn(&mut Bench) -> Cost,
}

const OPERATIONS: [Operation; 21] = [
    Operation {
        name: "cheapest hcall (H_CPPR)",
        target: 120,
        kvm: "2346",
        run: hcalls::cppr,
    },
    Operation {
        name: "H_READ",
        target: 180,
        kvm: "2754",
        run: hcalls::read,
    },
    Operation {
        name: "H_PROTECT",
        target: 330,
        kvm: "2809",
        run: hcalls::protect,
    },
    Operation {
        name: "H_CLEAR_REF",
        target: 250,
        kvm: "2758",
        run: hcalls::clear_ref,
    },
    Operation {
        name: "H_CLEAR_MOD",
        target: 330,
        kvm: "2840",
        run: hcalls::clear_mod,
    },
    Operation {
        name: "H_ENTER 4K",
        target: 420,
        kvm: "3697",
        run: hcalls::enter_4k,
    },
    Operation {
        name: "H_ENTER 64K",
        target: 420,
        kvm: "3697",
        run: hcalls::enter_64k,
    },
    Operation {
        name: "H_REMOVE 4K",
        target: 400,
        kvm: "3484",
        run: hcalls::remove_4k,
    },
    Operation {
        name: "H_REMOVE 64K",
        target: 400,
        kvm: "3484",
        run: hcalls::remove_64k,
    },
    Operation {
        name: "H_BULK_REMOVE of 4",
        target: 1000,
        kvm: "6315",
        run: hcalls::bulk_remove,
    },
    // Twice what four entries may cost.
    Operation {
        name: "H_BLOCK_REMOVE of 8",
        target: 2000,
        kvm: "-",
        run: hcalls::block_remove,
    },
    Operation {
        name: "H_PAGE_INIT, zero 4K",
        target: 350,
        kvm: "3590",
        run: hcalls::page_init,
    },
    Operation {
        name: "hypervisor fault, memory present",
        target: 450,
        kvm: "4246",
        run: faults::memory_present,
    },
    Operation {
        name: "hypervisor fault, first touch of 64K",
        target: 3000,
        kvm: "10131",
        run: faults::first_touch,
    },
    // The same fault twice: in the table of backed memory without an exit, in the other with one.
    Operation {
        name: "hypervisor fault, true protection",
        target: 450,
        kvm: "-",
        run: faults::protection_fault,
    },
    Operation {
        name: "guest's own protection fault",
        target: 450,
        kvm: "-",
        run: faults::protection_fault,
    },
    // So is this one.
    Operation {
        name: "hypervisor fault, no HPTE",
        target: 250,
        kvm: "-",
        run: faults::own_fault,
    },
    Operation {
        name: "guest's own page fault, no HPTE",
        target: 250,
        kvm: "-",
        run: faults::own_fault,
    },
    Operation {
        name: "self-IPI by XICS, sent to finished",
        target: 1200,
        kvm: "11469",
        run: hcalls::self_ipi,
    },
    Operation {
        name: "H_PUT_TERM_CHAR, one character",
        target: 200,
        kvm: "-",
        run: hcalls::put_term_char,
    },
    Operation {
        name: "empty loop (not an hcall)",
        target: 8,
        kvm: "8",
        run: hcalls::empty,
    },
];

/// What a partition in exploitation mode has beside: nothing of the others depends on the mode.
const EXPLOITATION: [Operation; 4] = [
    Operation {
        name: "first touch of an ESB page",
        target: 600,
        kvm: "9400",
        run: controller::esb_page_asked,
    },
    Operation {
        name: "first touch of an ESB page not asked",
        target: 600,
        kvm: "9400",
        run: controller::esb_page,
    },
    Operation {
        name: "first touch of the TIMA page",
        target: 600,
        kvm: "9400",
        run: controller::tima_page,
    },
    Operation {
        name: "self-IPI by XIVE exploitation",
        target: 115,
        kvm: "115",
        run: controller::self_ipi,
    },
];

/// Measures and prints each operation.
pub fn main(boot: Boot) {
    let Some(mut bench) = Bench::new(boot) else {
        println!("bench: the device tree has no page table or too little memory");
        return;
    };
    println!("bench: time base ticks / 0.512; these are instructions under -icount shift=0");
    let operations: &[Operation] = if controller::is_exploited(&bench.boot.fdt) {
        &EXPLOITATION
    } else {
        &OPERATIONS
    };
    for operation in operations {
        let cost = (operation.run)(&mut bench);
        report(operation.name, operation.target, operation.kvm, cost);
    }
    println!("bench: end");
}
