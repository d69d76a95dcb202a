// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is known of a virtual processor that an error has stopped: one page of text.
//!
//! It is off its thread, so all its registers are in its record. Nothing here changes anything of the
//! guest's or takes a lock of its page table, for the error may have left one behind.

use crate::exit::GuestExit;
use crate::hcall;
use crate::platform::Platform;
use crate::vcpu::Vcpu;
use core::fmt::{self, Write};
use penstock_arch::addr::EffectiveAddr;
use penstock_arch::hcall_log::LoggedCall;
use penstock_arch::regs::{Msr, VcpuSpr};

/// The special purpose registers that tell most, in rows of four.
const SPRS: [[(&str, VcpuSpr); 4]; 4] = [
    [
        ("SRR0", VcpuSpr::Srr0),
        ("SRR1", VcpuSpr::Srr1),
        ("DAR", VcpuSpr::Dar),
        ("DSISR", VcpuSpr::Dsisr),
    ],
    [
        ("SPRG0", VcpuSpr::Sprg0),
        ("SPRG1", VcpuSpr::Sprg1),
        ("SPRG2", VcpuSpr::Sprg2),
        ("SPRG3", VcpuSpr::Sprg3),
    ],
    [
        ("PIDR", VcpuSpr::Pidr),
        ("AMR", VcpuSpr::Amr),
        ("IAMR", VcpuSpr::Iamr),
        ("TAR", VcpuSpr::Tar),
    ],
    [
        ("FSCR", VcpuSpr::Fscr),
        ("DSCR", VcpuSpr::Dscr),
        ("PPR", VcpuSpr::Ppr),
        ("CTRL", VcpuSpr::Ctrl),
    ],
];

/// Hypervisor calls in a line.
const CALLS_IN_A_LINE: usize = 3;

/// Writes the page. `exit` is what the virtual processor stopped at; the first line names the
/// partition, all others begin with two spaces.
///
/// # Errors
/// Those of `out`.
pub fn write_post_mortem<P: Platform>(
    out: &mut impl Write,
    vcpu: &Vcpu<P>,
    exit: GuestExit,
) -> fmt::Result {
    let ctx = &vcpu.ctx;
    let name = &vcpu.partition.name;
    writeln!(out, "{name}: stopped: {exit:?} at {:#x}", ctx.pc)?;
    writeln!(
        out,
        "  CPU {} MSR {:#x} LR {:#x} CTR {:#x} CR {:#x} XER {:#x} CFAR {:#x} LPCR {:#x}",
        vcpu.server,
        ctx.msr,
        ctx.lr,
        ctx.ctr,
        ctx.cr,
        ctx.xer,
        ctx.cfar,
        vcpu.hardware_lpcr().bits()
    )?;
    for row in SPRS {
        write!(out, " ")?;
        for (name, spr) in row {
            write!(out, " {name} {:#x}", vcpu.parked.spr(spr))?;
        }
        writeln!(out)?;
    }
    write_gprs(out, ctx.gpr)?;
    let dar = EffectiveAddr::new(vcpu.parked.spr(VcpuSpr::Dar));
    translation(out, vcpu, "NIP", EffectiveAddr::new(ctx.pc), Msr::IR)?;
    translation(out, vcpu, "DAR", dar, Msr::DR)?;
    if let Some(at) = vcpu.fault_address {
        // A fault at the next instruction was its fetch.
        let fetch = at.get() == ctx.pc;
        translation(
            out,
            vcpu,
            "fault",
            at,
            if fetch { Msr::IR } else { Msr::DR },
        )?;
    }
    calls(out, vcpu.log.calls(ctx.hcall_log))
}

/// Writes general purpose registers, four in a line.
///
/// # Errors
/// Those of `out`.
pub fn write_gprs(out: &mut (impl Write + ?Sized), gpr: [u64; 32]) -> fmt::Result {
    for (row, chunk) in gpr.chunks(4).enumerate() {
        write!(out, "  r{:<2}", row * 4)?;
        for value in chunk {
            write!(out, " {value:016x}")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// How the guest's page table translates an address, for an access with `relocation` as the MSR has it.
fn translation<P: Platform>(
    out: &mut impl Write,
    vcpu: &Vcpu<P>,
    what: &str,
    at: EffectiveAddr,
    relocation: Msr,
) -> fmt::Result {
    write!(out, "  {what} {:#x}: ", at.get())?;
    let segment = if vcpu.ctx.msr & relocation.bits() == 0 {
        write!(out, "real mode")?;
        None
    } else {
        let Some(segment) = vcpu.parked.segment_of(at) else {
            return writeln!(out, "no segment");
        };
        write!(out, "segment {:016x}", segment.get())?;
        Some(segment)
    };
    match vcpu.partition.mmu.look_up(at, segment) {
        None => writeln!(out, ", no HPTE"),
        Some(found) => {
            let [v, r] = found.guest;
            let validity = if found.is_valid { "valid" } else { "hidden" };
            writeln!(
                out,
                ", HPTE {:#x} {v:016x} {r:016x}, {validity}",
                found.index.get()
            )
        }
    }
}

/// The calls, oldest first.
fn calls(out: &mut impl Write, calls: impl Iterator<Item = LoggedCall>) -> fmt::Result {
    writeln!(
        out,
        "  Last hypervisor calls, oldest first, with r4 and status:"
    )?;
    let mut place = 0;
    for call in calls {
        let before = match place % CALLS_IN_A_LINE {
            0 => "   ",
            _ => ";",
        };
        write!(out, "{before} ")?;
        match named(call.token) {
            Some(name) => write!(out, "{name}")?,
            None => write!(out, "{:#x}", call.token)?,
        }
        write!(out, " {:#x} {}", call.argument, call.status)?;
        place += 1;
        if place % CALLS_IN_A_LINE == 0 {
            writeln!(out)?;
        }
    }
    match place {
        0 => writeln!(out, "    none"),
        _ if place % CALLS_IN_A_LINE != 0 => writeln!(out),
        _ => Ok(()),
    }
}

fn named(token: u32) -> Option<&'static str> {
    let mut names = hcall::table::NAMES.iter();
    let (_, name) = names.find(|(number, _)| *number == u64::from(token))?;
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Rig;
    use alloc::string::String;
    use penstock_arch::switch::SlbEntry;

    fn page(rig: &Rig, exit: GuestExit) -> String {
        let mut out = String::new();
        write_post_mortem(&mut out, &rig.vcpu, exit).unwrap();
        out
    }

    #[test]
    fn all_that_is_known_is_one_page() {
        let mut rig = Rig::new();
        let vcpu = &mut rig.vcpu;
        vcpu.ctx.gpr = core::array::from_fn(|i| i as u64 * 0x11);
        vcpu.ctx.pc = 0xc000_0000_0012_3450;
        vcpu.ctx.msr = 0x8000_0000_0000_1033;
        (vcpu.ctx.lr, vcpu.ctx.ctr) = (0x1000, 0x2000);
        (vcpu.ctx.xer, vcpu.ctx.cr, vcpu.ctx.cfar) = (0x3, 0x2244_0000, 0x4000);
        vcpu.parked.set_spr(VcpuSpr::Dar, 0x10_0000_0008);
        vcpu.parked.set_spr(VcpuSpr::Dsisr, 0x4200_0000);
        vcpu.parked.slb[1] = SlbEntry {
            esid: 0xc000_0000_0800_0001,
            vsid: 0x4000_1234_5600_0510,
        };
        // A page of 64 KiB at 1 MiB, in group 0x444.
        let entered = vcpu
            .partition
            .mmu
            .h_enter(0, 0x2220, 0x4000_1234_5600_0005, 0x10_1192);
        assert_eq!(entered, Ok(0x2220));
        let lpcr = vcpu.hardware_lpcr().bits();
        let text = page(&rig, GuestExit::MachineCheck);
        let expected = alloc::format!(
            "test: stopped: MachineCheck at 0xc000000000123450\n  \
             CPU 0 MSR 0x8000000000001033 LR 0x1000 CTR 0x2000 CR 0x22440000 XER 0x3 CFAR 0x4000 LPCR {lpcr:#x}\n  \
             SRR0 0x0 SRR1 0x0 DAR 0x1000000008 DSISR 0x42000000\n  \
             SPRG0 0x0 SPRG1 0x0 SPRG2 0x0 SPRG3 0x0\n  \
             PIDR 0x0 AMR 0x0 IAMR 0x0 TAR 0x0\n  \
             FSCR 0x0 DSCR 0x0 PPR 0x10000000000000 CTRL 0x1\n  \
             r0  0000000000000000 0000000000000011 0000000000000022 0000000000000033\n  \
             r4  0000000000000044 0000000000000055 0000000000000066 0000000000000077\n"
        );
        assert!(text.starts_with(&expected), "{text}");
        let tail = "  r28 00000000000001dc 00000000000001ed 00000000000001fe 000000000000020f\n  \
             NIP 0xc000000000123450: segment 4000123456000510, HPTE 0x2220 4000123456000005 0000000000101192, valid\n  \
             DAR 0x1000000008: no segment\n  \
             Last hypervisor calls, oldest first, with r4 and status:\n    \
             none\n";
        assert!(text.ends_with(tail), "{text}");
        assert!(text.lines().count() < 50);
        assert!(text.lines().skip(1).all(|line| line.starts_with("  ")));
    }

    #[test]
    fn an_address_in_real_mode_is_looked_up_where_the_hypervisor_has_entered_it() {
        let mut rig = Rig::new();
        rig.vcpu.ctx.pc = 0x100;
        rig.vcpu.fault_address = Some(EffectiveAddr::new(1 << 42));
        let text = page(&rig, GuestExit::BackingTooSmall);
        assert!(text.contains("  NIP 0x100: real mode, HPTE 0x"), "{text}");
        assert!(
            text.contains("  fault 0x40000000000: real mode, no HPTE\n"),
            "{text}"
        );
    }

    #[test]
    fn calls_are_named_and_stand_three_in_a_line() {
        let call = |token, argument, status| LoggedCall {
            token,
            argument,
            status,
        };
        let mut out = String::new();
        let made = [
            call(0x8, 0, 0),
            call(0x58, 0x7100_0000, 0),
            call(0x3fc, 0xffff_ffff_ffff_ffff, -2),
            call(0xf000, 0x1000, -4),
        ];
        calls(&mut out, made.into_iter()).unwrap();
        assert_eq!(
            out,
            "  Last hypervisor calls, oldest first, with r4 and status:\n    \
             H_ENTER 0x0 0; H_PUT_TERM_CHAR 0x71000000 0; 0x3fc 0xffffffffffffffff -2\n    \
             H_RTAS 0x1000 -4\n"
        );
        let mut out = String::new();
        calls(&mut out, made.into_iter().take(3)).unwrap();
        assert!(out.ends_with(" -2\n"));
    }
}
