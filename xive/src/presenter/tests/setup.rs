// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Set-up and tear-down, with firmware that is busy, hungry or broken.

use super::*;
use crate::SetupError;
use crate::fw::{FirmwareError, XiveFirmware, enable};

#[test]
fn everything_is_given_back() {
    let mut guest = Partition::booted(Quirks::POWER9);
    guest.servers[0].pull(&guest.hw);
    assert_eq!(guest.hw.allocated(), (3, 4));
    for source in guest.slots.drain(..) {
        source.tear_down(&guest.hw, &guest.hw).unwrap();
    }
    for presenter in guest.servers.drain(..) {
        presenter.tear_down(&guest.hw, &guest.hw).unwrap();
    }
    guest.block.free(&guest.hw).unwrap();
    assert_eq!(guest.hw.allocated(), (0, 0));
}

#[test]
fn block_with_a_processor_in_use_is_not_freed() {
    let guest = Partition::booted(Quirks::POWER9);
    assert_eq!(guest.block.free(&guest.hw), Err(FirmwareError::FREE_ACTIVE));
}

#[test]
fn failure_of_any_call_leaves_nothing_behind() {
    let calls = [
        "set_vp_info",
        "get_vp_info",
        "set_queue_info",
        "alloc_irq",
        "get_irq_info",
    ];
    for call in calls.into_iter().chain(["set_irq_config"]) {
        let hw = FakeXive::new(1, Quirks::POWER9);
        let block = VpBlock::allocate(&hw, &[], &mut no_frames, 0).unwrap();
        let setup = setup_of(&hw, block.vp(0).unwrap(), 0);
        hw.fail(call, FirmwareError::HARDWARE);
        let error = Presenter::set_up(&hw, &hw, &setup).unwrap_err();
        assert_eq!(
            error,
            SetupError::Firmware(FirmwareError::HARDWARE),
            "{call}"
        );
        assert_eq!(hw.allocated(), (0, 1), "{call}");
        assert_eq!(block.free(&hw), Ok(()), "{call}");
    }
}

#[test]
fn busy_calls_are_made_again() {
    let hw = FakeXive::new(1, Quirks::POWER9);
    for error in [
        FirmwareError::BUSY,
        FirmwareError::BUSY_EVENT,
        FirmwareError::BUSY,
    ] {
        hw.fail("set_vp_info", error);
    }
    let block = VpBlock::allocate(&hw, &[], &mut no_frames, 0).unwrap();
    let setup = setup_of(&hw, block.vp(0).unwrap(), 0);
    assert!(Presenter::set_up(&hw, &hw, &setup).is_ok());
    assert_eq!(hw.waits(), 3);
}

#[test]
fn firmware_that_stays_busy_is_given_up() {
    let hw = FakeXive::new(1, Quirks::POWER9);
    for _ in 0..20_000 {
        hw.fail("alloc_vp_block", FirmwareError::BUSY);
    }
    let block = VpBlock::allocate(&hw, &[], &mut no_frames, 0);
    assert_eq!(block, Err(FirmwareError::BUSY));
    assert_eq!(hw.waits(), 10_000);
}

#[test]
fn memory_is_donated_to_each_chip_until_firmware_has_enough() {
    let hw = FakeXive::new(1, Quirks::POWER9);
    hw.want_donations(3);
    let mut given = 0;
    let mut frames = |chip: ChipId| {
        given += 1;
        Some(HostReal::new(u64::from(chip.get()) << 32 | given << 16))
    };
    let chips = [ChipId::new(0), ChipId::new(8)];
    let block = VpBlock::allocate(&hw, &chips, &mut frames, 3).unwrap();
    assert_eq!(
        hw.donated(),
        [0x1_0000, 0x8_0002_0000, 0x3_0000, 0x8_0004_0000]
    );
    assert!(block.vp(7).is_some());
    assert_eq!(block.vp(8), None);
}

#[test]
fn missing_memory_and_endless_hunger_end_the_allocation() {
    let hw = FakeXive::new(1, Quirks::POWER9);
    hw.want_donations(u32::MAX);
    let chips = [ChipId::new(0)];
    let none = VpBlock::allocate(&hw, &chips, &mut no_frames, 0);
    assert_eq!(none, Err(FirmwareError::PROVISIONING));
    let mut plenty = |_| Some(HostReal::new(0x1_0000));
    let block = VpBlock::allocate(&hw, &chips, &mut plenty, 0);
    assert_eq!(block, Err(FirmwareError::PROVISIONING));
    let unknown_chips = VpBlock::allocate(&hw, &[], &mut plenty, 0);
    assert_eq!(unknown_chips, Err(FirmwareError::PROVISIONING));
}

#[test]
fn exploitation_mode_is_asked_for() {
    let hw = FakeXive::new(1, Quirks::POWER9);
    hw.reset(crate::fw::XiveMode::Emulation).unwrap();
    assert_eq!(hw.alloc_irq(None), Err(FirmwareError::WRONG_STATE));
    assert_eq!(enable(&hw), Ok(()));
    assert!(hw.alloc_irq(None).is_ok());
}

#[test]
fn queues_and_numbers_are_checked() {
    let hw = FakeXive::new(1, Quirks::POWER9);
    let block = VpBlock::allocate(&hw, &[], &mut no_frames, 0).unwrap();
    let vp = block.vp(0).unwrap();
    for queues in [0, 0x1000, 0x1_8000] {
        let setup = PresenterSetup {
            queues: HostReal::new(queues),
            ..setup_of(&hw, vp, 0)
        };
        let error = Presenter::set_up(&hw, &hw, &setup).unwrap_err();
        assert_eq!(error, SetupError::UnalignedQueues);
    }
    for lisn in [0, 1, 2, 0x0100_0000] {
        let lisn = Lisn::new(lisn);
        let error = Source::set_up(&hw, &hw, lisn, Trigger::Edge, vp, None).unwrap_err();
        assert_eq!(error, SetupError::ReservedNumber);
    }
    assert_eq!(hw.allocated(), (0, 1));
}

#[test]
fn queues_are_4k_pages_of_the_frame_for_priorities_0_to_6() {
    use crate::Priority;
    use crate::fw::QueueFlags;
    let guest = Partition::new(Quirks::POWER9, 2, 0);
    for level in 0..8 {
        let priority = Priority::new(level).unwrap();
        let vp = guest.block.vp(1).unwrap();
        let info = guest.hw.get_queue_info(vp, priority).unwrap();
        if level == 7 {
            assert_eq!(
                info.flags,
                QueueFlags::empty(),
                "7 is left to single escalation"
            );
            continue;
        }
        assert_eq!(info.page.get(), 0x101_0000 + u64::from(level) * 0x1000);
        assert_eq!(info.size_log2, 12);
        assert_eq!(info.flags, QueueFlags::ENABLED | QueueFlags::ALWAYS_NOTIFY);
    }
}
