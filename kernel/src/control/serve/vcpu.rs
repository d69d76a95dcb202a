// SPDX-License-Identifier: Apache-2.0 OR MIT
//! VCPU_GET, VCPU_SET.

use super::{Context, Done, Outcome};
use crate::control::error::{Argument, ControlError, Reason, RecordError};
use crate::control::records::{self, VcpuState, VectorState, parts};
use crate::control::target::Controlled;
use core::mem::offset_of;
use zerocopy::byteorder::big_endian::U32;

impl<T: Controlled> Context<'_, T> {
    /// The virtual processor in r8.
    fn vcpu(&self) -> Result<u32, ControlError> {
        let number = self.below(Argument::First, u64::from(self.offer.vcpus))?;
        u32::try_from(number).map_err(|_| ControlError::Hardware)
    }

    pub(super) fn vcpu_get(&mut self) -> Outcome {
        let vcpu = self.vcpu()?;
        let wanted = self.below(Argument::Second, u64::from(parts::ALL) + 1)?;
        let wanted = u32::try_from(wanted).map_err(|_| ControlError::Hardware)?;
        if wanted & !self.offer.features.vector_parts() != 0 {
            return Err(ControlError::Argument(Argument::Second));
        }
        let halted = self.session.halted(self.who)?;
        let (state, space) =
            records::start::<VcpuState>(self.buffer).ok_or(ControlError::Length)?;
        state.vcpu = U32::new(vcpu);
        let mut bytes = size_of::<VcpuState>();
        let mut vectors = None;
        if wanted != 0 {
            let (record, _) = records::start::<VectorState>(space).ok_or(ControlError::Length)?;
            bytes += size_of::<VectorState>();
            vectors = Some(record);
        }
        self.target
            .read_vcpu(halted, vcpu, state, vectors.as_deref_mut())?;
        state.parts = U32::new(wanted);
        if let Some(vectors) = vectors {
            vectors.keep_only(wanted);
        }
        Ok(Done::written(bytes))
    }

    pub(super) fn vcpu_set(&mut self) -> Outcome {
        let vcpu = self.vcpu()?;
        self.session.halted(self.who)?;
        let (state, space) = records::read::<VcpuState>(self.buffer)?;
        let bad = |offset| ControlError::Record(RecordError::new(offset, Reason::Value));
        if state.vcpu.get() != vcpu {
            return Err(bad(offset_of!(VcpuState, vcpu)));
        }
        let given = state.parts.get();
        if given & !self.offer.features.vector_parts() != 0 {
            return Err(bad(offset_of!(VcpuState, parts)));
        }
        let begins_at = self.buffer.len() - space.len();
        let vectors = match given {
            0 => None,
            _ => {
                let read = records::read::<VectorState>(space);
                let (vectors, _) = read.map_err(|error| error.moved(begins_at))?;
                if !vectors.has_only(given) {
                    return Err(bad(begins_at + offset_of!(VectorState, vsr)));
                }
                Some(vectors)
            }
        };
        let change = self.session.change(self.who)?;
        self.target.write_vcpu(change, vcpu, state, vectors)?;
        Ok(Done::NOTHING)
    }
}
