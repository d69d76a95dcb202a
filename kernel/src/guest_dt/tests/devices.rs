// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The nodes of what is beside memory and processors: RTAS, the console, the interrupt
//! controllers, the display.

use super::*;

#[test]
fn rtas_has_its_place_and_its_tokens() {
    with_tree(
        |_| (),
        |root| {
            assert_eq!(cells(&root, "rtas", "linux,rtas-base"), [0x1fff_0000]);
            assert_eq!(cells(&root, "rtas", "linux,rtas-entry"), [0x1fff_0000]);
            assert_eq!(cells(&root, "rtas", "rtas-size"), [4096]);
            assert_eq!(cells(&root, "rtas", "rtas-version"), [1]);
            assert_eq!(cells(&root, "rtas", "rtas-error-log-max"), [0x800]);
            assert_eq!(cells(&root, "rtas", "rtas-event-scan-rate"), [1]);
            assert_eq!(
                texts(&root, "rtas", "ibm,hypertas-functions"),
                ["hcall-pft", "hcall-set-mode"]
            );
            assert_eq!(cells(&root, "rtas", "power-off"), [0x2003]);
            assert_eq!(cells(&root, "rtas", "ibm,os-term"), [0x201f]);
            assert!(is_flag(&root, "rtas", "ibm,extended-os-term"));
            assert_eq!(
                cells(&root, "rtas", "ibm,query-interrupt-source-number"),
                [7]
            );
            assert_eq!(property(&root, "rtas", "system-reboot"), None);
        },
    );
    with_tree(
        |params| params.rtas.tokens = &[("power-off", 1)],
        |root| assert_eq!(property(&root, "rtas", "ibm,extended-os-term"), None),
    );
}

#[test]
fn power_events_have_a_source() {
    with_tree(
        |params| params.epow.interrupt = 0x1234,
        |root| {
            let sources = "event-sources";
            assert_eq!(cells(&root, sources, "#interrupt-cells"), [2]);
            assert!(is_flag(&root, sources, "interrupt-controller"));
            assert_eq!(cells(&root, sources, "interrupt-ranges"), [0x1234, 1]);
            let events = "event-sources/epow-events";
            assert_eq!(cells(&root, events, "interrupts"), [0x1234, 0]);
        },
    );
}

#[test]
fn console_is_a_vty_below_vdevice() {
    let vty = "vdevice/vty@71000000";
    with_tree(
        |_| (),
        |root| {
            assert_eq!(text(&root, "vdevice", "device_type"), "vdevice");
            assert_eq!(text(&root, "vdevice", "compatible"), "IBM,vdevice");
            assert_eq!(cells(&root, "vdevice", "#address-cells"), [1]);
            assert_eq!(cells(&root, "vdevice", "#size-cells"), [0]);
            assert_eq!(cells(&root, "vdevice", "#interrupt-cells"), [2]);
            assert!(is_flag(&root, "vdevice", "interrupt-controller"));
            assert_eq!(text(&root, vty, "device_type"), "serial");
            assert_eq!(text(&root, vty, "compatible"), "hvterm1");
            assert_eq!(cells(&root, vty, "reg"), [0x7100_0000]);
            assert_eq!(property(&root, vty, "interrupts"), None);
        },
    );
    with_tree(
        |params| params.vty.interrupt = Some(0x1100),
        |root| assert_eq!(cells(&root, vty, "interrupts"), [0x1100, 0]),
    );
}

#[test]
fn interrupt_controller_is_that_of_the_xics_hcalls() {
    with_tree(
        |_| (),
        |root| {
            let path = "interrupt-controller";
            assert_eq!(
                text(&root, path, "device_type"),
                "PowerPC-External-Interrupt-Presentation"
            );
            assert_eq!(text(&root, path, "compatible"), "IBM,ppc-xicp");
            assert!(is_flag(&root, path, "interrupt-controller"));
            assert_eq!(cells(&root, path, "#interrupt-cells"), [2]);
            assert_eq!(cells(&root, path, "ibm,interrupt-server-ranges"), [0, 1]);
            assert_eq!(cells(&root, path, "phandle"), [1]);
            // This one would make Linux choose the other controller.
            assert!(
                !root
                    .children()
                    .any(|node| node.is_compatible("ibm,power-ivpe"))
            );
        },
    );
}

#[test]
fn random_numbers_are_announced_where_there_are_some() {
    with_tree(
        |params| params.random = RandomDevice::Present,
        |root| {
            let path = "ibm,platform-facilities/ibm,random-v1";
            assert_eq!(text(&root, path, "compatible"), "ibm,random");
        },
    );
}

#[test]
fn nvram_has_a_type_and_a_size() {
    with_tree(
        |_| {},
        |root| {
            assert_eq!(text(&root, "nvram", "device_type"), "nvram");
            assert_eq!(cells(&root, "nvram", "#bytes"), [0x4000]);
        },
    );
}

#[test]
fn framebuffer_is_a_display_that_firmware_opened() {
    let node = "display@7000000000000";
    with_tree(
        |params| params.framebuffer = Some(FRAMEBUFFER),
        |root| {
            assert_eq!(text(&root, node, "device_type"), "display");
            assert_eq!(
                texts(&root, node, "compatible"),
                ["penstock,framebuffer", "display"]
            );
            // 600 rows of 1608 bytes, rounded up to 64 KiB.
            assert_eq!(cells(&root, node, "reg"), [0x7_0000, 0, 0, 0xf_0000]);
            assert_eq!(cells(&root, node, "width"), [801]);
            assert_eq!(cells(&root, node, "height"), [600]);
            assert_eq!(cells(&root, node, "depth"), [16]);
            assert_eq!(cells(&root, node, "linebytes"), [1608]);
            assert!(is_flag(&root, node, "linux,opened"));
            assert!(is_flag(&root, node, "linux,boot-display"));
            assert!(is_flag(&root, node, "little-endian"));
            assert_eq!(property(&root, node, "big-endian"), None);
            // 32 bits wide, and in the wrong byte order in Linux.
            assert_eq!(property(&root, node, "address"), None);
        },
    );
    with_tree(
        |params| {
            params.framebuffer = Some(Framebuffer {
                order: ByteOrder::Big,
                ..FRAMEBUFFER
            });
        },
        |root| {
            assert!(is_flag(&root, node, "big-endian"));
            assert_eq!(property(&root, node, "little-endian"), None);
        },
    );
}

#[test]
fn exploitation_mode_is_told_by_its_own_controller() {
    with_tree(
        |params| params.interrupts = GuestInterrupts::Xive { own_sources: 8 },
        |root| {
            let path = "interrupt-controller@60302031b0000";
            assert_eq!(text(&root, path, "compatible"), "ibm,power-ivpe");
            assert_eq!(text(&root, path, "device_type"), "power-ivpe");
            let user = [0x6_0302, 0x031b_0000, 0, 0x1_0000];
            let os = [0x6_0302, 0x031a_0000, 0, 0x1_0000];
            assert_eq!(cells(&root, path, "reg"), [user, os].concat());
            assert_eq!(cells(&root, path, "ibm,xive-eq-sizes"), [12, 16, 21, 24]);
            assert_eq!(cells(&root, path, "ibm,xive-lisn-ranges"), [0, 8]);
            assert_eq!(cells(&root, path, "#interrupt-cells"), [2]);
            assert!(is_flag(&root, path, "interrupt-controller"));
            assert_eq!(cells(&root, "", "ibm,plat-res-int-priorities"), [7, 0xf8]);
            let vector = bytes(&root, "chosen", "ibm,architecture-vec-5");
            assert_eq!((vector[0], vector[23], vector[24]), (23, 0x40, 0));
            assert!(
                root.children()
                    .all(|node| node.name() != "interrupt-controller")
            );
        },
    );
    with_tree(
        |_| (),
        |root| {
            assert_eq!(property(&root, "", "ibm,plat-res-int-priorities"), None);
            let vector = bytes(&root, "chosen", "ibm,architecture-vec-5");
            assert_eq!(vector[23], 0);
        },
    );
}
