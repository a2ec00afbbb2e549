//! The command line as it may be shown: without credentials. Pure.

/// In place of what is not shown.
const MASK: &str = "***";

/// The arguments, separated by NUL, as Go's `net/http/pprof` gives them.
pub(super) fn shown(arguments: impl Iterator<Item = String>) -> String {
    arguments.map(|argument| masked(&argument)).collect::<Vec<_>>().join("\0")
}

/// The argument with `user:password@` of every URL in it masked, and every `password=...`.
fn masked(argument: &str) -> String {
    let mut parts = argument.split("://");
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        shown.push_str("://");
        // The last `@`: a password may contain one that nobody escaped.
        match part.rsplit_once('@') {
            Some((_, rest)) => {
                shown.push_str(MASK);
                shown.push('@');
                shown.push_str(rest);
            }
            None => shown.push_str(part),
        }
    }
    without_passwords(&shown)
}

/// Masks the values of `password=` (a connection string's parameter, or a flag), up to the next `&` or blank.
fn without_passwords(argument: &str) -> String {
    const KEY: &str = "password=";
    let (mut shown, mut rest) = (String::new(), argument);
    while let Some(place) = rest.to_ascii_lowercase().find(KEY) {
        let (before, value) = rest.split_at(place + KEY.len());
        shown.push_str(before);
        shown.push_str(MASK);
        let end = value.find(|letter: char| letter == '&' || letter.is_whitespace()).unwrap_or(value.len());
        rest = value.get(end..).unwrap_or_default();
    }
    shown + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_separated_by_nul() {
        let arguments = ["feed", "-addr", ":8082"].map(String::from);
        assert_eq!(shown(arguments.into_iter()), "feed\0-addr\0:8082");
    }

    #[test]
    fn credentials_are_never_shown() {
        for (argument, want) in [
            ("-addr=:8082", "-addr=:8082"),
            ("-etcd.addr=http://127.0.0.1:2379", "-etcd.addr=http://127.0.0.1:2379"),
            ("-store.url=postgres://me:secret@db:5432/feed", "-store.url=postgres://***@db:5432/feed"),
            ("postgres://secret@db/feed", "postgres://***@db/feed"),
            ("postgres://me:se@c/r:et@db/feed", "postgres://***@db/feed"),
            ("http://a:secret@h1:1,http://b:secret@h2:2", "http://***@h1:1,http://***@h2:2"),
            ("postgres://db/feed?user=me&password=secret&x=1", "postgres://db/feed?user=me&password=***&x=1"),
            ("host=db Password=secret dbname=feed", "host=db Password=*** dbname=feed"),
            ("-etcd.password=sécret", "-etcd.password=***"),
            ("İ-password=secret", "İ-password=***"),
        ] {
            let shown = masked(argument);
            assert_eq!(shown, want);
            assert!(!shown.contains("cret"), "{shown}");
        }
    }
}
