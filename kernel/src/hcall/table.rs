// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The table of hypervisor calls, as data.
//!
//! Dispatch, counts, the function sets told to the guest and the README's list all come from it.

use super::{
    Handler, SLOTS, clear_hpt, console, control, cpu, exploitation, h_function, interrupt, memory,
    performance, resize, rtas, slot,
};
use crate::platform::Platform;
use crate::presentation::InterruptMode;

/// One hypervisor call.
pub struct Hcall<P: Platform> {
    /// Token in r3.
    pub number: u64,
    /// LoPAR's name.
    pub name: &'static str,
    /// Arguments from r4 on.
    pub args: &'static str,
    /// What serves it.
    pub handler: Handler<P>,
    /// Section that defines it.
    pub source: &'static str,
}

/// The table for a platform.
pub struct Table<P: Platform>(core::marker::PhantomData<P>);

macro_rules! hcalls {
    ($($number:literal $name:ident($args:literal) = $handler:path, $source:literal;)*) => {
        impl<P: Platform> Table<P> {
            /// Every call that is served, in the order of LoPAR's table.
            pub const HCALLS: &'static [Hcall<P>] = &[
                $(Hcall {
                    number: $number,
                    name: stringify!($name),
                    args: $args,
                    handler: $handler,
                    source: $source,
                },)*
            ];
        }

        /// Token and name of every call that is served.
        pub const NAMES: &[(u64, &str)] = &[$(($number, stringify!($name)),)*];
    };
}

hcalls! {
    0x004 H_REMOVE("flags, pte-index, avpn") = memory::h_remove, "LoPAR, H_REMOVE";
    0x008 H_ENTER("flags, pte-index, pteh, ptel") = memory::h_enter, "LoPAR, H_ENTER";
    0x00c H_READ("flags, pte-index") = memory::h_read, "LoPAR, H_READ";
    0x010 H_CLEAR_MOD("flags, pte-index") = memory::h_clear_mod, "LoPAR, H_CLEAR_MOD";
    0x014 H_CLEAR_REF("flags, pte-index") = memory::h_clear_ref, "LoPAR, H_CLEAR_REF";
    0x018 H_PROTECT("flags, pte-index, avpn") = memory::h_protect, "LoPAR, H_PROTECT";
    0x024 H_SET_SPRG0("value") = cpu::h_set_sprg0, "LoPAR, H_SET_SPRG0";
    0x028 H_SET_DABR("value") = cpu::h_set_dabr, "LoPAR, H_SET_DABR";
    0x02c H_PAGE_INIT("flags, destination, source") = memory::h_page_init, "LoPAR, H_PAGE_INIT";
    0x054 H_GET_TERM_CHAR("termno") = console::h_get_term_char, "LoPAR, H_GET_TERM_CHAR";
    0x058 H_PUT_TERM_CHAR("termno, len, char0-7, char8-15") = console::h_put_term_char, "LoPAR, H_PUT_TERM_CHAR";
    0x064 H_EOI("xirr") = interrupt::h_eoi, "LoPAR, H_EOI";
    0x068 H_CPPR("cppr") = interrupt::h_cppr, "LoPAR, H_CPPR";
    0x06c H_IPI("server, mfrr") = interrupt::h_ipi, "LoPAR, H_IPI";
    0x070 H_IPOLL("server") = interrupt::h_ipoll, "LoPAR, H_IPOLL";
    0x074 H_XIRR("cppr") = interrupt::h_xirr, "LoPAR, H_XIRR / H_XIRR-X";
    0x0dc H_REGISTER_VPA("flags, proc-no, address") = cpu::h_register_vpa, "LoPAR, H_REGISTER_VPA";
    0x0e0 H_CEDE("") = cpu::h_cede, "LoPAR, H_CEDE";
    0x0e4 H_CONFER("proc-no, dispatch-count") = cpu::h_confer, "LoPAR, H_CONFER";
    0x0e8 H_PROD("proc-no") = cpu::h_prod, "LoPAR, H_PROD";
    0x0ec H_GET_PPP("") = performance::h_get_ppp, "LoPAR, H_GET_PPP";
    0x0f0 H_SET_PPP("entitled, weight") = performance::h_set_ppp, "LoPAR, H_SET_PPP";
    0x0f4 H_PURR("") = performance::h_purr, "LoPAR, H_PURR";
    0x0f8 H_PIC("") = performance::h_pic, "LoPAR, H_PIC";
    0x124 H_BULK_REMOVE("four translation specifiers") = memory::h_bulk_remove, "LoPAR, H_BULK_REMOVE";
    0x1c8 H_GET_CPU_CHARACTERISTICS("") = cpu::h_get_cpu_characteristics, "PAPR, newer than LoPAR: H_GET_CPU_CHARACTERISTICS";
    0x1d8 H_POLL_PENDING("") = performance::h_poll_pending, "LoPAR, H_POLL_PENDING";
    0x298 H_JOIN("") = cpu::h_join, "LoPAR, H_JOIN";
    0x2fc H_XIRR_X("cppr") = interrupt::h_xirr_x, "LoPAR, H_XIRR / H_XIRR-X";
    0x300 H_RANDOM("") = cpu::h_random, "LoPAR, H_RANDOM";
    0x31c H_SET_MODE("mflags, resource, value1, value2") = cpu::h_set_mode, "LoPAR, H_SET_MODE";
    0x328 H_BLOCK_REMOVE("ava, eight translation specifiers") = memory::h_block_remove, "LoPAR, H_BLOCK_REMOVE";
    0x358 H_CLEAR_HPT("") = clear_hpt::h_clear_hpt, "LoPAR, H_CLEAR_HPT";
    0x36c H_RESIZE_HPT_PREPARE("flags, shift") = resize::h_resize_hpt_prepare, "LoPAR, H_RESIZE_HPT_PREPARE";
    0x370 H_RESIZE_HPT_COMMIT("flags, shift") = resize::h_resize_hpt_commit, "LoPAR, H_RESIZE_HPT_COMMIT";
    0x37c H_REGISTER_PROC_TBL("flags, table, page-size, size") = cpu::h_register_proc_tbl, "LoPAR, H_REGISTER_PROCESS_TABLE";
    0x380 H_SIGNAL_SYS_RESET("target") = cpu::h_signal_sys_reset, "PAPR, newer than LoPAR: H_SIGNAL_SYS_RESET";
    0x3a8 H_INT_GET_SOURCE_INFO("flags, lisn") = exploitation::h_int_get_source_info, "LoPAR, H_INT_GET_SOURCE_INFO";
    0x3ac H_INT_SET_SOURCE_CONFIG("flags, lisn, target, priority, eisn") = exploitation::h_int_set_source_config, "LoPAR, H_INT_SET_SOURCE_CONFIG";
    0x3b0 H_INT_GET_SOURCE_CONFIG("flags, lisn") = exploitation::h_int_get_source_config, "LoPAR, H_INT_GET_SOURCE_CONFIG";
    0x3b4 H_INT_GET_QUEUE_INFO("flags, target, priority") = exploitation::h_int_get_queue_info, "LoPAR, H_INT_GET_QUEUE_INFO";
    0x3b8 H_INT_SET_QUEUE_CONFIG("flags, target, priority, queue, size") = exploitation::h_int_set_queue_config, "LoPAR, H_INT_SET_QUEUE_CONFIG";
    0x3bc H_INT_GET_QUEUE_CONFIG("flags, target, priority") = exploitation::h_int_get_queue_config, "LoPAR, H_INT_GET_QUEUE_CONFIG";
    0x3c0 H_INT_SET_OS_REPORTING_LINE("flags, line") = exploitation::h_int_set_os_reporting_line, "LoPAR, H_INT_SET_OS_REPORTING_LINE";
    0x3c4 H_INT_GET_OS_REPORTING_LINE("flags, target") = exploitation::h_int_get_os_reporting_line, "LoPAR, H_INT_GET_OS_REPORTING_LINE";
    0x3c8 H_INT_ESB("flags, lisn, offset, data") = exploitation::h_int_esb, "LoPAR, H_INT_ESB";
    0x3cc H_INT_SYNC("flags, lisn") = exploitation::h_int_sync, "LoPAR, H_INT_SYNC";
    0x3d0 H_INT_RESET("flags") = exploitation::h_int_reset, "LoPAR, H_INT_RESET";
    0xf000 H_RTAS("argument block") = rtas::h_rtas, "private: RTAS by hcall, as the RTAS blob makes it";
    0xf004 H_CONTROL("function, partition, buffer, length, arguments") = control::h_control, "private: the control interface, for partitions marked `control`";
}

/// The mode of interrupts in which a call exists, if there is but one (LoPAR, XIVE Legacy vs.
/// Exploitation Mode Hypervisor Call Function Table).
#[must_use]
pub const fn mode_of(token: u64) -> Option<InterruptMode> {
    match token {
        0x064..=0x074 | 0x2fc => Some(InterruptMode::Xics),
        0x3a8..=0x3d0 => Some(InterruptMode::Xive),
        _ => None,
    }
}

/// Whether a partition in this mode has a call.
const fn has(mode: InterruptMode, token: u64) -> bool {
    match mode_of(token) {
        Some(only) => only as u8 == mode as u8,
        None => true,
    }
}

impl<P: Platform> Table<P> {
    /// Handlers by slot, of a partition that makes XICS calls.
    pub const DISPATCH: &'static [Handler<P>; SLOTS] = &Self::build(InterruptMode::Xics);
    /// The same for a partition in exploitation mode.
    pub const EXPLOITATION: &'static [Handler<P>; SLOTS] = &Self::build(InterruptMode::Xive);

    pub(super) const fn build(mode: InterruptMode) -> [Handler<P>; SLOTS] {
        let mut slots: [Handler<P>; SLOTS] = [h_function::<P>; SLOTS];
        let mut i = 0;
        while i < Self::HCALLS.len() {
            match slot(Self::HCALLS[i].number) {
                _ if !has(mode, Self::HCALLS[i].number) => {}
                Some(at) => slots[at] = Self::HCALLS[i].handler,
                None => panic!("a token that the dispatch table cannot hold"),
            }
            i += 1;
        }
        slots
    }
}

/// The function set that only a partition with a second table is told of.
pub const RESIZE_SET: &str = "hcall-hpt-resize";

/// LoPAR's function sets that the table could serve, with all that each demands (LoPAR,
/// Hypervisor Call Functions, table of hcall() tokens). Sets of several calls come whole or not.
const SETS: &[(&str, &[u64])] = &[
    ("hcall-pft", &[0x04, 0x08, 0x0c, 0x10, 0x14, 0x18]),
    ("hcall-bulk", &[0x124]),
    ("hcall-block-remove", &[0x328]),
    ("hcall-clr-hpt", &[0x358]),
    (RESIZE_SET, &[0x36c, 0x370]),
    ("hcall-copy", &[0x2c]),
    ("hcall-sprg0", &[0x24]),
    ("hcall-term", &[0x54, 0x58]),
    ("hcall-interrupt", &[0x64, 0x68, 0x6c, 0x70, 0x74, 0x2fc]),
    (
        "hcall-int-exploitation",
        &[
            0x3a8, 0x3ac, 0x3b0, 0x3b4, 0x3b8, 0x3bc, 0x3c0, 0x3c4, 0x3c8, 0x3cc, 0x3d0,
        ],
    ),
    ("hcall-splpar", &[0xdc, 0xe0, 0xe4, 0xe8, 0xec, 0xf0, 0xf4]),
    ("SLB-Buffer", &[0xdc]),
    ("hcall-join", &[0x298]),
    ("hcall-pic", &[0xf8]),
    ("hcall-poll-pending", &[0x1d8]),
    ("hcall-random", &[0x300]),
    ("hcall-set-mode", &[0x31c]),
];

/// The function sets of `ibm,hypertas-functions`: those of which a partition in this mode has every
/// call.
pub fn function_sets(mode: InterruptMode) -> impl Iterator<Item = &'static str> {
    SETS.iter()
        .filter(move |(_, calls)| {
            calls
                .iter()
                .all(|call| has(mode, *call) && NAMES.iter().any(|(n, _)| n == call))
        })
        .map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    /// LoPAR's table: name | token | class | mandatory | function set.
    const LOPAR: &str = include_str!("lopar-hcall-table.txt");

    fn rows() -> impl Iterator<Item = (&'static str, Option<u64>, &'static str)> {
        LOPAR.lines().skip(1).filter_map(|line| {
            let mut cells = line.split('|').map(str::trim);
            let name = cells.next()?.split('/').next()?.trim();
            let token = cells
                .next()?
                .strip_prefix("0x")
                .and_then(|t| u64::from_str_radix(t, 16).ok());
            Some((name, token, cells.nth(2)?))
        })
    }

    #[test]
    fn an_advertised_set_is_complete_by_lopar() {
        let both = [InterruptMode::Xics, InterruptMode::Xive].map(function_sets);
        for set in both.into_iter().flatten() {
            let calls: Vec<u64> = rows()
                .filter(|(_, _, sets)| sets.split_whitespace().any(|s| s == set))
                .filter_map(|(_, token, _)| token)
                .collect();
            assert!(!calls.is_empty(), "{set} is not in LoPAR's table");
            for call in calls {
                assert!(
                    NAMES.iter().any(|(n, _)| *n == call),
                    "{set} lacks {call:#x}"
                );
            }
        }
    }

    #[test]
    fn the_sets_of_each_mode() {
        let sets: Vec<&str> = function_sets(InterruptMode::Xics).collect();
        assert!(!sets.contains(&"hcall-int-exploitation"));
        let native: Vec<&str> = function_sets(InterruptMode::Xive).collect();
        assert!(native.contains(&"hcall-int-exploitation"));
        assert!(!native.contains(&"hcall-interrupt"));
        assert_eq!(native.len(), sets.len());
        assert!(sets.contains(&"hcall-pft") && sets.contains(&"SLB-Buffer"));
        assert!(sets.contains(&"hcall-set-mode") && sets.contains(&"hcall-interrupt"));
        assert!(sets.contains(&"hcall-splpar") && native.contains(&"hcall-splpar"));
    }

    #[test]
    fn numbers_and_names_are_lopars() {
        for (number, name) in NAMES {
            // LoPAR writes two of these names differently, has an older call under the number
            // that every guest and hypervisor uses for H_GET_CPU_CHARACTERISTICS, and leaves
            // the range of H_RTAS and H_CONTROL private.
            let others = [
                "H_RTAS",
                "H_CONTROL",
                "H_REGISTER_PROC_TBL",
                "H_XIRR_X",
                "H_GET_CPU_CHARACTERISTICS",
            ];
            if others.contains(name) {
                continue;
            }
            // Newer than LoPAR, whose table has H_RESCIND_LOGICAL here: a call that no guest of
            // these machines makes.
            if *name == "H_GET_CPU_CHARACTERISTICS" {
                assert_eq!(*number, 0x1c8);
                continue;
            }
            if let Some((lopar, ..)) = rows().find(|(_, token, _)| *token == Some(*number)) {
                assert_eq!(lopar, *name);
            }
        }
    }

    #[test]
    fn the_readme_lists_the_table() {
        const README: &str = include_str!("../../../README.md");
        let listed = README.split("<!-- hcalls -->").nth(1).unwrap();
        let listed = listed.split("<!-- /hcalls -->").next().unwrap();
        let mut wanted = std::string::String::from(
            "\n| token | call | arguments | source |\n|---|---|---|---|\n",
        );
        for row in Table::<crate::testing::FakePlatform>::HCALLS {
            wanted += &std::format!(
                "| {:#05x} | {} | {} | {} |\n",
                row.number,
                row.name,
                row.args,
                row.source
            );
        }
        assert_eq!(listed, wanted, "make README.md's list from this");
    }

    #[test]
    fn every_token_has_its_own_slot() {
        let mut seen = std::collections::BTreeSet::new();
        for (number, name) in NAMES {
            assert!(seen.insert(slot(*number)), "{name}");
        }
        assert_eq!(slot(3), None);
        assert_eq!(slot(0x400), None);
        assert_eq!(slot(u64::MAX), None);
    }
}
