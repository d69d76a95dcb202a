// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The model's firmware: the OPAL calls.

use penstock_arch::addr::HostReal;

use crate::esb::Pq;
use crate::fake::{
    END_BASE, ESB_BASE, ESB_SHIFT, Eas, End, FIRST_ESCALATION, FIRST_VP, FakeXive, GATHER, Model,
    Nvt, SourceModel,
};
use crate::fw::{
    FirmwareError, IrqConfig, IrqFlags, IrqInfo, QueueFlags, QueueInfo, QueueState, SyncKind,
    VpFlags, VpInfo, XiveFirmware, XiveMode,
};
use crate::ids::{ChipId, Eisn, Girq, VpId};
use crate::priority::Priority;
use crate::tima::SAVE_RESTORE;

type Status<T> = Result<T, FirmwareError>;

impl FakeXive {
    /// Notes the call, lets it fail where a test wants that, and does it in the right mode.
    fn call<T>(
        &self,
        name: &'static str,
        action: impl FnOnce(&mut Model) -> Status<T>,
    ) -> Status<T> {
        let mut model = self.model.borrow_mut();
        model.calls.push(name);
        if let Some(failure) = model.failures.front().copied()
            && failure.call == name
        {
            model.failures.pop_front();
            return Err(failure.error);
        }
        if model.mode != Some(XiveMode::Exploitation) && name != "reset" {
            return Err(FirmwareError::WRONG_STATE);
        }
        action(&mut model)
    }
}

impl Model {
    fn nvt(&mut self, vp: VpId) -> Status<&mut Nvt> {
        self.vps.get_mut(&vp.get()).ok_or(FirmwareError::PARAMETER)
    }

    fn end(&mut self, vp: VpId, priority: Priority) -> Status<&mut End> {
        Ok(&mut self.nvt(vp)?.ends[usize::from(priority.get())])
    }

    fn source(&mut self, girq: Girq) -> Status<&mut SourceModel> {
        self.sources
            .get_mut(&girq.get())
            .ok_or(FirmwareError::PARAMETER)
    }
}

impl XiveFirmware for FakeXive {
    fn reset(&self, mode: XiveMode) -> Status<()> {
        self.call("reset", |model| {
            model.mode = Some(mode);
            model.sources.clear();
            model.vps.clear();
            model.blocks.clear();
            model.donated.clear();
            Ok(())
        })
    }

    fn alloc_vp_block(&self, order: u32) -> Status<VpId> {
        self.call("alloc_vp_block", |model| {
            if model.donations_wanted != 0 {
                return Err(FirmwareError::PROVISIONING);
            }
            let base = model.next_vp;
            model.next_vp += 1 << order;
            model.blocks.insert(base, order);
            for vp in base..base + (1 << order) {
                let nvt = Nvt {
                    flags: VpFlags::empty(),
                    cppr: 0,
                    ipb: 0,
                    ends: [End::OFF; 8],
                    report_cl: 0,
                };
                model.vps.insert(vp, nvt);
            }
            Ok(VpId::new(base))
        })
    }

    fn free_vp_block(&self, base: VpId) -> Status<()> {
        self.call("free_vp_block", |model| {
            let order = *model
                .blocks
                .get(&base.get())
                .ok_or(FirmwareError::PARAMETER)?;
            let block = base.get()..base.get() + (1 << order);
            if block
                .clone()
                .any(|vp| model.vps[&vp].flags.contains(VpFlags::ENABLED))
            {
                return Err(FirmwareError::FREE_ACTIVE);
            }
            model.blocks.remove(&base.get());
            model.vps.retain(|vp, _| !block.contains(vp));
            Ok(())
        })
    }

    fn get_vp_info(&self, vp: VpId) -> Status<VpInfo> {
        self.call("get_vp_info", |model| {
            let save_restore = model.quirks.save_restore;
            let nvt = model.nvt(vp)?;
            let (flags, report_cl) = (nvt.flags, nvt.report_cl);
            let h = if save_restore { SAVE_RESTORE } else { 0 };
            let cam = u64::from(h | (vp.get() - crate::fake::FIRST_VP));
            Ok(VpInfo {
                flags,
                cam,
                report_cl: HostReal::new(report_cl),
                chip: ChipId::new(0),
            })
        })
    }

    fn set_vp_info(&self, vp: VpId, flags: VpFlags, report_cl: Option<HostReal>) -> Status<()> {
        let report_cl = report_cl.map_or(0, HostReal::get);
        self.call("set_vp_info", |model| {
            if report_cl & 0xff != 0 {
                return Err(FirmwareError::PARAMETER);
            }
            let save_restore = model.quirks.save_restore;
            let pushed = model.rings.iter().any(|ring| ring.vp == Some(vp.get()));
            assert!(!pushed, "change of a pushed VP");
            let nvt = model.nvt(vp)?;
            nvt.flags = flags;
            nvt.report_cl = report_cl;
            // Firmware writes all of it back as it was in memory a moment ago.
            nvt.ipb = 0;
            if flags.contains(VpFlags::SINGLE_ESCALATION) {
                // As firmware does: the bits are armed, wherever the escalation goes.
                let gather = &mut nvt.ends[usize::from(GATHER)];
                gather.ese = Pq::Reset;
            }
            if save_restore {
                // As firmware does.
                nvt.cppr = 0xff;
            }
            Ok(())
        })
    }

    fn get_vp_state(&self, vp: VpId) -> Status<u64> {
        self.call("get_vp_state", |model| {
            let nvt = model.nvt(vp)?;
            Ok(u64::from_be_bytes([0, nvt.cppr, nvt.ipb, 0, 0, 0, 0, 0]))
        })
    }

    fn alloc_irq(&self, _chip: Option<ChipId>) -> Status<Girq> {
        self.call("alloc_irq", |model| {
            let girq = model.free_girqs.pop().unwrap_or_else(|| {
                model.next_girq += 1;
                model.next_girq - 1
            });
            let eas = Eas {
                vp: 0,
                priority: None,
                data: 0,
            };
            model.sources.insert(girq, SourceModel { pq: Pq::Off, eas });
            Ok(Girq::new(girq))
        })
    }

    fn free_irq(&self, girq: Girq) -> Status<()> {
        self.call("free_irq", |model| {
            model
                .sources
                .remove(&girq.get())
                .ok_or(FirmwareError::PARAMETER)?;
            model.free_girqs.push(girq.get());
            Ok(())
        })
    }

    fn get_irq_info(&self, girq: Girq) -> Status<IrqInfo> {
        self.call("get_irq_info", |model| {
            if let Some(number) = girq.get().checked_sub(FIRST_ESCALATION) {
                model.numbered_end(number).ok_or(FirmwareError::PARAMETER)?;
                let pair = END_BASE + (u64::from(number) << ESB_SHIFT);
                return Ok(IrqInfo {
                    flags: IrqFlags::empty(),
                    eoi_page: HostReal::new(pair + 0x1_0000),
                    trigger_page: HostReal::new(0),
                    esb_shift: ESB_SHIFT,
                    chip: ChipId::new(0),
                });
            }
            model.source(girq)?;
            let trigger = ESB_BASE + (u64::from(girq.get()) << ESB_SHIFT);
            Ok(IrqInfo {
                flags: IrqFlags::TRIGGER_PAGE,
                eoi_page: HostReal::new(trigger + 0x1_0000),
                trigger_page: HostReal::new(trigger),
                esb_shift: ESB_SHIFT,
                chip: ChipId::new(0),
            })
        })
    }

    fn get_irq_config(&self, girq: Girq) -> Status<IrqConfig> {
        self.call("get_irq_config", |model| {
            let eas = model.source(girq)?.eas;
            let priority = eas.priority.and_then(Priority::new);
            Ok(IrqConfig {
                vp: VpId::new(eas.vp),
                priority,
                eisn: Eisn::new(eas.data),
            })
        })
    }

    fn set_irq_config(&self, girq: Girq, config: IrqConfig) -> Status<()> {
        self.call("set_irq_config", |model| {
            let priority = config.priority.map(Priority::get);
            let eas = Eas {
                vp: config.vp.get(),
                priority,
                data: config.eisn.get(),
            };
            if let Some(end) = model.escalation(girq.get()) {
                assert!(priority.is_some(), "an escalation cannot be masked");
                assert!(config.vp.get() < FIRST_VP, "an escalation to a guest");
                end.escalation = Some(eas);
                return Ok(());
            }
            model.nvt(config.vp)?;
            model.source(girq)?.eas = eas;
            Ok(())
        })
    }

    fn get_queue_info(&self, vp: VpId, priority: Priority) -> Status<QueueInfo> {
        self.call("get_queue_info", |model| {
            let single = model.nvt(vp)?.flags.contains(VpFlags::SINGLE_ESCALATION);
            let end = *model.end(vp, priority)?;
            let number = (vp.get() - FIRST_VP) * 8 + u32::from(priority.get());
            let escalating = if single {
                number | u32::from(GATHER)
            } else {
                number
            };
            Ok(QueueInfo {
                page: HostReal::new(end.page),
                size_log2: if end.entries == 0 {
                    0
                } else {
                    end.entries.ilog2() + 2
                },
                // As skiboot has it, which leaves the size of a pair out of account.
                eoi_page: HostReal::new(END_BASE + (u64::from(number) << (ESB_SHIFT - 1))),
                escalation: Girq::new(FIRST_ESCALATION + escalating),
                flags: end.flags,
            })
        })
    }

    fn set_queue_info(
        &self,
        vp: VpId,
        priority: Priority,
        page: HostReal,
        size_log2: u32,
        flags: QueueFlags,
    ) -> Status<()> {
        self.call("set_queue_info", |model| {
            if !matches!(size_log2, 0 | 12 | 16 | 21 | 24) || !page.is_aligned(1 << size_log2) {
                return Err(FirmwareError::PARAMETER);
            }
            let entries = if size_log2 == 0 {
                0
            } else {
                1 << (size_log2 - 2)
            };
            let end = model.end(vp, priority)?;
            *end = if flags.contains(QueueFlags::ENABLED) {
                End {
                    page: page.get(),
                    entries,
                    flags,
                    // The bits stay.
                    esn: end.esn,
                    ese: end.ese,
                    escalation: end.escalation,
                    ..End::OFF
                }
            } else {
                End::OFF
            };
            Ok(())
        })
    }

    fn get_queue_state(&self, vp: VpId, priority: Priority) -> Status<QueueState> {
        self.call("get_queue_state", |model| {
            let end = model.end(vp, priority)?;
            Ok(QueueState {
                toggle: end.generation,
                index: end.index,
            })
        })
    }

    fn set_queue_state(&self, vp: VpId, priority: Priority, state: QueueState) -> Status<()> {
        self.call("set_queue_state", |model| {
            let end = model.end(vp, priority)?;
            end.generation = state.toggle & 1;
            end.index = state.index;
            Ok(())
        })
    }

    fn donate_page(&self, _chip: ChipId, page: HostReal) -> Status<()> {
        self.call("donate_page", |model| {
            assert!(page.is_aligned(0x1_0000), "donated page is not aligned");
            model.donations_wanted = model.donations_wanted.saturating_sub(1);
            model.donated.push(page.get());
            Ok(())
        })
    }

    fn sync(&self, _kind: SyncKind, girq: u32) -> Status<()> {
        // What QEMU's POWER9 firmware lets pass, that of POWER10 does not.
        self.call("sync", |model| model.source(Girq::new(girq)).map(|_| ()))
    }

    fn wait(&self) {
        self.waits.set(self.waits.get() + 1);
    }
}
