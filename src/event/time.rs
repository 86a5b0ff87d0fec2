//! Event time: microseconds since the Unix epoch, read from and written as RFC 3339.

use chrono::{DateTime, SecondsFormat};

/// Reads an RFC 3339 time (as `metav1.MicroTime` writes it, or with any offset and precision) as microseconds.
pub fn parse_micros(text: &[u8]) -> Option<i64> {
    fast(text).or_else(|| {
        let text = std::str::from_utf8(text).ok()?;
        DateTime::parse_from_rfc3339(text).ok().map(|t| t.timestamp_micros())
    })
}

/// Writes microseconds since the epoch as `2026-11-23T19:30:29.041592Z`.
pub fn format_micros(micros: i64) -> String {
    match DateTime::from_timestamp_micros(micros) {
        Some(t) => t.to_rfc3339_opts(SecondsFormat::Micros, true),
        None => format!("{micros}us"),
    }
}

/// The shape the API server writes, `YYYY-MM-DDTHH:MM:SS.ffffffZ`, without the general parser.
fn fast(text: &[u8]) -> Option<i64> {
    let t: &[u8; 27] = text.try_into().ok()?;
    let separators = t[4] == b'-'
        && t[7] == b'-'
        && t[10] == b'T'
        && t[13] == b':'
        && t[16] == b':'
        && t[19] == b'.'
        && t[26] == b'Z';
    if !separators {
        return None;
    }
    let number = |range: std::ops::Range<usize>| -> Option<i64> {
        t[range].iter().try_fold(0i64, |n, b| b.is_ascii_digit().then(|| n * 10 + i64::from(b - b'0')))
    };
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second, micros) = (number(11..13)?, number(14..16)?, number(17..19)?, number(20..26)?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let date = chrono::NaiveDate::from_ymd_opt(year as i32, month as u32, day as u32)?;
    let days = i64::from(chrono::Datelike::num_days_from_ce(&date)) - 719_163;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000_000 + micros)
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
}
