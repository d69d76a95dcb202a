// SPDX-License-Identifier: Apache-2.0 OR MIT
//! RTAS, which a guest reaches through the five-instruction blob or by the hcall itself.

use super::memory::arguments;
use crate::console::{Admission, Full, Printable, Suppressed, TermBytes};
use crate::exit::LightExit;
use crate::partition::Partition;
use crate::platform::Platform;
use crate::processor::{Activity, NotStopped, Start};
use crate::rtas::{
    ClockError, CpuState, RtasHost, RtasOutcome, SourceError, SourceTarget, StartCpuError, UnixTime,
};
use crate::rtas_memory::GuestRam;
use crate::vcpu::Vcpu;
use penstock_arch::addr::GuestReal;
use penstock_mm::status::HcallStatus;
use penstock_xive::RtasError;

pub(super) extern "C" fn h_rtas<P: Platform>(vcpu: &mut Vcpu<P>) -> LightExit {
    let [block] = arguments(vcpu);
    let partition = vcpu.partition;
    let mut memory = GuestRam(partition.mmu.memory());
    let mut services = Services { partition };
    let outcome = partition.rtas.lock().call(
        GuestReal::new(block),
        &partition.facts(),
        &mut memory,
        &mut services,
    );
    if memory.0.was_short() {
        // Nothing was done: a function that does more than write to its buffer begins only when its
        // results have a place.
        return vcpu.repeat_hcall();
    }
    match outcome {
        RtasOutcome::Returned => vcpu.answer(HcallStatus::SUCCESS),
        RtasOutcome::BadBlock => vcpu.answer(HcallStatus::PARAMETER),
        RtasOutcome::PowerOff => LightExit::POWER_OFF,
        RtasOutcome::Reboot => LightExit::REBOOT,
        RtasOutcome::StopSelf => LightExit::STOP_SELF,
    }
}

/// What RTAS reaches of the partition and the machine.
struct Services<'p, P: Platform> {
    partition: &'p Partition<P>,
}

impl<P: Platform> RtasHost for Services<'_, P> {
    fn now(&mut self) -> Result<UnixTime, ClockError> {
        let clock = &self.partition.clock;
        let start = clock.at_boot.ok_or(ClockError::Hardware)?;
        let ticks = P::timebase().wrapping_sub(clock.timebase_at_boot);
        start
            .checked_add_ticks(ticks, clock.timebase_hz)
            .ok_or(ClockError::Hardware)
    }

    fn put_char(&mut self, byte: u8) -> Result<(), Full> {
        self.partition.output.push(TermBytes::pack(&[byte]))
    }

    fn os_terminated(&mut self, message: &[u8]) {
        let admission = self.partition.complaints.lock().admit(P::timebase());
        if let Admission::Print { suppressed } = admission {
            let name = &self.partition.name;
            log::warn!(
                "{name}: ibm,os-term: {}{}",
                Printable(message),
                Suppressed(suppressed)
            );
        }
    }

    fn cpu_state(&mut self, server: u32) -> Option<CpuState> {
        let processor = self.partition.processors.get(server.into())?;
        Some(match processor.activity() {
            // One that stops itself is stopped when it is off its thread, and runs until then.
            Activity::Stopped => CpuState::Stopped,
            _ => CpuState::Running,
        })
    }

    fn start_cpu(&mut self, server: u32, entry: GuestReal, r3: u64) -> Result<(), StartCpuError> {
        let processors = &self.partition.processors;
        processors
            .get(server.into())
            .ok_or(NotStopped)
            .and_then(|processor| processors.start(processor, Start { entry, r3 }))
            .map_err(|NotStopped| StartCpuError::NotStopped)?;
        P::ring(self.partition.id, server);
        Ok(())
    }

    fn set_source(&mut self, lisn: u32, target: SourceTarget) -> Result<(), SourceError> {
        let partition = self.partition;
        let priority = u32::from(target.priority);
        partition
            .sources()
            .set_xive(
                &P::interrupts(),
                &P::firmware(),
                &*partition.presenters,
                lisn,
                target.server,
                priority,
            )
            .map_err(source_error)
    }

    fn source(&mut self, lisn: u32) -> Result<SourceTarget, SourceError> {
        let xive = self
            .partition
            .sources()
            .get_xive(lisn)
            .map_err(source_error)?;
        Ok(SourceTarget {
            server: xive.server.get(),
            priority: xive.priority,
        })
    }

    fn mask_source(&mut self, lisn: u32) -> Result<(), SourceError> {
        let partition = self.partition;
        partition
            .sources()
            .int_off(
                &P::interrupts(),
                &P::firmware(),
                &*partition.presenters,
                lisn,
            )
            .map_err(source_error)
    }

    fn unmask_source(&mut self, lisn: u32) -> Result<(), SourceError> {
        let partition = self.partition;
        partition
            .sources()
            .int_on(
                &P::interrupts(),
                &P::firmware(),
                &*partition.presenters,
                lisn,
            )
            .map_err(source_error)
    }
}

fn source_error(error: RtasError) -> SourceError {
    match error {
        RtasError::Hardware => SourceError::Hardware,
        RtasError::Parameter => SourceError::Unknown,
    }
}
