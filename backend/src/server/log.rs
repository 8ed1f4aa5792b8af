//! One line per event on standard error, `key=value`. Prompts, answers and credentials are never
//! among the values: callers pass ids, names, sizes and times.

use std::fmt::{Display, Write as _};
use std::io::Write as _;

/// Writes one line: `event=request status=200 ...`. A closed or full standard error is ignored, for
/// a log never breaks the path it reports on.
pub fn event(name: &str, fields: &[(&str, &dyn Display)]) {
    let _ = std::io::stderr()
        .lock()
        .write_all(line(name, fields).as_bytes());
}

fn line(name: &str, fields: &[(&str, &dyn Display)]) -> String {
    let mut line = format!("event={name}");
    for (key, value) in fields {
        let value = value.to_string();
        let plain = !value.is_empty()
            && value
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'='));
        // Anything else is quoted and escaped, so no value can start a line or a field of its own.
        let _ = match plain {
            true => write!(line, " {key}={value}"),
            false => write!(line, " {key}={value:?}"),
        };
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: &str, expected: &str) {
        assert_eq!(line("test", &[("key", &value)]), expected);
    }

    #[test]
    fn values_stay_within_their_field() {
        check("plain-1.5", "event=test key=plain-1.5\n");
        check("two words", "event=test key=\"two words\"\n");
        check("", "event=test key=\"\"\n");
        check("a\nevent=forged", "event=test key=\"a\\nevent=forged\"\n");
        check("a=b", "event=test key=\"a=b\"\n");
    }
}
