//! The parts of a log line: the prefix that the log adds to each line, and the JSON object that a program wrote.
//!
//! Only the following prefixes are known. A log also has lines with texts of visitors, such as codes and user agents,
//! and a visitor may write JSON into them: an object is trusted only directly after a known prefix.
//!
//! | prefix | written by |
//! |---|---|
//! | none | the function, `pixel serve`, files of events |
//! | `TIME STREAM` | `aws logs tail` |
//! | `TIME REQUEST-ID LEVEL` | Lambda's text format |
//! | `TIME HOST IDENT[PID]:` | systemd, syslog |
//! | `DAY`, `TIME`, `TIME LEVEL` | `docker logs --timestamps`, many loggers |
//! | `TIME stdout F` | Kubernetes |
//! | `SERVICE \|`, `SERVICE \| TIME` | Docker Compose |

/// Returns the JSON object after a known prefix in a log line, and true if there is no prefix.
pub fn find_object(line: &str) -> Option<(&str, bool)> {
    let text = line.trim_start_matches('\u{feff}').trim();
    let (prefix, _) = text.split_once('{')?;
    let object = &text[prefix.len()..];
    if prefix.is_empty() {
        return Some((object, true));
    }
    (prefix.ends_with([' ', '\t']) && is_prefix(prefix)).then_some((object, false))
}

fn is_prefix(prefix: &str) -> bool {
    let words: Vec<&str> = prefix.split_ascii_whitespace().collect();
    let words = words.as_slice();
    if let [service, "|", rest @ ..] = words {
        return is_name(service) && (rest.is_empty() || after_time(rest).is_some_and(<[_]>::is_empty));
    }
    if let [day] = words {
        // A day alone, or a whole time.
        return is_day(day) || after_time(words).is_some();
    }
    match after_time(words) {
        Some([] | ["stdout" | "stderr", "F" | "P"]) => true,
        Some([word]) => is_level(word) || is_name(word),
        Some([host, ident]) => is_name(host) && (is_level(ident) || is_ident(ident)),
        _ => false,
    }
}

/// Returns the words after a date and time.
fn after_time<'a, 'b>(words: &'a [&'b str]) -> Option<&'a [&'b str]> {
    match words {
        [time, rest @ ..]
            if time
                .split_once('T')
                .is_some_and(|(day, time)| is_day(day) && is_clock(time)) =>
        {
            Some(rest)
        }
        [day, time, rest @ ..] if is_day(day) && is_clock(time) => Some(rest),
        [month, day, time, rest @ ..] if is_month(month) && is_number(day) && is_clock(time) => Some(rest),
        _ => None,
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Returns true for texts such as `2026-03-01`, also after a bracket.
fn is_day(text: &str) -> bool {
    let parts: Vec<_> = text.trim_start_matches('[').split(['-', '/']).collect();
    parts.len() == 3 && parts.into_iter().all(is_number)
}

/// Returns true for texts such as `09:30:00`, also with a fraction, a zone or a bracket after it.
fn is_clock(text: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_digit() || b":.,+-Z]".contains(&byte);
    text.len() >= 8 && text.bytes().all(known) && text.as_bytes()[2] == b':' && text.as_bytes()[5] == b':'
}

fn is_month(text: &str) -> bool {
    text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_alphabetic())
}

/// Returns true for a host, a container, a request's id, or a stream such as `2026/03/01/[$LATEST]0123`; never for a
/// time.
fn is_name(text: &str) -> bool {
    text.chars()
        .all(|character| character.is_ascii_alphanumeric() || "-_./$[]".contains(character))
}

fn is_level(text: &str) -> bool {
    let word = text.trim_matches(['[', ']', ':']);
    ["TRACE", "DEBUG", "INFO", "WARN", "WARNING", "ERROR", "FATAL"]
        .iter()
        .any(|level| word.eq_ignore_ascii_case(level))
}

/// Returns true for texts such as `pixel[123]:`.
fn is_ident(text: &str) -> bool {
    text.strip_suffix(':')
        .is_some_and(|name| !name.is_empty() && is_name(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_found_behind_every_known_prefix() {
        for prefix in [
            "2026-05-28T20:26:40.123000+00:00 2026/05/28/[$LATEST]0123456789abcdef ",
            "2026-05-28T20:26:41.000Z\t8476a536-e9f4-11e8-9739-2dfe598c3fcd\tERROR\t",
            "2026-05-28T20:26:41.000Z ",
            "2026-05-28T20:26:41 web/pixel/0123 ",
            "May 28 20:26:41 host.example pixel[123]: ",
            "May  8 20:26:41 host pixel[123]: ",
            "2026-05-28T20:26:41+0200 host pixel[123]: ",
            "2026-05-28T20:26:41.123456789Z stderr F ",
            "2026-05-28 20:26:41,123 INFO ",
            "[2026-05-28 20:26:41] ",
            "2026-05-28 ",
            "pixel-1  | ",
            "pixel-1  | 2026-05-28T20:26:41.123456789Z ",
        ] {
            let line = format!("{prefix}{{\"a\":{{}}}}\n");
            assert_eq!(find_object(&line), Some(("{\"a\":{}}", false)), "{prefix:?}");
        }
        assert_eq!(find_object("  {} "), Some(("{}", true)));
    }

    #[test]
    fn an_object_behind_anything_else_is_not_believed() {
        let hit = "20:26:41  indexed    GET /pixel/";
        for prefix in [
            hit.to_owned(),
            format!("{hit}a  203.0.113.0  "),
            "20:26:41  failed (status 400: ".to_owned(),
            "20:26:41  ".to_owned(),
            format!("May 28 20:26:41 host pixel[123]: {hit}"),
            format!("2026-05-28T20:26:41Z {hit}a  203.0.113.0  "),
            format!("pixel-1  | {hit}"),
            "pixel-1  | 20:26:41  ".to_owned(),
            "203.0.113.7 - - [28/May/2026:20:26:41 +0000] \"GET / HTTP/1.1\" 200 43 \"-\" \"".to_owned(),
            "curl ".to_owned(),
            "2026-05-28T20:26:41Z a=".to_owned(),
        ] {
            let line = format!("{prefix}{{\"message\":\"journal\",\"event\":{{}}}}");
            assert_eq!(find_object(&line), None, "{prefix:?}");
        }
    }
}
