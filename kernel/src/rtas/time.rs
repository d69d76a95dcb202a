// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Calendar dates, seconds since 1970, and the format of OPAL's real-time clock.
//!
//! All in integers and UTC. The range is 1970 to 9999: what the clock's four decimal digits and an
//! unsigned count of seconds have in common. There are no leap seconds (LoPAR, Time of Day
//! Inputs/Outputs: seconds are 0 to 59, leap seconds are the operating system's).

/// Nanoseconds in a second.
const NANOSECONDS: u32 = 1_000_000_000;
const SECONDS_PER_DAY: u64 = 86_400;
/// First and last year that a date can have.
const YEARS: core::ops::RangeInclusive<u32> = 1970..=9999;
/// Days from 0000-03-01 to 1970-01-01 in the proleptic Gregorian calendar.
const DAYS_TO_1970: u64 = 719_468;
/// Days in 400 years, after which the Gregorian calendar repeats.
const DAYS_PER_ERA: u64 = 146_097;

/// Time since 1970-01-01 00:00:00 UTC, without leap seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnixTime {
    seconds: u64,
    nanoseconds: u32,
}

impl UnixTime {
    /// This many seconds and nanoseconds; `None` if the latter are a second or more.
    #[must_use]
    pub const fn new(seconds: u64, nanoseconds: u32) -> Option<Self> {
        if nanoseconds < NANOSECONDS {
            Some(Self {
                seconds,
                nanoseconds,
            })
        } else {
            None
        }
    }

    /// Whole seconds.
    #[must_use]
    pub const fn seconds(self) -> u64 {
        self.seconds
    }

    /// Nanoseconds beyond the whole seconds, below 1,000,000,000.
    #[must_use]
    pub const fn nanoseconds(self) -> u32 {
        self.nanoseconds
    }

    /// The time `ticks` of a counter of `ticks_per_second` later; `None` out of range or if the
    /// counter's frequency is 0.
    #[must_use]
    pub fn checked_add_ticks(self, ticks: u64, ticks_per_second: u64) -> Option<Self> {
        let whole = ticks.checked_div(ticks_per_second)?;
        let rest = u128::from(ticks.checked_rem(ticks_per_second)?);
        let nanoseconds = rest * u128::from(NANOSECONDS) / u128::from(ticks_per_second);
        let later = Self {
            seconds: whole,
            nanoseconds: u32::try_from(nanoseconds).ok()?,
        };
        self.checked_add(later)
    }

    fn checked_add(self, later: Self) -> Option<Self> {
        let seconds = self.seconds.checked_add(later.seconds)?;
        // Both are below 10^9, so the sum fits.
        let nanoseconds = self.nanoseconds.checked_add(later.nanoseconds)?;
        match nanoseconds.checked_sub(NANOSECONDS) {
            Some(rest) => Some(Self {
                seconds: seconds.checked_add(1)?,
                nanoseconds: rest,
            }),
            None => Some(Self {
                seconds,
                nanoseconds,
            }),
        }
    }

    fn checked_sub(self, earlier: Self) -> Option<Self> {
        let seconds = self.seconds.checked_sub(earlier.seconds)?;
        match self.nanoseconds.checked_sub(earlier.nanoseconds) {
            Some(nanoseconds) => Some(Self {
                seconds,
                nanoseconds,
            }),
            None => Some(Self {
                seconds: seconds.checked_sub(1)?,
                nanoseconds: NANOSECONDS.checked_sub(earlier.nanoseconds)? + self.nanoseconds,
            }),
        }
    }
}

/// How far a partition's clock is from the machine's: a guest that sets its clock moves only this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockOffset {
    /// The partition's clock is ahead, or equal.
    Ahead(UnixTime),
    /// The partition's clock is behind.
    Behind(UnixTime),
}

impl ClockOffset {
    /// The partition's clock is the machine's.
    pub const ZERO: Self = Self::Ahead(UnixTime {
        seconds: 0,
        nanoseconds: 0,
    });

    /// What makes a clock at `machine` show `partition`.
    #[must_use]
    pub fn between(machine: UnixTime, partition: UnixTime) -> Self {
        match partition.checked_sub(machine) {
            Some(ahead) => Self::Ahead(ahead),
            None => machine
                .checked_sub(partition)
                .map_or(Self::ZERO, Self::Behind),
        }
    }

    /// The partition's time when the machine's is `machine`; `None` before 1970 or past the range
    /// of the type.
    #[must_use]
    pub fn apply(self, machine: UnixTime) -> Option<UnixTime> {
        match self {
            Self::Ahead(offset) => machine.checked_add(offset),
            Self::Behind(offset) => machine.checked_sub(offset),
        }
    }
}

/// A valid date and time between 1970 and 9999, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DateTime {
    /// 1970 to 9999.
    pub year: u32,
    /// 1 to 12.
    pub month: u32,
    /// 1 to the last day of the month.
    pub day: u32,
    /// 0 to 23.
    pub hour: u32,
    /// 0 to 59.
    pub minute: u32,
    /// 0 to 59.
    pub second: u32,
    /// 0 to 999,999,999.
    pub nanosecond: u32,
}

const fn is_leap(year: u32) -> bool {
    year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400)
}

const fn days_in_month(year: u32, month: u32) -> u32 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

impl DateTime {
    /// The date and time with these fields, in RTAS's order: year, month, day, hour, minute,
    /// second, nanosecond. `None` if there is no such date, or not in the range.
    #[must_use]
    pub fn new(fields: [u32; 7]) -> Option<Self> {
        let [year, month, day, hour, minute, second, nanosecond] = fields;
        let valid = YEARS.contains(&year)
            && (1..=12).contains(&month)
            && (1..=days_in_month(year, month)).contains(&day)
            && hour < 24
            && minute < 60
            && second < 60
            && nanosecond < NANOSECONDS;
        valid.then_some(Self {
            year,
            month,
            day,
            hour,
            minute,
            second,
            nanosecond,
        })
    }

    /// The fields in RTAS's order.
    #[must_use]
    pub fn fields(&self) -> [u32; 7] {
        [
            self.year,
            self.month,
            self.day,
            self.hour,
            self.minute,
            self.second,
            self.nanosecond,
        ]
    }

    /// The date and time at `time`; `None` past the year 9999.
    #[must_use]
    pub fn from_unix(time: UnixTime) -> Option<Self> {
        let narrow = |value: u64| u32::try_from(value).ok();
        let in_day = time.seconds % SECONDS_PER_DAY;
        let days = (time.seconds / SECONDS_PER_DAY).checked_add(DAYS_TO_1970)?;
        // Years begin in March here, so that the leap day is a year's last and months have a
        // regular pattern of lengths: 153 days in each five months.
        let era = days / DAYS_PER_ERA;
        let day_of_era = days % DAYS_PER_ERA;
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * march_month + 2) / 5 + 1;
        let month = if march_month < 10 {
            march_month + 3
        } else {
            march_month - 9
        };
        let year = era
            .checked_mul(400)?
            .checked_add(year_of_era + u64::from(month <= 2))?;
        Self::new([
            narrow(year)?,
            narrow(month)?,
            narrow(day)?,
            narrow(in_day / 3600)?,
            narrow(in_day / 60 % 60)?,
            narrow(in_day % 60)?,
            time.nanoseconds,
        ])
    }

    /// Time since 1970. The fields are valid, as [`new`](Self::new) checked them; a date put
    /// together by hand gives an unspecified time.
    #[must_use]
    pub fn to_unix(&self) -> UnixTime {
        let (year, month, day) = (
            u64::from(self.year),
            u64::from(self.month),
            u64::from(self.day),
        );
        let march_year = year.saturating_sub(u64::from(month <= 2));
        let march_month = (month + 9) % 12;
        let day_of_year = (153 * march_month + 2) / 5 + day.saturating_sub(1);
        let days =
            365 * march_year + march_year / 4 - march_year / 100 + march_year / 400 + day_of_year;
        let in_day =
            3600 * u64::from(self.hour) + 60 * u64::from(self.minute) + u64::from(self.second);
        UnixTime {
            seconds: days.saturating_sub(DAYS_TO_1970) * SECONDS_PER_DAY + in_day,
            nanoseconds: self.nanosecond,
        }
    }
}

/// The two registers of OPAL's real-time clock: binary coded decimal digits.
///
/// Word 1 is year (four digits), month, day; doubleword 2 is hour, minute, second from its most
/// significant byte on, the rest is not used (OPAL API, OPAL_RTC_READ).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpalRtc {
    /// Four digits of the year, two of the month, two of the day.
    pub year_month_day: u32,
    /// Two digits each of hour, minute and second, in the upper three bytes.
    pub hour_minute_second: u64,
}

impl OpalRtc {
    /// The date and time in these registers; `None` if a digit is none or the date does not exist
    /// in the range.
    #[must_use]
    pub fn decode(self) -> Option<DateTime> {
        let [century, year, month, day] = self.year_month_day.to_be_bytes();
        let [hour, minute, second, ..] = self.hour_minute_second.to_be_bytes();
        DateTime::new([
            100 * from_bcd(century)? + from_bcd(year)?,
            from_bcd(month)?,
            from_bcd(day)?,
            from_bcd(hour)?,
            from_bcd(minute)?,
            from_bcd(second)?,
            0,
        ])
    }

    /// The registers that hold `time` without its fraction of a second.
    #[must_use]
    pub fn encode(time: &DateTime) -> Self {
        let date = [time.year / 100, time.year % 100, time.month, time.day];
        let clock = [time.hour, time.minute, time.second, 0, 0, 0, 0, 0];
        Self {
            year_month_day: u32::from_be_bytes(date.map(to_bcd)),
            hour_minute_second: u64::from_be_bytes(clock.map(to_bcd)),
        }
    }
}

fn from_bcd(byte: u8) -> Option<u32> {
    let (tens, ones) = (u32::from(byte >> 4), u32::from(byte & 0xf));
    (tens < 10 && ones < 10).then_some(10 * tens + ones)
}

/// Two decimal digits; the value is below 100 in every valid date.
fn to_bcd(value: u32) -> u8 {
    let value = value % 100;
    u8::try_from(value / 10 * 16 + value % 10).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_arch::fake::unless_miri;
    use proptest::prelude::*;

    fn at(seconds: u64) -> [u32; 7] {
        DateTime::from_unix(UnixTime::new(seconds, 0).unwrap())
            .unwrap()
            .fields()
    }

    #[test]
    fn dates_by_literal_values() {
        for (seconds, date) in [
            (0, [1970, 1, 1, 0, 0, 0, 0]),
            (951_782_399, [2000, 2, 28, 23, 59, 59, 0]),
            (951_782_400, [2000, 2, 29, 0, 0, 0, 0]),
            (951_868_800, [2000, 3, 1, 0, 0, 0, 0]),
            (1_709_164_800, [2024, 2, 29, 0, 0, 0, 0]),
            (1_740_787_200, [2025, 3, 1, 0, 0, 0, 0]),
            (2_147_483_647, [2038, 1, 19, 3, 14, 7, 0]),
            (4_107_542_399, [2100, 2, 28, 23, 59, 59, 0]),
            (4_107_542_400, [2100, 3, 1, 0, 0, 0, 0]),
            (4_294_967_296, [2106, 2, 7, 6, 28, 16, 0]),
            (253_402_300_799, [9999, 12, 31, 23, 59, 59, 0]),
        ] {
            assert_eq!(at(seconds), date, "{seconds}");
            assert_eq!(
                DateTime::new(date).unwrap().to_unix().seconds(),
                seconds,
                "{date:?}"
            );
        }
    }

    #[test]
    fn the_year_10000_is_out_of_range() {
        assert_eq!(
            DateTime::from_unix(UnixTime::new(253_402_300_800, 0).unwrap()),
            None
        );
        assert_eq!(
            DateTime::from_unix(UnixTime::new(u64::MAX, 0).unwrap()),
            None
        );
    }

    #[test]
    fn dates_that_do_not_exist_are_refused() {
        let valid = [2023, 6, 15, 12, 30, 30, 5];
        assert!(DateTime::new(valid).is_some());
        for (field, value) in [
            (0, 1969),
            (0, 10_000),
            (0, u32::MAX),
            (1, 0),
            (1, 13),
            (2, 0),
            (2, 31),
            (3, 24),
            (4, 60),
            (5, 60),
            (6, 1_000_000_000),
        ] {
            let mut fields = valid;
            fields[field] = value;
            assert_eq!(DateTime::new(fields), None, "{fields:?}");
        }
        assert_eq!(DateTime::new([2023, 2, 29, 0, 0, 0, 0]), None);
        assert_eq!(DateTime::new([2100, 2, 29, 0, 0, 0, 0]), None);
        assert!(DateTime::new([2400, 2, 29, 0, 0, 0, 0]).is_some());
        assert_eq!(DateTime::new([2024, 4, 31, 0, 0, 0, 0]), None);
    }

    #[test]
    fn every_day_of_eight_centuries_follows_its_predecessor() {
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for n in 0..unless_miri(292_194, 2000) {
            assert_eq!(at(n * 86_400)[..3], [year, month, day]);
            assert_eq!(
                DateTime::new([year, month, day, 0, 0, 0, 0])
                    .unwrap()
                    .to_unix()
                    .seconds,
                n * 86_400
            );
            day += 1;
            if day > days_in_month(year, month) {
                (month, day) = (month + 1, 1);
            }
            if month > 12 {
                (year, month) = (year + 1, 1);
            }
        }
        assert_eq!(year, unless_miri(2770, 1975));
    }

    #[test]
    fn ticks_become_nanoseconds() {
        let start = UnixTime::new(100, 999_999_999).unwrap();
        assert_eq!(
            start.checked_add_ticks(512_000_000, 512_000_000),
            UnixTime::new(101, 999_999_999)
        );
        assert_eq!(
            start.checked_add_ticks(1, 512_000_000),
            UnixTime::new(101, 0)
        );
        assert_eq!(start.checked_add_ticks(1, 0), None);
        assert!(start.checked_add_ticks(u64::MAX, u64::MAX).is_some());
        assert_eq!(start.checked_add_ticks(u64::MAX, 1), None);
    }

    #[test]
    fn opal_clock_is_binary_coded_decimal() {
        let date = DateTime::new([2026, 11, 21, 1, 53, 54, 123]).unwrap();
        let registers = OpalRtc {
            year_month_day: 0x2026_1121,
            hour_minute_second: 0x0153_5400_0000_0000,
        };
        assert_eq!(OpalRtc::encode(&date), registers);
        assert_eq!(
            registers.decode(),
            Some(DateTime {
                nanosecond: 0,
                ..date
            })
        );
    }

    #[test]
    fn opal_clock_with_wrong_digits_is_no_date() {
        for (year_month_day, hour_minute_second) in [
            (0x2026_0a01, 0),
            (0x2026_11ff, 0),
            (0x0000_0000, 0),
            (0x1969_1231, 0),
            (0x2026_1121, 0x2400_0000_0000_0000),
            (0x2026_1121, 0x1a00_0000_0000_0000),
        ] {
            assert_eq!(
                OpalRtc {
                    year_month_day,
                    hour_minute_second
                }
                .decode(),
                None
            );
        }
    }

    proptest! {
        #![proptest_config(crate::rtas::testing::config())]

        #[test]
        fn date_and_seconds_are_inverse(seconds in 0_u64..253_402_300_800, ns in 0_u32..NANOSECONDS) {
            let time = UnixTime::new(seconds, ns).unwrap();
            let date = DateTime::from_unix(time).unwrap();
            prop_assert_eq!(date.to_unix(), time);
            prop_assert_eq!(DateTime::new(date.fields()), Some(date));
        }

        #[test]
        fn offset_brings_one_clock_to_the_other(
            a in 0_u64..253_402_300_800, an in 0_u32..NANOSECONDS,
            b in 0_u64..253_402_300_800, bn in 0_u32..NANOSECONDS,
        ) {
            let (a, b) = (UnixTime::new(a, an).unwrap(), UnixTime::new(b, bn).unwrap());
            prop_assert_eq!(ClockOffset::between(a, b).apply(a), Some(b));
        }
    }
}
