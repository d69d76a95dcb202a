// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The state at the entry point, and what the device tree says.
//!
//! Entry: MSR = SF | ME, big-endian, r3 = tree, r5 = 0; nothing of the hypervisor's in any other
//! register. Tree: LoPAR, Device Tree, as direct boot needs it.

use super::env::Env;
use penstock_guest_rt::context::Context;
use penstock_guest_rt::cpu;
use penstock_guest_rt::fdt::{doubleword, word};
use penstock_guest_rt::insn::Program;
use penstock_guest_rt::mmu;
use penstock_guest_rt::start;
use penstock_guest_rt::suite::{Check, Failure, Outcome, expect, expect_at, require};

/// The checks of this file.
pub const CHECKS: &[Check<Env>] = &[
    // First: no other code has used these registers yet.
    Check {
        name: "entry-vector-registers-are-zero",
        run: |_| vector_registers(),
    },
    Check {
        name: "entry-msr-is-sf-me-big-endian",
        run: entry_msr,
    },
    Check {
        name: "entry-r3-is-the-tree-and-r5-is-zero",
        run: entry_arguments,
    },
    Check {
        name: "entry-other-registers-are-zero",
        run: entry_registers,
    },
    Check {
        name: "entry-special-registers-are-zero",
        run: |_| entry_special_registers(),
    },
    Check {
        name: "entry-segments-are-empty",
        run: |_| segments(),
    },
    Check {
        name: "tree-root",
        run: tree_root,
    },
    Check {
        name: "tree-memory",
        run: tree_memory,
    },
    Check {
        name: "tree-reservations-cover-tree-and-rtas",
        run: tree_reservations,
    },
    Check {
        name: "tree-processor",
        run: tree_processor,
    },
    Check {
        name: "tree-page-sizes",
        run: tree_page_sizes,
    },
    Check {
        name: "tree-is-hash-only",
        run: tree_hash_only,
    },
    Check {
        name: "tree-function-sets",
        run: tree_function_sets,
    },
    Check {
        name: "tree-console",
        run: tree_console,
    },
    Check {
        name: "tree-interrupt-controller",
        run: tree_interrupts,
    },
];

fn missing(what: &'static str) -> Failure {
    Failure::Unfit {
        what,
        got: 0,
        want: "present",
    }
}

/// All vector registers and FPSCR are zero.
///
/// # Errors
/// One is not.
pub fn vector_registers() -> Outcome {
    let mut registers = [[1; 2]; 64];
    cpu::store_vector_registers(&mut registers);
    for (number, [low, high]) in (0u64..).zip(registers) {
        expect_at("VSR", number, low | high, 0)?;
    }
    expect("FPSCR", cpu::fpscr(), 0)
}

fn entry_msr(env: &mut Env) -> Outcome {
    expect("MSR", env.boot.entry.msr, 0x8000_0000_0000_1000)
}

fn entry_arguments(env: &mut Env) -> Outcome {
    expect("r3", env.boot.entry.gpr[3], env.boot.fdt_range.0)?;
    expect("r5", env.boot.entry.gpr[5], 0)?;
    require("r3", "in memory", env.boot.entry.gpr[3], |at| {
        at < env.boot.memory.end()
    })
}

fn entry_registers(env: &mut Env) -> Outcome {
    let entry = &env.boot.entry;
    for (number, value) in entry.gpr.iter().enumerate() {
        if number != 3 {
            expect_at("general register", number as u64, *value, 0)?;
        }
    }
    expect("LR", entry.lr, 0)?;
    expect("CTR", entry.ctr, 0)?;
    expect("XER", entry.xer, 0)?;
    expect("CR", entry.cr, 0)
}

/// The special registers that a guest may write are zero.
///
/// # Errors
/// One is not.
pub fn entry_special_registers() -> Outcome {
    use penstock_guest_rt::number::spr::*;
    for number in [
        AMR, DSCR, IAMR, PIDR, SPRG0, UAMOR, VRSAVE, TAR, PSPB, EBBHR, EBBRR, MMCR2, PMC1, SIAR,
        SDAR,
    ] {
        let mut context = Context::with_program(&Program::new().mfspr(4, number));
        context.run();
        expect_at("register", u64::from(number), context.gpr[4], 0)?;
    }
    Ok(())
}

/// The SLB is empty.
///
/// # Errors
/// It has an entry.
pub fn segments() -> Outcome {
    for entry in 0..32 {
        let (vsid, esid) = cpu::segment(entry);
        expect_at("ESID", entry, esid, 0)?;
        expect_at("VSID", entry, vsid, 0)?;
    }
    Ok(())
}

fn tree_root(env: &mut Env) -> Outcome {
    let root = env.boot.fdt.root().ok_or(missing("root"))?;
    expect(
        "#address-cells",
        root.cell("#address-cells").map_or(0, u64::from),
        2,
    )?;
    expect(
        "#size-cells",
        root.cell("#size-cells").map_or(0, u64::from),
        2,
    )?;
    require("device_type is chrp", "true", 0, |_| {
        root.string("device_type") == Some("chrp")
    })
}

fn tree_memory(env: &mut Env) -> Outcome {
    let memory = env.boot.fdt.node("/memory").ok_or(missing("/memory"))?;
    let reg = memory.property("reg").ok_or(missing("/memory reg"))?;
    expect("first address", doubleword(reg, 0).unwrap_or(1), 0)?;
    let bytes = doubleword(reg, 8).unwrap_or(0);
    require("size", "a multiple of 16 MiB", bytes, |b| {
        b != 0 && b.is_multiple_of(1 << 24)
    })?;
    require("device_type is memory", "true", 0, |_| {
        memory.string("device_type") == Some("memory")
    })
}

fn tree_reservations(env: &mut Env) -> Outcome {
    let (tree, bytes) = env.boot.fdt_range;
    let covered = |at: u64, len: u64| {
        env.boot
            .fdt
            .reservations()
            .any(|(base, size)| base <= at && at.saturating_add(len) <= base.saturating_add(size))
    };
    require("tree", "reserved", tree, |at| covered(at, bytes))?;
    require("tree", "below 1 GiB", tree, |at| at < 1 << 30)?;
    require("tree", "above the image", tree, |at| at >= start::image().1)?;
    let node = env.boot.fdt.node("/rtas").ok_or(missing("/rtas"))?;
    let base = u64::from(
        node.cell("linux,rtas-base")
            .ok_or(missing("linux,rtas-base"))?,
    );
    let size = u64::from(node.cell("rtas-size").ok_or(missing("rtas-size"))?);
    let entry = node.cell("linux,rtas-entry").map_or(base, u64::from);
    require("RTAS", "reserved", base, |at| covered(at, size))?;
    require("RTAS", "below 1 GiB", base, |at| at < 1 << 30)?;
    require("RTAS entry", "in RTAS", entry, |at| {
        at >= base && at < base + size
    })
}

fn tree_processor(env: &mut Env) -> Outcome {
    let cpu = mmu::cpu_node(&env.boot.fdt).ok_or(missing("processor node"))?;
    let cell = |name| cpu.cell(name).map_or(0, u64::from);
    expect(
        "timebase-frequency",
        cell("timebase-frequency"),
        512_000_000,
    )?;
    expect("ibm,slb-size", cell("ibm,slb-size"), 32)?;
    expect("ibm,vmx", cell("ibm,vmx"), 2)?;
    expect("d-cache-line-size", cell("d-cache-line-size"), 128)?;
    let pft = cpu
        .property("ibm,pft-size")
        .ok_or(missing("ibm,pft-size"))?;
    expect("ibm,pft-size node", word(pft, 0).map_or(1, u64::from), 0)?;
    require(
        "ibm,pft-size",
        "18 to 36",
        word(pft, 4).map_or(0, u64::from),
        |order| (18..=36).contains(&order),
    )?;
    let sizes = cpu
        .property("ibm,processor-segment-sizes")
        .ok_or(missing("segment sizes"))?;
    expect(
        "first segment size",
        word(sizes, 0).map_or(0, u64::from),
        28,
    )?;
    expect(
        "second segment size",
        word(sizes, 4).map_or(0, u64::from),
        40,
    )
}

/// All sizes up to the one that the command line says (`largest=BYTES`), or 16 MiB, and no others.
fn tree_page_sizes(env: &mut Env) -> Outcome {
    use penstock_guest_rt::hpt::{P4K, P4K_16M, P4K_64K, P16M, P64K, P64K_16M};
    let largest = env.word_of("largest=").and_then(|text| text.parse().ok());
    let largest = largest.unwrap_or(1_u64 << 24);
    for size in [P4K, P4K_64K, P64K, P4K_16M, P64K_16M, P16M] {
        let listed = mmu::has_page_size(&env.boot.fdt, &size);
        let bytes = 1 << size.actual;
        expect_at(
            "listed",
            bytes,
            u64::from(listed),
            u64::from(bytes <= largest),
        )?;
    }
    Ok(())
}

fn tree_hash_only(env: &mut Env) -> Outcome {
    let chosen = env.boot.fdt.node("/chosen").ok_or(missing("/chosen"))?;
    if let Some(vector5) = chosen.property("ibm,architecture-vec-5") {
        expect(
            "vector 5 byte 24",
            u64::from(vector5.get(24).copied().unwrap_or(0)),
            0,
        )?;
    }
    expect("radix feature", feature(env, 40), 0)?;
    expect("transactional memory", feature(env, 22), 0)
}

/// Bit 0 of a byte of `ibm,pa-features`, which has two bytes of header.
pub fn feature(env: &Env, byte: usize) -> u64 {
    mmu::cpu_node(&env.boot.fdt)
        .and_then(|cpu| cpu.property("ibm,pa-features")?.get(byte + 2).copied())
        .map_or(0, |byte| u64::from(byte >> 7))
}

fn tree_function_sets(env: &mut Env) -> Outcome {
    let node = env.boot.fdt.node("/rtas").ok_or(missing("/rtas"))?;
    for set in [
        "hcall-pft",
        "hcall-bulk",
        "hcall-block-remove",
        "hcall-clr-hpt",
        "hcall-copy",
        "hcall-term",
        if super::xive::is_on(env) {
            "hcall-int-exploitation"
        } else {
            "hcall-interrupt"
        },
        "hcall-set-mode",
        "hcall-splpar",
        "hcall-join",
        "hcall-sprg0",
        "hcall-random",
        "SLB-Buffer",
    ] {
        require(set, "in ibm,hypertas-functions", 0, |_| {
            node.has_string("ibm,hypertas-functions", set)
        })?;
    }
    Ok(())
}

fn tree_console(env: &mut Env) -> Outcome {
    let vdevice = env.boot.fdt.node("/vdevice").ok_or(missing("/vdevice"))?;
    let vty = vdevice
        .children()
        .find(|node| node.has_string("compatible", "hvterm1"));
    let unit = vty.and_then(|node| node.cell("reg")).map_or(0, u64::from);
    require("hvterm1 unit address", "not 0", unit, |unit| unit != 0)
}

fn tree_interrupts(env: &mut Env) -> Outcome {
    let root = env.boot.fdt.root().ok_or(missing("root"))?;
    let xics = root
        .children()
        .find(|node| node.has_string("compatible", "IBM,ppc-xicp"));
    let xive = root
        .children()
        .find(|node| node.has_string("compatible", "ibm,power-ivpe"));
    require("interrupt controller", "XICS or XIVE", 0, |_| {
        xics.is_some() || xive.is_some()
    })
}
