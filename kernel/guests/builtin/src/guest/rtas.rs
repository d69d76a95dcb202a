// SPDX-License-Identifier: Apache-2.0 OR MIT
//! RTAS services that come back (LoPAR, RTAS Call Function Definition).

use super::env::{Env, PATTERN};
use penstock_guest_rt::rtas::Outcome as Call;
use penstock_guest_rt::suite::{Check, Failure, Outcome, expect, expect_at, require};

/// The checks of this file.
pub const CHECKS: &[Check<Env>] = &[
    Check {
        name: "rtas-entry-comes-back-to-big-endian-32-bit-code",
        run: entry,
    },
    Check {
        name: "rtas-unknown-token-is-refused",
        run: unknown_token,
    },
    Check {
        name: "rtas-wrong-counts-are-refused",
        run: wrong_counts,
    },
    Check {
        name: "rtas-huge-counts-do-no-harm",
        run: huge_counts,
    },
    Check {
        name: "rtas-get-time-of-day-is-plausible",
        run: time,
    },
    Check {
        name: "rtas-set-time-of-day-round-trip",
        run: set_time,
    },
    Check {
        name: "rtas-set-time-of-day-refuses-nonsense",
        run: set_time_refused,
    },
    Check {
        name: "rtas-nvram-round-trip",
        run: nvram,
    },
    Check {
        name: "rtas-nvram-refuses-what-does-not-fit",
        run: nvram_refused,
    },
    Check {
        name: "rtas-query-cpu-stopped-state",
        run: stopped_state,
    },
    Check {
        name: "rtas-check-exception-finds-nothing",
        run: check_exception,
    },
    Check {
        name: "rtas-event-scan-finds-nothing",
        run: event_scan,
    },
    Check {
        name: "rtas-get-system-parameter",
        run: system_parameter,
    },
    Check {
        name: "rtas-display-character",
        run: display,
    },
];

const PARAMETER: u64 = 0xffff_fffd;

/// Calls a service by name.
pub fn call(
    env: &Env,
    service: &'static str,
    arguments: &[u32],
    results: u32,
) -> Result<[u32; 8], Failure> {
    let Some(token) = env.boot.rtas.token(service) else {
        return Err(Failure::Unfit {
            what: service,
            got: 0,
            want: "a token in the tree",
        });
    };
    returned(service, env.boot.rtas.call(token, arguments, results))
}

fn returned(what: &'static str, call: Call) -> Result<[u32; 8], Failure> {
    match call {
        Call::Returned(results) => Ok(results),
        Call::Interrupted { vector, srr0 } => Err(Failure::Mismatch {
            what,
            at: srr0,
            got: vector,
            want: 0,
        }),
    }
}

fn status(what: &'static str, results: &[u32; 8], want: u64) -> Outcome {
    expect(what, u64::from(results[0]), want)
}

fn work_address(env: &Env) -> Result<u32, Failure> {
    u32::try_from(env.work.base()).map_err(|_| Failure::Skip("work memory above 4 GiB"))
}

fn entry(env: &mut Env) -> Outcome {
    if !env.boot.rtas.has_entry() {
        return Err(Failure::Unfit {
            what: "linux,rtas-base",
            got: 0,
            want: "present",
        });
    }
    // Every call already checks that it returns to the landing pad; this is the plainest one.
    let results = call(env, "query-cpu-stopped-state", &[env.server_cell()], 2)?;
    status("status", &results, 0)
}

fn unknown_token(env: &mut Env) -> Outcome {
    for token in [0, 1, 0x7fff_ffff, 0xffff_fffe, u32::MAX] {
        let results = returned("unknown token", env.boot.rtas.call(token, &[], 1))?;
        expect_at("status", u64::from(token), u64::from(results[0]), PARAMETER)?;
    }
    Ok(())
}

fn wrong_counts(env: &mut Env) -> Outcome {
    let results = call(env, "get-time-of-day", &[1, 2, 3], 8)?;
    status("arguments to get-time-of-day", &results, PARAMETER)?;
    let results = call(env, "set-time-of-day", &[], 1)?;
    status("no arguments to set-time-of-day", &results, PARAMETER)
}

fn huge_counts(env: &mut Env) -> Outcome {
    let Some(token) = env.boot.rtas.token("get-time-of-day") else {
        return Err(Failure::Unfit {
            what: "get-time-of-day",
            got: 0,
            want: "a token",
        });
    };
    for (arguments, results) in [
        (u32::MAX, 8),
        (0x4000_0000, 8),
        (0x3fff_fffd, 1),
        (0, u32::MAX),
        (0, 0x8000_0000),
        (1 << 20, 1 << 20),
        (17, 8),
    ] {
        let outcome = env
            .boot
            .rtas
            .call_with_counts(token, arguments, results, &[]);
        let words = returned("huge counts", outcome)?;
        // Refused or not answered at all, never done.
        require("status", "not success", u64::from(words[0]), |got| got != 0)?;
    }
    Ok(())
}

fn now(env: &Env) -> Result<[u32; 8], Failure> {
    let results = call(env, "get-time-of-day", &[], 8)?;
    status("get-time-of-day", &results, 0)?;
    Ok(results)
}

fn time(env: &mut Env) -> Outcome {
    let [_, year, month, day, hour, minute, second, ns] = now(env)?.map(u64::from);
    require("year", "2000 to 2099", year, |v| (2000..=2099).contains(&v))?;
    require("month", "1 to 12", month, |v| (1..=12).contains(&v))?;
    require("day", "1 to 31", day, |v| (1..=31).contains(&v))?;
    require("hour", "below 24", hour, |v| v < 24)?;
    require("minute", "below 60", minute, |v| v < 60)?;
    require("second", "below 61", second, |v| v < 61)?;
    require("nanosecond", "below 10^9", ns, |v| v < 1_000_000_000)
}

fn set_time(env: &mut Env) -> Outcome {
    let old = now(env)?;
    let results = call(env, "set-time-of-day", &[2031, 2, 28, 23, 59, 1, 0], 1)?;
    status("set-time-of-day", &results, 0)?;
    let [_, year, month, day, hour, minute, second, _] = now(env)?.map(u64::from);
    let back = call(env, "set-time-of-day", old.get(1..).unwrap_or(&[]), 1)?;
    expect("year", year, 2031)?;
    expect("month", month, 2)?;
    expect("day", day, 28)?;
    expect("hour", hour, 23)?;
    expect("minute", minute, 59)?;
    require("second", "1 to 30", second, |v| (1..=30).contains(&v))?;
    status("set back", &back, 0)
}

fn set_time_refused(env: &mut Env) -> Outcome {
    for bad in [
        [2031, 13, 1, 0, 0, 0, 0],
        [2031, 0, 1, 0, 0, 0, 0],
        [2031, 2, 30, 0, 0, 0, 0],
        [2031, 1, 1, 24, 0, 0, 0],
        [2031, 1, 1, 0, 60, 0, 0],
        [u32::MAX; 7],
    ] {
        let results = call(env, "set-time-of-day", &bad, 1)?;
        require("status", "not success", u64::from(results[0]), |got| {
            got != 0
        })?;
    }
    let [_, year, ..] = now(env)?.map(u64::from);
    require("year", "2000 to 2099", year, |v| (2000..=2099).contains(&v))
}

fn nvram(env: &mut Env) -> Outcome {
    let buffer = work_address(env)?;
    let place = 0x80;
    let range = env.work.part(0, 64);
    let fetch = |bytes| call(env, "nvram-fetch", &[place, buffer, bytes], 2);
    let store = |bytes| call(env, "nvram-store", &[place, buffer, bytes], 2);
    let old = fetch(16)?;
    status("nvram-fetch", &old, 0)?;
    expect("fetched", u64::from(old[1]), 16)?;
    let kept = [range.read(0), range.read(8)];
    range.write(0, PATTERN);
    range.write(8, !PATTERN);
    let stored = store(16)?;
    status("nvram-store", &stored, 0)?;
    expect("stored", u64::from(stored[1]), 16)?;
    range.fill(0);
    status("nvram-fetch", &fetch(13)?, 0)?;
    expect("first 8 bytes", range.read(0), PATTERN)?;
    expect("next 5 bytes", range.read(8), !PATTERN & 0xff_ffff_ffff)?;
    range.write(0, kept[0]);
    range.write(8, kept[1]);
    status("nvram-store", &store(16)?, 0)
}

fn nvram_refused(env: &mut Env) -> Outcome {
    let buffer = work_address(env)?;
    for (place, bytes) in [
        (0x7fff_ffff, 16),
        (u32::MAX, 1),
        (u32::MAX - 7, 16),
        (0, u32::MAX),
    ] {
        for service in ["nvram-fetch", "nvram-store"] {
            let results = call(env, service, &[place, buffer, bytes], 2)?;
            require(service, "not success", u64::from(results[0]), |got| {
                got != 0
            })?;
        }
    }
    let outside = u32::try_from(env.boot.memory.end()).unwrap_or(u32::MAX);
    for service in ["nvram-fetch", "nvram-store"] {
        let results = call(env, service, &[0x80, outside, 16], 2)?;
        require(
            service,
            "not success outside memory",
            u64::from(results[0]),
            |got| got != 0,
        )?;
    }
    Ok(())
}

fn stopped_state(env: &mut Env) -> Outcome {
    let results = call(env, "query-cpu-stopped-state", &[env.server_cell()], 2)?;
    status("this processor", &results, 0)?;
    expect("running", u64::from(results[1]), 2)?;
    let results = call(env, "query-cpu-stopped-state", &[0x1234], 2)?;
    require(
        "no such processor",
        "not success",
        u64::from(results[0]),
        |got| got != 0,
    )
}

/// Asked for all kinds of events, of an external interrupt.
fn check_exception(env: &mut Env) -> Outcome {
    let buffer = work_address(env)?;
    let ask = [0x500, 0x1001, u32::MAX, 0, buffer, 1024];
    let results = call(env, "check-exception", &ask, 1)?;
    status("check-exception", &results, 1)
}

fn event_scan(env: &mut Env) -> Outcome {
    let buffer = work_address(env)?;
    let results = call(env, "event-scan", &[u32::MAX, 0, buffer, 1024], 1)?;
    status("event-scan", &results, 1)
}

fn system_parameter(env: &mut Env) -> Outcome {
    let buffer = work_address(env)?;
    let get = |parameter, bytes| {
        call(
            env,
            "ibm,get-system-parameter",
            &[parameter, buffer, bytes],
            1,
        )
    };
    // 20: shared processor characteristics, a string after its length.
    env.work.part(0, 4096).fill(0);
    status("parameter 20", &get(20, 4000)?, 0)?;
    let len = u64::from(env.work.word_be(0) >> 16);
    require("length", "1 to 3998", len, |len| (1..=3998).contains(&len))?;
    require(
        "unknown parameter",
        "not success",
        u64::from(get(0xfff0, 4000)?[0]),
        |got| got != 0,
    )
}

fn display(env: &mut Env) -> Outcome {
    let results = call(env, "display-character", &[u32::from(b'\n')], 1)?;
    status("display-character", &results, 0)
}
