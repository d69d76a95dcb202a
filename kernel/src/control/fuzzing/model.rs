// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What SUSPEND, COMMIT and RESUME have to answer, from nothing but the calls before.

use crate::control::function::Function;
use crate::control::records::StreamChunk;
use crate::control::session::State;
use crate::control::{Call, DONE, Reply, WRITER};
use penstock_mm::status::HcallStatus;

/// What the answers so far say of the partition. Knows nothing of how the interface works.
#[derive(Clone, Copy, Debug)]
pub(super) struct Model {
    pub(super) state: State,
    pub(super) holder: Option<u16>,
    pub(super) writer: bool,
    pub(super) torn: bool,
    pub(super) torn_before_pass: Option<bool>,
}

impl Model {
    pub(super) const fn new() -> Self {
        Self {
            state: State::Running,
            holder: None,
            writer: false,
            torn: false,
            torn_before_pass: None,
        }
    }

    const fn is_halted(&self) -> bool {
        matches!(self.state, State::Stopped | State::Dirty | State::Runnable)
    }

    /// What has to be answered, where the partition itself refuses nothing; `None` where that is
    /// not the model's business.
    pub(super) fn expected(&self, function: Function, who: u16, slow: bool) -> Option<HcallStatus> {
        let held = self.holder == Some(who);
        Some(match function {
            Function::Suspend => match self.holder {
                Some(holder) if holder != who => HcallStatus::IN_USE,
                _ if !self.is_halted() && slow => HcallStatus::LONG_BUSY_ORDER_1_MSEC,
                _ => HcallStatus::SUCCESS,
            },
            Function::Resume if self.state == State::Stopping && held => HcallStatus::SUCCESS,
            Function::Resume if self.state == State::Stopping => HcallStatus::IN_USE,
            Function::Commit | Function::Resume if !self.is_halted() => HcallStatus::STATE,
            Function::Commit | Function::Resume if !held => HcallStatus::IN_USE,
            Function::Commit | Function::Resume if self.writer => HcallStatus::STATE,
            Function::Commit if self.state == State::Dirty && self.torn => HcallStatus::STATE,
            Function::Resume if self.state == State::Dirty => HcallStatus::STATE,
            Function::Commit | Function::Resume => HcallStatus::SUCCESS,
            _ => return None,
        })
    }

    /// Learns from an answer. `flags` are those of a piece of a stream.
    pub(super) fn learn(
        &mut self,
        function: Function,
        call: &Call,
        who: u16,
        reply: &Reply,
        flags: u32,
    ) {
        if function == Function::Suspend && reply.status == HcallStatus::LONG_BUSY_ORDER_1_MSEC {
            self.state = State::Stopping;
            self.holder = Some(who);
        }
        if reply.status != HcallStatus::SUCCESS {
            return;
        }
        match function {
            Function::Suspend => {
                if !self.is_halted() {
                    self.state = State::Stopped;
                }
                self.holder = Some(who);
            }
            Function::Commit => self.state = State::Runnable,
            Function::Resume => *self = Self::new(),
            Function::VcpuSet | Function::Invalidate => self.changed(who),
            Function::HptDrop => {
                self.changed(who);
                self.torn = reply.results() != [DONE];
            }
            Function::StreamOpen => self.writer |= reply.results() == [WRITER],
            Function::StreamClose if call.arguments[0] == WRITER => {
                self.writer = false;
                self.torn_before_pass = None;
            }
            Function::StreamWrite => {
                self.changed(who);
                let before = *self.torn_before_pass.get_or_insert(self.torn);
                if flags & StreamChunk::END == 0 {
                    self.torn = true;
                } else {
                    self.torn = before && flags & StreamChunk::FIRST_PASS == 0;
                    self.torn_before_pass = None;
                }
            }
            Function::VcpuGet => assert!(self.is_halted() && self.holder == Some(who)),
            _ => {}
        }
    }

    fn changed(&mut self, who: u16) {
        assert!(self.is_halted() && self.holder == Some(who), "{self:?}");
        self.state = State::Dirty;
    }
}
