// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A limit on messages that a guest can provoke at will.
//!
//! A token bucket by the timebase: a burst is printed, then one message per interval. What was
//! held back is counted and told with the next message, so that silence is never mistaken for
//! quiet.

/// Whether a message is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Admission {
    /// Print it, after `suppressed` others that were not.
    Print {
        /// Messages held back since the last one printed.
        suppressed: u32,
    },
    /// Do not.
    Suppress,
}

/// Token bucket of one kind of message of one partition.
#[derive(Clone, Debug)]
pub struct RateLimit {
    burst: u32,
    ticks_per_token: u64,
    tokens: u32,
    /// Timebase at which the last token was added.
    refilled: u64,
    suppressed: u32,
}

impl RateLimit {
    /// Allows `burst` messages at once and then one in each `ticks_per_token` of the timebase;
    /// 0 ticks never limit.
    #[must_use]
    pub const fn new(burst: u32, ticks_per_token: u64) -> Self {
        Self {
            burst,
            ticks_per_token,
            tokens: burst,
            refilled: 0,
            suppressed: 0,
        }
    }

    /// Decides on one message at timebase `now`. A timebase that goes back adds nothing.
    pub fn admit(&mut self, now: u64) -> Admission {
        let elapsed = now.saturating_sub(self.refilled);
        match elapsed.checked_div(self.ticks_per_token) {
            None => self.tokens = self.burst.max(1),
            Some(added) => {
                let missing = self.burst.saturating_sub(self.tokens);
                match u32::try_from(added) {
                    Ok(added) if added < missing => {
                        self.tokens += added;
                        self.refilled += u64::from(added) * self.ticks_per_token;
                    }
                    // Full, or no time passed: what is beyond the burst is not saved up.
                    _ if added > 0 => {
                        self.tokens = self.burst;
                        self.refilled = now;
                    }
                    _ => {}
                }
            }
        }
        match self.tokens.checked_sub(1) {
            Some(left) => {
                self.tokens = left;
                Admission::Print {
                    suppressed: core::mem::take(&mut self.suppressed),
                }
            }
            None => {
                self.suppressed = self.suppressed.saturating_add(1);
                Admission::Suppress
            }
        }
    }
}

/// " (N more were not shown)", or nothing for none.
#[derive(Clone, Copy, Debug)]
pub struct Suppressed(pub u32);

impl core::fmt::Display for Suppressed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.0 {
            0 => Ok(()),
            n => write!(f, " ({n} more were not shown)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINT: Admission = Admission::Print { suppressed: 0 };

    #[test]
    fn a_burst_passes_and_the_rest_is_counted() {
        let mut limit = RateLimit::new(3, 100);
        for _ in 0..3 {
            assert_eq!(limit.admit(1000), PRINT);
        }
        for _ in 0..5 {
            assert_eq!(limit.admit(1099), Admission::Suppress);
        }
        assert_eq!(limit.admit(1100), Admission::Print { suppressed: 5 });
        assert_eq!(limit.admit(1100), Admission::Suppress);
        assert_eq!(limit.admit(1199), Admission::Suppress);
        assert_eq!(limit.admit(1200), Admission::Print { suppressed: 2 });
    }

    #[test]
    fn time_without_messages_saves_up_no_more_than_the_burst() {
        let mut limit = RateLimit::new(2, 100);
        for now in [u64::MAX - 1_000_000, u64::MAX] {
            assert_eq!(limit.admit(now), PRINT);
            assert_eq!(limit.admit(now), PRINT);
            assert_eq!(limit.admit(now), Admission::Suppress);
            limit.suppressed = 0;
        }
    }

    #[test]
    fn a_fraction_of_an_interval_is_not_lost() {
        let mut limit = RateLimit::new(4, 100);
        for _ in 0..4 {
            assert_eq!(limit.admit(1000), PRINT);
        }
        // One token at 1100; the 50 ticks beyond count for the next one.
        assert_eq!(limit.admit(1150), PRINT);
        assert_eq!(limit.admit(1199), Admission::Suppress);
        assert_eq!(limit.admit(1200), Admission::Print { suppressed: 1 });
    }

    #[test]
    fn a_timebase_that_goes_back_gives_nothing() {
        let mut limit = RateLimit::new(1, 100);
        assert_eq!(limit.admit(1000), PRINT);
        assert_eq!(limit.admit(5), Admission::Suppress);
        assert_eq!(limit.admit(1099), Admission::Suppress);
        assert_eq!(limit.admit(1100), Admission::Print { suppressed: 2 });
    }

    #[test]
    fn no_interval_means_no_limit_and_no_burst_means_nothing_at_first() {
        let mut unlimited = RateLimit::new(1, 0);
        assert_eq!(unlimited.admit(0), PRINT);
        assert_eq!(unlimited.admit(0), PRINT);
        let mut silent = RateLimit::new(0, 100);
        assert_eq!(silent.admit(1_000_000), Admission::Suppress);
    }
}
