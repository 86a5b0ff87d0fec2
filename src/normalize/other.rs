//! Lines of other logs that share a channel with audit events.

use std::sync::LazyLock;

use regex::bytes::Regex;

/// The shapes of log lines that are known to be none of ours: klog (`I1123 19:30:29.041592 1 file.go:12]`), auditd
/// (`type=SYSCALL msg=audit(`), logfmt (`time=… level=…`), and lines that begin with a date and time of their own.
static KNOWN: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r"^[IWEF]\d{4} \d{2}:\d{2}:\d{2}\.\d+",
        r"|^type=[A-Z_0-9]+ msg=audit\(",
        r#"|^(?:time|ts|t|level|lvl)="?[^ ]+"? +[a-z]+="#,
        r"|^(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [ 0-9]\d \d{2}:\d{2}:\d{2} ",
        r"|^\d{4}[-/]\d{2}[-/]\d{2}[T ]\d{2}:\d{2}:\d{2}",
    ))
    .expect("a constant pattern, compiled by the tests")
});

/// Whether a line that is no JSON object is readable all the same: a line of a known log without an object in it, or a
/// lone JSON scalar.
pub fn is_readable(line: &[u8]) -> bool {
    if line.contains(&b'{') || std::str::from_utf8(line).is_err() {
        return false;
    }
    KNOWN.is_match(line) || serde_json::from_slice::<serde::de::IgnoredAny>(line).is_ok()
}

#[cfg(test)]
mod tests {
    use super::is_readable;

    #[test]
    fn knows_its_neighbours() {
        for (line, readable) in [
            ("I1123 19:30:29.041592       1 controller.go:615] quota admission added evaluator", true),
            ("type=SYSCALL msg=audit(1364481363.243:24287): arch=c000003e", true),
            ("time=\"2026-11-23T19:30:29Z\" level=info msg=ready", true),
            ("Nov 23 19:30:29 host kubelet[1]: started", true),
            ("2026-11-23 19:30:29.041592 I | etcdserver: ready", true),
            ("\"a string\"", true),
            ("12", true),
            // Half a line of an audit log is a lost event, and so is an event behind a prefix that nobody took off.
            ("ta\":\"x\",\"verb\":\"get\"}", false),
            ("Nov 23 19:30:29 host audit: {\"kind\":\"Event\"}", false),
            ("garbage", false),
        ] {
            assert_eq!(is_readable(line.as_bytes()), readable, "{line}");
        }
    }
}
