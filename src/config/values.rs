//! Values that are written as text in a configuration, and say in its schema what they look like.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::json;

use super::{ConfigError, duration_us, size_bytes};

/// A length of time in microseconds, written `10s`, `500ms`, `5m`, `1h`, `2d` or `0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Micros(pub i64);

/// A number of bytes, written `4096`, `512KiB`, `32MiB` or `1GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Bytes(pub usize);

/// So many in so long, written `10/s`, `60/m` or `1000/h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many; at least one.
    pub count: u32,
    /// In how many microseconds.
    pub per_us: i64,
}

/// A point in time, microseconds since 1970, written `2026-11-23T10:00:00Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(pub i64);

/// A value whose text can be read and is checked when the configuration is.
pub(super) trait Written: Sized {
    /// Its name in the schema's `format`.
    const FORMAT: &'static str;

    /// What the schema says besides, for those who know it alone: the pattern of a text, which numbers stand for one.
    fn looks() -> serde_json::Value;

    /// Reads it.
    fn read(text: &str) -> Result<Self, ConfigError>;

    /// As it is written.
    fn write(&self) -> String;
}

impl Written for Micros {
    const FORMAT: &'static str = "duration-text";

    fn looks() -> serde_json::Value {
        json!({"type": ["string", "integer"], "pattern": "^([0-9]+ *(us|ms|s|m|min|h|d)|0+)$", "minimum": 0, "maximum": 0})
    }

    fn read(text: &str) -> Result<Self, ConfigError> {
        duration_us(text).map(Micros)
    }

    fn write(&self) -> String {
        let units = [("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000)];
        match units.into_iter().find(|(_, size)| self.0 != 0 && self.0 % size == 0) {
            Some((unit, size)) => format!("{}{unit}", self.0 / size),
            None if self.0 == 0 => "0".to_owned(),
            None => format!("{}us", self.0),
        }
    }
}

impl Written for Bytes {
    const FORMAT: &'static str = "size-text";

    fn looks() -> serde_json::Value {
        json!({"type": ["string", "integer"], "pattern": "^[0-9]+ *(B|KiB|MiB|GiB)?$", "minimum": 0})
    }

    fn read(text: &str) -> Result<Self, ConfigError> {
        size_bytes(text).map(Bytes)
    }

    fn write(&self) -> String {
        let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        match units.into_iter().find(|(_, size)| self.0 != 0 && self.0.is_multiple_of(*size)) {
            Some((unit, size)) => format!("{}{unit}", self.0 / size),
            None => self.0.to_string(),
        }
    }
}

impl Written for Rate {
    const FORMAT: &'static str = "rate-text";

    fn looks() -> serde_json::Value {
        json!({"type": "string", "pattern": "^ *[0-9]*[1-9][0-9]* */ *[smh] *$"})
    }

    fn read(text: &str) -> Result<Self, ConfigError> {
        let wrong = || ConfigError::Rate(text.to_owned());
        let (count, unit) = text.split_once('/').ok_or_else(wrong)?;
        let per_us = match unit.trim() {
            "s" => 1_000_000,
            "m" => 60_000_000,
            "h" => 3_600_000_000,
            _ => return Err(wrong()),
        };
        let count = count.trim().parse().ok().filter(|count| *count > 0).ok_or_else(wrong)?;
        Ok(Rate { count, per_us })
    }

    fn write(&self) -> String {
        let unit = match self.per_us {
            1_000_000 => "s",
            60_000_000 => "m",
            _ => "h",
        };
        format!("{}/{unit}", self.count)
    }
}

impl Written for Instant {
    const FORMAT: &'static str = "date-time";

    fn looks() -> serde_json::Value {
        json!({"type": "string", "pattern": "^[0-9-]{10}[Tt ][0-9:.]{8,}([Zz]|[+-][0-9]{2}:[0-9]{2})$"})
    }

    fn read(text: &str) -> Result<Self, ConfigError> {
        let found = chrono::DateTime::parse_from_rfc3339(text);
        found.map(|time| Instant(time.timestamp_micros())).map_err(|_| ConfigError::Time(text.to_owned()))
    }

    fn write(&self) -> String {
        chrono::DateTime::from_timestamp_micros(self.0).map_or(String::new(), |time| time.to_rfc3339())
    }
}

/// Whether a text is what a schema's `format` asks for; `None` for a format that is not ours.
pub(super) fn check(format: &str, text: &str) -> Option<Result<(), ConfigError>> {
    match format {
        Micros::FORMAT => Some(Micros::read(text).map(drop)),
        Bytes::FORMAT => Some(Bytes::read(text).map(drop)),
        Rate::FORMAT => Some(Rate::read(text).map(drop)),
        Instant::FORMAT => Some(Instant::read(text).map(drop)),
        ADDRESS => {
            Some(text.parse::<std::net::SocketAddr>().map(drop).map_err(|_| ConfigError::Address(text.to_owned())))
        }
        CLUSTER_FROM => Some(super::ClusterFrom::parse(text).map(drop)),
        _ => None,
    }
}

/// The `format` of a socket address.
pub(super) const ADDRESS: &str = "address";
/// The `format` of a way to find a cluster.
pub(super) const CLUSTER_FROM: &str = "cluster-from";

macro_rules! written {
    ($($type:ident),*) => {$(
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                $type::read(&from.deserialize_any(Scalar)?).map_err(serde::de::Error::custom)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(&self.write())
            }
        }

        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                let mut schema = json_schema!({"format": $type::FORMAT});
                schema.ensure_object().extend($type::looks().as_object().cloned().unwrap_or_default());
                schema
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.write())
            }
        }
    )*};
}

written!(Micros, Bytes, Rate, Instant);

/// A scalar as text: `0` is a number to YAML and a duration to us.
pub(super) struct Scalar;

impl serde::de::Visitor<'_> for Scalar {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a number")
    }

    fn visit_str<E>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_bool<E>(self, truth: bool) -> Result<String, E> {
        Ok(truth.to_string())
    }

    fn visit_u64<E>(self, number: u64) -> Result<String, E> {
        Ok(number.to_string())
    }

    fn visit_i64<E>(self, number: i64) -> Result<String, E> {
        Ok(number.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for text in ["0", "10s", "500ms", "90m", "1h", "7d"] {
            assert_eq!(Micros::read(&Micros::read(text).unwrap().write()).unwrap(), Micros::read(text).unwrap());
        }
        assert_eq!((Micros(90_000_000).write(), Micros(1).write()), ("90s".to_owned(), "1us".to_owned()));
        assert_eq!((Bytes(32 << 20).write(), Bytes(5).write()), ("32MiB".to_owned(), "5".to_owned()));
        assert_eq!(Rate::read("60/m").unwrap(), Rate { count: 60, per_us: 60_000_000 });
        for text in ["", "0/s", "5", "5/d", "-1/s"] {
            assert!(Rate::read(text).is_err(), "{text}");
        }
        assert_eq!(Instant::read("2026-11-23T10:00:00+01:00").unwrap().write(), "2026-11-23T09:00:00+00:00");
        assert!(Instant::read("tomorrow").is_err());
    }

    /// Whether a schema's pattern says of a text what reading it says.
    fn agrees<W: Written>(text: &str) {
        let looks = W::looks();
        let pattern = regex::Regex::new(looks["pattern"].as_str().unwrap()).unwrap();
        assert_eq!(pattern.is_match(text), W::read(text).is_ok(), "{}: {text:?}", W::FORMAT);
    }

    #[test]
    fn the_schema_refuses_what_is_not_read() {
        for text in ["0", "00", "10s", "10 s", "5min", "1d", "1us", "", "10", "s", "-1s", "1.5s", "10S", "10s ", "1w"] {
            agrees::<Micros>(text);
        }
        for text in ["4096", "1B", "32MiB", "32 MiB", "1GiB", "", "big", "-1", "1MB", "1.5GiB", "MiB"] {
            agrees::<Bytes>(text);
        }
        for text in ["10/s", "1 / m", "1000/h", "0/s", "00/s", "/s", "5", "5/d", "-1/s", "fast", "10/s/s"] {
            agrees::<Rate>(text);
        }
        for text in
            ["2026-11-23T10:00:00Z", "2026-11-23T10:00:00.5+01:00", "tomorrow", "2026-11-23", "2026-11-23T10:00:00"]
        {
            agrees::<Instant>(text);
        }
    }
}
