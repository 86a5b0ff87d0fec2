//! Event time: microseconds since the Unix epoch, read from and written as RFC 3339.

use chrono::{DateTime, Datelike, NaiveDate, SecondsFormat};

/// Reads an RFC 3339 time (as `metav1.MicroTime` writes it, or with any offset and precision) as microseconds.
pub fn parse_micros(text: &[u8]) -> Option<i64> {
    fast(text).or_else(|| {
        let text = std::str::from_utf8(text).ok()?;
        DateTime::parse_from_rfc3339(text).ok().map(|t| t.timestamp_micros())
    })
}

/// Writes microseconds since the epoch as `2026-11-23T19:30:29.041592Z`.
pub fn format_micros(micros: i64) -> String {
    let (seconds, micros_left) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let date = i32::try_from(days).ok().and_then(|days| NaiveDate::from_num_days_from_ce_opt(days + 719_163));
    // Other years are written with a sign, and some dates not at all.
    match date.filter(|date| (0..=9999).contains(&date.year())) {
        Some(date) => {
            let mut text = *b"0000-00-00T00:00:00.000000Z";
            let mut put = |range: std::ops::Range<usize>, mut number: i64| {
                for digit in text[range].iter_mut().rev() {
                    *digit = b'0' + (number % 10) as u8;
                    number /= 10;
                }
            };
            put(0..4, date.year().into());
            put(5..7, date.month().into());
            put(8..10, date.day().into());
            put(11..13, second / 3600);
            put(14..16, second / 60 % 60);
            put(17..19, second % 60);
            put(20..26, micros_left);
            std::str::from_utf8(&text).map_or_else(|_| format_any(micros), str::to_owned)
        }
        None => format_any(micros),
    }
}

/// The same for any number.
fn format_any(micros: i64) -> String {
    match DateTime::from_timestamp_micros(micros) {
        Some(t) => t.to_rfc3339_opts(SecondsFormat::Micros, true),
        None => format!("{micros}us"),
    }
}

/// The shape the API server writes, without the general parser: `2026-11-23T19:30:29.041592Z`. Every event has two of them, so
/// eight bytes are read at a time, and there is no branch between them.
fn fast(text: &[u8]) -> Option<i64> {
    let text: &[u8; 27] = text.try_into().ok()?;
    let [(date, odd_date), (day, odd_day), (second, odd_second), (micros, odd_micros)] = [
        pairs(text, 0, b"0000-00-"),
        pairs(text, 8, b"00T00:00"),
        pairs(text, 16, b":00.0000"),
        pairs(text, 19, b".000000Z"),
    ];
    let pair = |pairs: u64, at: u32| (pairs >> (8 * at) & 0xff) as i64;
    let (year, month, hour, minute) = (pair(date, 0) * 100 + pair(date, 2), pair(date, 5), pair(day, 3), pair(day, 6));
    let (day, second) = (pair(day, 0), pair(second, 1));
    let micros = (pair(micros, 1) * 100 + pair(micros, 3)) * 100 + pair(micros, 5);
    if odd_date | odd_day | odd_second | odd_micros || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let days = days_since_epoch(year, month, day)?;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000_000 + micros)
}

/// The number that each byte of these eight makes with the next one, as two digits; and whether they do not have the form,
/// in which `0` is any digit and all else is itself.
#[inline(always)]
fn pairs(text: &[u8; 27], at: usize, form: &[u8; 8]) -> (u64, bool) {
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let mut eight = [0; 8];
    eight.copy_from_slice(&text[at..at + 8]);
    // Digits become 0 to 9, and what is itself becomes 0. What is added then sets the high bit of all others.
    let read = u64::from_le_bytes(eight) ^ u64::from_le_bytes(*form);
    let others = form.map(|byte| if byte == b'0' { 0x7f - 9 } else { 0x7f });
    // A byte of 0x80 or more carries into the next one, but it is itself none that may be here.
    let odd = (read.wrapping_add(u64::from_le_bytes(others)) | read) & HIGH != 0;
    ((read & !HIGH).wrapping_mul(10).wrapping_add(read >> 8), odd)
}

/// Days before each month of a year that is no leap year, and before the next year.
const DAYS_BEFORE: [i64; 13] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365];

/// Days from 1970-01-01 to a date of the Gregorian calendar; `None` if there is none like it.
fn days_since_epoch(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(1..=12).contains(&month) {
        return None;
    }
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let (before, next) = (DAYS_BEFORE[month as usize - 1], DAYS_BEFORE[month as usize]);
    if day < 1 || day > next - before + i64::from(leap && month == 2) {
        return None;
    }
    let years = year - 1;
    let leap_days = years.div_euclid(4) - years.div_euclid(100) + years.div_euclid(400);
    // 1970-01-01 is the 719,163rd day when 0001-01-01 is the first.
    Some(years * 365 + leap_days + before + i64::from(leap && month > 2) + day - 719_163)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_times() {
        for (text, micros) in [
            ("1970-01-01T00:00:00.000000Z", Some(0)),
            ("2026-11-23T19:30:29.041592Z", Some(1_795_462_229_041_592)),
            ("2026-11-23T20:30:29.041592+01:00", Some(1_795_462_229_041_592)),
            ("2026-11-23T19:30:29Z", Some(1_795_462_229_000_000)),
            ("2026-11-23T19:30:29.041592999Z", Some(1_795_462_229_041_592)),
            ("2026-02-30T19:30:29.041592Z", None),
            ("2026-11-23T24:30:29.041592Z", None),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(parse_micros(text.as_bytes()), micros, "{text}");
        }
        assert_eq!(format_micros(1_795_462_229_041_592), "2026-11-23T19:30:29.041592Z");
    }

    #[test]
    fn counts_the_days_of_every_date() {
        for year in 0..=9999 {
            for month in 0..=13 {
                for day in 0..=32 {
                    let expected = NaiveDate::from_ymd_opt(year, month, day)
                        .map(|date| i64::from(date.num_days_from_ce()) - 719_163);
                    let found = days_since_epoch(year.into(), month.into(), day.into());
                    assert_eq!(found, expected, "{year}-{month}-{day}");
                }
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn every_time_is_written_as_the_general_way_writes_it(
            near in -100_000_000_000_000_000i64..300_000_000_000_000_000, any in proptest::num::i64::ANY
        ) {
            proptest::prop_assert_eq!(format_micros(near), format_any(near));
            proptest::prop_assert_eq!(format_micros(any), format_any(any));
        }

        #[test]
        fn the_quick_way_agrees_with_the_general_one(
            at in 0usize..27, byte in proptest::sample::select(b"019-:.TZ t/\xff".to_vec()), micros in 0i64..253_402_300_800_000_000
        ) {
            let mut text = format_micros(micros).into_bytes();
            proptest::prop_assert_eq!(fast(&text), Some(micros));
            text[at] = byte;
            let general = std::str::from_utf8(&text).ok().and_then(|text| DateTime::parse_from_rfc3339(text).ok());
            if let Some(found) = fast(&text) {
                proptest::prop_assert_eq!(Some(found), general.map(|time| time.timestamp_micros()));
            }
        }
    }
}
