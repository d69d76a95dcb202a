// SPDX-License-Identifier: Apache-2.0 OR MIT
//! RTAS system-reboot: the guest starts again as if for the first time.
//!
//! The result of the first life is kept in NVRAM, which outlives a reboot, under a mark that the
//! second life finds and removes.

use super::env::Env;
use super::{boot, resize, rtas, second, xive};
use penstock_guest_rt::console::println;
use penstock_guest_rt::suite::{self, Check, Outcome, Tally, expect};

const MARK: u64 = 0x5245_424f_4f54_2131;
const PLACE: u32 = 0x100;
const BYTES: u32 = 24;

const CHECKS: &[Check<Env>] = &[
    Check {
        name: "rtas-system-reboot-starts-the-guest-again",
        run: |_| Ok(()),
    },
    Check {
        name: "after-reboot-the-page-table-is-empty",
        run: empty_page_table,
    },
    Check {
        name: "after-reboot-the-page-table-has-its-first-size",
        run: resize::is_as_at_first,
    },
    Check {
        name: "after-reboot-interrupts-are-masked",
        run: masked,
    },
    Check {
        name: "after-reboot-the-second-processor-is-stopped",
        run: second::is_stopped,
    },
];

fn access(env: &Env, service: &'static str) -> Outcome {
    let buffer = u32::try_from(env.work.base()).unwrap_or(0);
    let results = rtas::call(env, service, &[PLACE, buffer, BYTES], 2)?;
    expect(service, u64::from(results[0]), 0)
}

fn save(env: &Env, mark: u64, tally: Tally) -> Outcome {
    env.work.write(0, mark);
    env.work.write(8, tally.passed);
    env.work.write(16, tally.failed);
    access(env, "nvram-store")
}

/// In the second life: checks it, and returns the sum of both lives. `None` in the first.
pub fn resume(env: &mut Env) -> Option<Tally> {
    access(env, "nvram-fetch").ok()?;
    if env.work.read(0) != MARK {
        return None;
    }
    let first = Tally {
        passed: env.work.read(8),
        failed: env.work.read(16),
    };
    // Without this a failing store would make the guest reboot for ever.
    save(env, 0, Tally::default()).ok()?;
    println!("builtin: started again");
    let entry = suite::run(boot::CHECKS, env, Env::tidy);
    let second = suite::run(CHECKS, env, Env::tidy);
    Some(Tally {
        passed: first.passed + entry.passed + second.passed,
        failed: first.failed + entry.failed + second.failed,
    })
}

/// At the end of the first life: reboots. Comes back with a failure more where that does not work.
pub fn begin(env: &mut Env, tally: Tally) -> Tally {
    // Another page table, a mapping and a pending interrupt that must not survive.
    resize::leave_resized(env);
    let leftover = env.page(0, 2);
    let _ = env.hpt.enter(&leftover);
    if xive::is_on(env) {
        xive::leave_behind(env);
    } else {
        super::env::status_of(penstock_guest_rt::number::hcall::IPI, [env.server, 4, 0, 0]);
    }
    let outcome =
        save(env, MARK, tally).and_then(|()| rtas::call(env, "system-reboot", &[], 1).map(|_| ()));
    let _ = save(env, 0, Tally::default());
    println!("FAIL rtas-system-reboot: got {outcome:?}, want another start");
    Tally {
        failed: tally.failed + 1,
        ..tally
    }
}

fn empty_page_table(env: &mut Env) -> Outcome {
    expect("entries found", env.hpt.clear(), 0)
}

fn masked(env: &mut Env) -> Outcome {
    use penstock_guest_rt::hcall;
    use penstock_guest_rt::number::hcall::{IPOLL, XIRR};
    if xive::is_on(env) {
        return xive::find_nothing(env);
    }
    let poll = hcall::call(IPOLL, [env.server, 0, 0, 0]);
    expect("MFRR", poll.values[1], 0xff)?;
    expect("XIRR", hcall::call(XIRR, [0; 4]).values[0], 0)
}
