//! What was typed becomes what was meant: durations, sizes, clusters and site lists, checked once.

pub mod layers;
pub mod run;
pub mod schema;
pub mod values;

use std::collections::BTreeMap;
use std::fmt;

use ipnet::IpNet;

use crate::rules::Diagnostic;

/// A value that cannot be understood, with what would be.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not a length of time.
    #[error("{0:?} is not a duration: write a number with ms, s, m, h or d, e.g. 500ms, 10s, 5m (or 0)")]
    Duration(String),
    /// Not a size.
    #[error("{0:?} is not a size: write a number of bytes, or one with KiB, MiB or GiB, e.g. 32MiB")]
    Size(String),
    /// Not `path:REGEX`.
    #[error("{0:?} is not a way to find the cluster: a replay takes path:REGEX, e.g. path:/logs/([^/]+)/")]
    ClusterFrom(String),
    /// The expression after `path:` is wrong.
    #[error("cluster-from: {0}")]
    Regex(#[from] regex::Error),
    /// The site file is no map of lists.
    #[error("{file}: {source}; a site file maps names to lists of strings")]
    Site {
        /// Its path.
        file: String,
        /// What is wrong where.
        source: Box<serde_saphyr::Error>,
    },
    /// The daemon's configuration cannot be understood.
    #[error("{0}")]
    Run(Problems),
    /// Not a rate.
    #[error("{0:?} is not a rate: write so many per s, m or h, e.g. 10/s, 60/m")]
    Rate(String),
    /// Not a point in time.
    #[error("{0:?} is not a time: write it as 2026-11-23T10:00:00Z")]
    Time(String),
    /// Not a socket address.
    #[error("{0:?} is not a socket address: write an IP address and a port, e.g. 127.0.0.1:9090")]
    Address(String),
    /// A trusted proxy is no network.
    #[error("{file}: trusted_proxies: {value:?} is neither an address nor a network such as 10.0.0.0/8")]
    Proxy {
        /// The site file.
        file: String,
        /// The entry.
        value: String,
    },
}

/// Everything that is wrong with a configuration, each with its place.
#[derive(Debug)]
pub struct Problems {
    /// In the order of places.
    pub list: Vec<Diagnostic>,
    /// The text of the file, to show lines of.
    pub text: String,
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told: Vec<String> = self.list.iter().map(|problem| problem.render(Some(&self.text))).collect();
        f.write_str(&told.join("\n"))
    }
}

/// Reads `10s`, `500ms`, `5m`, `1h`, `2d` or `0` as microseconds.
pub fn duration_us(text: &str) -> Result<i64, ConfigError> {
    let wrong = || ConfigError::Duration(text.to_owned());
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: i64 = text[..digits].parse().map_err(|_| wrong())?;
    let unit = match text[digits..].trim_start() {
        "us" => 1,
        "ms" => 1_000,
        "s" => 1_000_000,
        "m" | "min" => 60_000_000,
        "h" => 3_600_000_000,
        "d" => 86_400_000_000,
        "" if number == 0 => 1,
        _ => return Err(wrong()),
    };
    number.checked_mul(unit).ok_or_else(wrong)
}

/// Reads `33554432`, `32MiB` or `512KiB` as bytes.
pub fn size_bytes(text: &str) -> Result<usize, ConfigError> {
    let wrong = || ConfigError::Size(text.to_owned());
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: usize = text[..digits].parse().map_err(|_| wrong())?;
    let unit: usize = match text[digits..].trim_start() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(wrong()),
    };
    number.checked_mul(unit).ok_or_else(wrong)
}

/// How the cluster of a file is found in its path.
#[derive(Debug, Clone)]
pub struct ClusterFrom(regex::Regex);

impl ClusterFrom {
    /// Reads `path:REGEX`.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let pattern = text.strip_prefix("path:").ok_or_else(|| ConfigError::ClusterFrom(text.to_owned()))?;
        Ok(ClusterFrom(regex::Regex::new(pattern)?))
    }

    /// The first group that took part, or the whole match.
    pub fn find<'p>(&self, path: &'p str) -> Option<&'p str> {
        let found = self.0.captures(path)?;
        let group = found.iter().skip(1).flatten().next();
        group.or_else(|| found.get(0)).map(|m| m.as_str())
    }
}

/// What is particular to a site: lists that rules refer to, and its proxies.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Site {
    /// Values for `%name%` in rules with `|expand`.
    pub lists: BTreeMap<String, Vec<String>>,
    /// Networks whose addresses are passed over when the client's address is looked for.
    pub trusted_proxies: Vec<IpNet>,
}

impl Site {
    /// Reads a site file: YAML, a map from names to lists of strings.
    pub fn parse(file: &str, text: &str) -> Result<Self, ConfigError> {
        let lists: BTreeMap<String, Vec<String>> = if text.trim().is_empty() {
            BTreeMap::new()
        } else {
            serde_saphyr::from_str(text)
                .map_err(|source| ConfigError::Site { file: file.to_owned(), source: Box::new(source) })?
        };
        let proxies = lists.get("trusted_proxies").map_or(&[][..], Vec::as_slice);
        let network = |value: &String| {
            let address = || value.parse::<std::net::IpAddr>().map(IpNet::from);
            value
                .parse::<IpNet>()
                .or_else(|_| address())
                .map_err(|_| ConfigError::Proxy { file: file.to_owned(), value: value.clone() })
        };
        let trusted_proxies = proxies.iter().map(network).collect::<Result<_, _>>()?;
        Ok(Site { lists, trusted_proxies })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_durations_and_sizes() {
        for (text, us) in
            [("10s", 10_000_000), ("500ms", 500_000), ("5m", 300_000_000), ("1h", 3_600_000_000), ("0", 0)]
        {
            assert_eq!(duration_us(text).unwrap(), us, "{text}");
        }
        for text in ["", "10", "s", "-1s", "1.5s", "10 parsecs", "99999999999999999d"] {
            assert!(duration_us(text).is_err(), "{text}");
        }
        assert_eq!(size_bytes("32MiB").unwrap(), 32 << 20);
        assert_eq!(size_bytes("4096").unwrap(), 4096);
        assert!(size_bytes("many").is_err());
    }

    #[test]
    fn finds_the_cluster_in_a_path() {
        let from = |text: &str| ClusterFrom::parse(text).unwrap();
        assert_eq!(from("path:/logs/([^/]+)/").find("/logs/prod-1/audit.log"), Some("prod-1"));
        assert_eq!(from("path:prod|test").find("/logs/test/audit.log"), Some("test"));
        assert_eq!(from("path:(a)|(b)").find("xb"), Some("b"));
        assert_eq!(from("path:zzz").find("/logs"), None);
        assert!(ClusterFrom::parse("topic").is_err() && ClusterFrom::parse("path:(").is_err());
    }

    #[test]
    fn reads_a_site_file() {
        let site = Site::parse("s.yml", "admins: [alice, bob]\ntrusted_proxies: [10.0.0.0/8, 192.0.2.1]\n").unwrap();
        assert_eq!(site.lists["admins"], ["alice", "bob"]);
        assert_eq!(site.trusted_proxies.len(), 2);
        assert!(Site::parse("s.yml", "admins: 3").is_err());
        assert!(Site::parse("s.yml", "trusted_proxies: [lan]").unwrap_err().to_string().contains("lan"));
        assert_eq!(Site::parse("s.yml", "").unwrap(), Site::default());
    }
}
