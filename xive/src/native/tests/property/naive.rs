// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The naive controller: LoPAR's text as plainly as it can be written.

use std::collections::BTreeMap;
use std::vec;
use std::vec::Vec;

use super::super::{EDGE, IPIS, LEVEL, RAM};
use super::VCPUS;

#[derive(Clone, Copy, Debug)]
pub(super) struct NaiveSource {
    pub(super) p: bool,
    pub(super) q: bool,
    pub(super) aim: Option<(u64, u64)>,
    pub(super) masked: bool,
    pub(super) eisn: u64,
    /// The level of a level-sensitive one.
    pub(super) level: Option<bool>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct NaiveQueue {
    pub(super) place: Option<(u64, u64)>,
    pub(super) always: bool,
    pub(super) index: u64,
    pub(super) generation: u32,
    /// The notification's bits.
    pub(super) p: bool,
    pub(super) q: bool,
}

#[derive(Clone, Debug)]
pub(super) struct NaiveVcpu {
    pub(super) queues: Vec<NaiveQueue>,
    pub(super) pending: u8,
    /// What may be pending besides.
    pub(super) maybe: u8,
    pub(super) cppr: u8,
    pub(super) thread: Option<usize>,
    pub(super) line: Option<u64>,
    pub(super) waits: bool,
    pub(super) escalated: bool,
}

pub(super) struct Naive {
    pub(super) sources: BTreeMap<u64, NaiveSource>,
    pub(super) vcpus: Vec<NaiveVcpu>,
    pub(super) memory: BTreeMap<u64, u32>,
}

impl Naive {
    pub(super) fn new() -> Self {
        let source = |lisn: u64| {
            let source = NaiveSource {
                p: false,
                q: true,
                aim: None,
                masked: false,
                eisn: lisn,
                level: (lisn == LEVEL).then_some(false),
            };
            (lisn, source)
        };
        let queue = NaiveQueue {
            q: true,
            generation: 1,
            ..NaiveQueue::default()
        };
        let vcpu = NaiveVcpu {
            queues: vec![queue; 7],
            pending: 0,
            maybe: 0,
            cppr: 0,
            thread: None,
            line: None,
            waits: false,
            escalated: false,
        };
        Self {
            sources: (0..u64::from(IPIS))
                .chain([EDGE, LEVEL])
                .map(source)
                .collect(),
            vcpus: vec![vcpu; 2],
            memory: BTreeMap::new(),
        }
    }

    pub(super) fn event(&mut self, lisn: u64) {
        let source = self.sources.get_mut(&lisn).unwrap();
        match (source.p, source.q) {
            (false, false) => source.p = true,
            (false, true) => return,
            (true, _) => {
                source.q = true;
                return;
            }
        }
        self.forward(lisn);
    }

    pub(super) fn forward(&mut self, lisn: u64) {
        let source = self.sources[&lisn];
        let Some((server, priority)) = source.aim.filter(|_| !source.masked) else {
            return;
        };
        let vcpu = &mut self.vcpus[usize::try_from(server).unwrap()];
        let queue = &mut vcpu.queues[usize::try_from(priority).unwrap()];
        if let Some((base, entries)) = queue.place {
            let word = queue.generation << 31 | u32::try_from(source.eisn).unwrap();
            self.memory.insert(base + queue.index * 4, word);
            queue.index += 1;
            if queue.index == entries {
                queue.index = 0;
                queue.generation ^= 1;
            }
            if !queue.always {
                match (queue.p, queue.q) {
                    (false, false) => queue.p = true,
                    (false, true) => return,
                    (true, _) => {
                        queue.q = true;
                        return;
                    }
                }
            }
        }
        vcpu.pending |= 0x80 >> priority;
        if vcpu.thread.is_none() && vcpu.waits {
            vcpu.escalated = true;
        }
    }

    pub(super) fn follow_level(&mut self, lisn: u64) {
        let source = self.sources[&lisn];
        if source.level == Some(true) && !source.p && !source.q {
            self.event(lisn);
        }
    }

    /// A load from a management page.
    pub(super) fn load(&mut self, lisn: u64, at: u64) -> u64 {
        let source = self.sources.get_mut(&lisn).unwrap();
        let old = u64::from(source.p) << 1 | u64::from(source.q);
        match at & 0xc00 {
            0x800 => old,
            0xc00 => {
                (source.p, source.q) = (at >> 9 & 1 != 0, at >> 8 & 1 != 0);
                self.follow_level(lisn);
                old
            }
            _ => {
                let again = source.p && source.q;
                if source.p {
                    (source.p, source.q) = (again, false);
                }
                if again {
                    self.forward(lisn);
                }
                self.follow_level(lisn);
                u64::from(again)
            }
        }
    }

    pub(super) fn set_source(&mut self, [flags, lisn, target, priority, eisn]: [u64; 5]) -> i64 {
        if flags & !3 != 0 {
            return -4;
        }
        let Some(source) = self.sources.get_mut(&lisn) else {
            return -55;
        };
        if priority == 0xff {
            (source.aim, source.masked, source.eisn) = (None, false, lisn);
            return 0;
        }
        if target >= VCPUS {
            return -56;
        }
        if priority > 6 {
            return -57;
        }
        if flags & 2 != 0 {
            if eisn >= 1 << 31 {
                return -58;
            }
            source.eisn = eisn;
        }
        (source.aim, source.masked) = (Some((target, priority)), flags & 1 != 0);
        0
    }

    pub(super) fn set_queue(&mut self, [flags, target, priority, base, size]: [u64; 5]) -> i64 {
        if flags & !1 != 0 {
            return -4;
        }
        if target >= VCPUS {
            return -55;
        }
        if priority > 6 {
            return -56;
        }
        let entries = match size {
            0 => 0,
            12 | 16 | 21 | 24 => 1 << (size - 2),
            _ => return -58,
        };
        if entries != 0 && (!base.is_multiple_of(entries * 4) || base > RAM - entries * 4) {
            return -57;
        }
        let vcpu = &mut self.vcpus[usize::try_from(target).unwrap()];
        let queue = &mut vcpu.queues[usize::try_from(priority).unwrap()];
        queue.place = (entries != 0).then_some((base, entries));
        queue.always = entries != 0 && flags & 1 != 0;
        (queue.index, queue.generation) = (0, 1);
        0
    }

    pub(super) fn reset(&mut self) {
        for (lisn, source) in &mut self.sources {
            let level = source.level;
            *source = NaiveSource {
                p: false,
                q: true,
                aim: None,
                masked: false,
                eisn: *lisn,
                level,
            };
        }
        for vcpu in &mut self.vcpus {
            for queue in &mut vcpu.queues {
                // What a queue that was never set has is as after a reset.
                if queue.place.is_some() || queue.always {
                    (queue.index, queue.generation) = (0, 1);
                }
                (queue.place, queue.always) = (None, false);
            }
            vcpu.line = None;
        }
    }
}
