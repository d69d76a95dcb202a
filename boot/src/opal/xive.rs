// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The interrupt controller's set-up calls (OPAL API, opal_xive_*), as numbers.
//!
//! Each function makes one call; what a busy status means is the caller's business.

// UNSAFETY: OPAL calls take addresses, and set up who is interrupted.
#![expect(unsafe_code)]

use super::call::call;
use super::{Status, Token};
use core::hint::black_box;
use penstock_arch::endian::{Be32, Be64};

/// Makes a call whose arguments are numbers, or addresses of live `Be` words of the caller.
fn xive(token: Token, args: [u64; 7]) -> Status {
    // SAFETY: this module passes only numbers and addresses of its own local words, of the width
    // that OPAL API gives them.
    unsafe { call(token, args) }
}

fn at<T>(word: &mut T) -> u64 {
    core::ptr::from_mut(word).expose_provenance() as u64
}

/// Resets the controller; mode 1 is exploitation.
///
/// # Errors
/// Firmware's status.
///
/// # Safety
/// Nothing may use a source, queue or virtual processor from before.
pub unsafe fn reset(mode: u64) -> Result<(), Status> {
    xive(Token::XIVE_RESET, [mode, 0, 0, 0, 0, 0, 0]).ok()
}

/// Calls that answer a number, or a negative status.
fn number(status: Status) -> Result<u32, Status> {
    u32::try_from(status.0).map_err(|_| status)
}

/// Allocates `1 << order` virtual processors and returns the first's number.
///
/// # Errors
/// Firmware's status.
pub fn allocate_vp_block(order: u32) -> Result<u32, Status> {
    number(xive(
        Token::XIVE_ALLOCATE_VP_BLOCK,
        [u64::from(order), 0, 0, 0, 0, 0, 0],
    ))
}

/// Frees a block.
///
/// # Errors
/// Firmware's status.
pub fn free_vp_block(base: u32) -> Result<(), Status> {
    xive(
        Token::XIVE_FREE_VP_BLOCK,
        [u64::from(base), 0, 0, 0, 0, 0, 0],
    )
    .ok()
}

/// What OPAL_XIVE_GET_VP_INFO answers.
#[derive(Clone, Copy, Debug)]
pub struct VpInfo {
    /// Enabled, single escalation, save and restore.
    pub flags: u64,
    /// The word that pushes this virtual processor.
    pub cam: u64,
    /// Reporting line.
    pub report_cl: u64,
    /// Chip.
    pub chip: u32,
}

/// Asks for a virtual processor's words.
///
/// # Errors
/// Firmware's status.
pub fn vp_info(vp: u32) -> Result<VpInfo, Status> {
    let (mut flags, mut cam, mut report) = (Be64::new(0), Be64::new(0), Be64::new(0));
    let mut chip = Be32::new(0);
    let args = [
        u64::from(vp),
        at(&mut flags),
        at(&mut cam),
        at(&mut report),
        at(&mut chip),
        0,
        0,
    ];
    xive(Token::XIVE_GET_VP_INFO, args).ok()?;
    Ok(VpInfo {
        flags: black_box(flags).get(),
        cam: black_box(cam).get(),
        report_cl: black_box(report).get(),
        chip: black_box(chip).get(),
    })
}

/// Sets a virtual processor's flags and reporting line.
///
/// # Errors
/// Firmware's status.
pub fn set_vp_info(vp: u32, flags: u64, report_cl: u64) -> Result<(), Status> {
    xive(
        Token::XIVE_SET_VP_INFO,
        [u64::from(vp), flags, report_cl, 0, 0, 0, 0],
    )
    .ok()
}

/// The saved context of a virtual processor.
///
/// # Errors
/// Firmware's status.
pub fn vp_state(vp: u32) -> Result<u64, Status> {
    let mut word = Be64::new(0);
    xive(
        Token::XIVE_GET_VP_STATE,
        [u64::from(vp), at(&mut word), 0, 0, 0, 0, 0],
    )
    .ok()?;
    Ok(black_box(word).get())
}

/// Allocates a source on `chip`, 0xffff_ffff being any.
///
/// # Errors
/// Firmware's status.
pub fn allocate_irq(chip: u32) -> Result<u32, Status> {
    number(xive(
        Token::XIVE_ALLOCATE_IRQ,
        [u64::from(chip), 0, 0, 0, 0, 0, 0],
    ))
}

/// Frees a source.
///
/// # Errors
/// Firmware's status.
pub fn free_irq(girq: u32) -> Result<(), Status> {
    xive(Token::XIVE_FREE_IRQ, [u64::from(girq), 0, 0, 0, 0, 0, 0]).ok()
}

/// What OPAL_XIVE_GET_IRQ_INFO answers.
#[derive(Clone, Copy, Debug)]
pub struct IrqInfo {
    /// Trigger page, store-EOI, LSI and others.
    pub flags: u64,
    /// Management page.
    pub eoi_page: u64,
    /// Trigger page.
    pub trigger_page: u64,
    /// log2 of what a source's pages occupy.
    pub esb_shift: u32,
    /// Chip.
    pub chip: u32,
}

/// Asks for a source's pages.
///
/// # Errors
/// Firmware's status.
pub fn irq_info(girq: u32) -> Result<IrqInfo, Status> {
    let (mut flags, mut eoi, mut trigger) = (Be64::new(0), Be64::new(0), Be64::new(0));
    let (mut shift, mut chip) = (Be32::new(0), Be32::new(0));
    let args = [
        u64::from(girq),
        at(&mut flags),
        at(&mut eoi),
        at(&mut trigger),
        at(&mut shift),
        at(&mut chip),
        0,
    ];
    xive(Token::XIVE_GET_IRQ_INFO, args).ok()?;
    Ok(IrqInfo {
        flags: black_box(flags).get(),
        eoi_page: black_box(eoi).get(),
        trigger_page: black_box(trigger).get(),
        esb_shift: black_box(shift).get(),
        chip: black_box(chip).get(),
    })
}

/// A source's routing: virtual processor, priority (0xff masked), and the number put in the queue.
///
/// # Errors
/// Firmware's status.
pub fn irq_config(girq: u32) -> Result<(u64, u8, u32), Status> {
    let (mut vp, mut lirq) = (Be64::new(0), Be32::new(0));
    let mut priority = 0u8;
    let args = [
        u64::from(girq),
        at(&mut vp),
        at(&mut priority),
        at(&mut lirq),
        0,
        0,
        0,
    ];
    xive(Token::XIVE_GET_IRQ_CONFIG, args).ok()?;
    Ok((
        black_box(vp).get(),
        black_box(priority),
        black_box(lirq).get(),
    ))
}

/// Routes a source.
///
/// # Errors
/// Firmware's status.
pub fn set_irq_config(girq: u32, vp: u64, priority: u8, lirq: u32) -> Result<(), Status> {
    let args = [
        u64::from(girq),
        vp,
        u64::from(priority),
        u64::from(lirq),
        0,
        0,
        0,
    ];
    xive(Token::XIVE_SET_IRQ_CONFIG, args).ok()
}

/// What OPAL_XIVE_GET_QUEUE_INFO answers.
#[derive(Clone, Copy, Debug)]
pub struct QueueInfo {
    /// Where the queue lies.
    pub page: u64,
    /// log2 of its bytes, 0 for none.
    pub size_log2: u64,
    /// Its own event state buffer.
    pub eoi_page: u64,
    /// Source that fires when the virtual processor is not on a thread.
    pub escalation: u32,
    /// Enabled, always notify, escalate.
    pub flags: u64,
}

/// Asks for a queue.
///
/// # Errors
/// Firmware's status.
pub fn queue_info(vp: u64, priority: u8) -> Result<QueueInfo, Status> {
    let (mut page, mut size, mut eoi) = (Be64::new(0), Be64::new(0), Be64::new(0));
    let (mut escalation, mut flags) = (Be32::new(0), Be64::new(0));
    let args = [
        vp,
        u64::from(priority),
        at(&mut page),
        at(&mut size),
        at(&mut eoi),
        at(&mut escalation),
        at(&mut flags),
    ];
    xive(Token::XIVE_GET_QUEUE_INFO, args).ok()?;
    Ok(QueueInfo {
        page: black_box(page).get(),
        size_log2: black_box(size).get(),
        eoi_page: black_box(eoi).get(),
        escalation: black_box(escalation).get(),
        flags: black_box(flags).get(),
    })
}

/// Sets a queue, or takes it away with size 0.
///
/// # Errors
/// Firmware's status.
///
/// # Safety
/// The interrupt controller writes to the queue's memory from now on: it must be given to it, zeroed
/// and aligned to its size, until the queue is taken away and synchronised.
pub unsafe fn set_queue_info(
    vp: u64,
    priority: u8,
    page: u64,
    size_log2: u32,
    flags: u64,
) -> Result<(), Status> {
    let args = [
        vp,
        u64::from(priority),
        page,
        u64::from(size_log2),
        flags,
        0,
        0,
    ];
    xive(Token::XIVE_SET_QUEUE_INFO, args).ok()
}

/// Generation bit and index of a queue.
///
/// # Errors
/// Firmware's status.
pub fn queue_state(vp: u64, priority: u8) -> Result<(u32, u32), Status> {
    let (mut toggle, mut index) = (Be32::new(0), Be32::new(0));
    let args = [
        vp,
        u64::from(priority),
        at(&mut toggle),
        at(&mut index),
        0,
        0,
        0,
    ];
    xive(Token::XIVE_GET_QUEUE_STATE, args).ok()?;
    Ok((black_box(toggle).get(), black_box(index).get()))
}

/// Sets generation bit and index of a queue.
///
/// # Errors
/// Firmware's status.
pub fn set_queue_state(vp: u64, priority: u8, toggle: u32, index: u32) -> Result<(), Status> {
    let args = [
        vp,
        u64::from(priority),
        u64::from(toggle),
        u64::from(index),
        0,
        0,
        0,
    ];
    xive(Token::XIVE_SET_QUEUE_STATE, args).ok()
}

/// Gives firmware a 64 KiB page on `chip` for its own structures.
///
/// # Errors
/// Firmware's status.
///
/// # Safety
/// The page is firmware's from now on, until the next reset of the controller.
pub unsafe fn donate_page(chip: u32, page: u64) -> Result<(), Status> {
    xive(
        Token::XIVE_DONATE_PAGE,
        [u64::from(chip), page, 0, 0, 0, 0, 0],
    )
    .ok()
}

/// Waits until changes to a source (1) or queue (2) are seen everywhere.
///
/// # Errors
/// Firmware's status.
pub fn sync(kind: u64, id: u32) -> Result<(), Status> {
    xive(Token::XIVE_SYNC, [kind, u64::from(id), 0, 0, 0, 0, 0]).ok()
}
