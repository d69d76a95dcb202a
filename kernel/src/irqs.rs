// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the monitor's `irqs` shows of a partition, in steps of bounded text.

use crate::monitor::irqs::{write_context, write_irq, write_irq_heading, write_page, write_queue};
use crate::partition::Partition;
use crate::platform::Platform;
use arrayvec::ArrayVec;
use core::fmt::{self, Write};
use penstock_arch::addr::GuestReal;
use penstock_xive::Priority;
use penstock_xive::native::window::{TIMA_OS, esb_pages, notification_page};
use penstock_xive::native::{NativeSource, NativeVcpu};

/// A step ends where this much text is written, bytes. The last part of it may be longer by a virtual
/// processor with all its queues, and stays within
/// [`STEP_TEXT_BYTES`](crate::control::operator::STEP_TEXT_BYTES).
const ENOUGH_TEXT_BYTES: usize = 4096;

/// One partition's interrupts on their way to the console. Between two steps it may run, and restart.
#[derive(Clone, Copy, Debug, Default)]
pub struct IrqListing {
    /// Parts that were written: the heading, each source, each virtual processor, thread registers.
    written: usize,
}

impl IrqListing {
    /// Writes some more; whether that was the last of it.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn step<P: Platform>(
        &mut self,
        partition: &Partition<P>,
        out: &mut impl Write,
    ) -> Result<bool, fmt::Error> {
        let mut out = Counted { out, bytes: 0 };
        while out.bytes < ENOUGH_TEXT_BYTES {
            if !write_part(partition, self.written, &mut out)? {
                return Ok(true);
            }
            self.written += 1;
        }
        Ok(false)
    }
}

/// Writes the part with this number; false if there is none.
fn write_part<P: Platform>(
    partition: &Partition<P>,
    number: usize,
    out: &mut impl Write,
) -> Result<bool, fmt::Error> {
    let hw = P::interrupts();
    let Some(number) = number.checked_sub(1) else {
        write_irq_heading(out, &partition.name, partition.interrupt_mode().name())?;
        return Ok(true);
    };
    let Some(exploited) = &partition.exploited else {
        if let Some(source) = partition.sources.get(number) {
            write_irq(out, &source.view(&hw))?;
            return Ok(true);
        }
        let number = number - partition.sources.len();
        let Some(presenter) = partition.presenters.get(number) else {
            return Ok(false);
        };
        write_context(out, "IPI", &presenter.view(&hw))?;
        return Ok(true);
    };
    let native = exploited.native();
    let sources = native.ipis.len() + native.devices.len();
    if let Some(source) = native.sources().nth(number) {
        write_source(partition, source, out)?;
    } else if let Some(vcpu) = native.vcpus.get(number - sources) {
        write_vcpu(partition, vcpu, out)?;
    } else if number - sources == native.vcpus.len() {
        write_device_page(partition, "thread registers", TIMA_OS, out)?;
    } else {
        return Ok(false);
    }
    Ok(true)
}

fn write_source<P: Platform>(
    partition: &Partition<P>,
    source: &NativeSource,
    out: &mut impl Write,
) -> fmt::Result {
    write_irq(out, &source.view(&P::interrupts()))?;
    let (trigger, management) = esb_pages(source.lisn());
    write_device_page(partition, "trigger", trigger, out)?;
    write_device_page(partition, "management", management, out)
}

fn write_vcpu<P: Platform>(
    partition: &Partition<P>,
    vcpu: &NativeVcpu,
    out: &mut impl Write,
) -> fmt::Result {
    write_context(out, "escalation", &vcpu.view(&P::interrupts()))?;
    // Not while the queues are locked.
    let mut queues = ArrayVec::<_, { penstock_xive::LEVELS as usize }>::new();
    vcpu.for_each_queue(|queue| {
        // There is a place for each priority.
        let _ = queues.try_push(queue);
    });
    for queue in &queues {
        write_queue(out, queue)?;
        if let Some(priority) = Priority::new(queue.priority) {
            let at = notification_page(queue.server, priority);
            write_device_page(partition, "notification", at, out)?;
        }
    }
    Ok(())
}

/// Writes where a page points and who maps it, if it points anywhere or anybody does.
fn write_device_page<P: Platform>(
    partition: &Partition<P>,
    name: &str,
    at: GuestReal,
    out: &mut impl Write,
) -> fmt::Result {
    match partition.device_page(at) {
        Some(page) if page.host.is_some() || page.mappings.count > 0 => {
            write_page(out, name, &page)
        }
        _ => Ok(()),
    }
}

/// Counts what is written.
struct Counted<'a, W> {
    out: &'a mut W,
    bytes: usize,
}

impl<W: Write> Write for Counted<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.bytes += text.len();
        self.out.write_str(text)
    }
}

#[cfg(test)]
mod tests;
