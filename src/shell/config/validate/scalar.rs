//! Texts that stand for one thing: durations, shares, modes, paths, addresses, URLs, times of day and zones.
//!
//! Each parser returns what follows the key in the message, and how to mend it.

use core::net::{IpAddr, SocketAddr};
use core::ops::RangeInclusive;
use core::time::Duration;

use jiff::tz::TimeZone;
use url::Url;

use crate::domain::inventory::StartTls;
use crate::domain::time::human_span;
use crate::shell::config::diagnostic::{nearest, quoted};
use crate::shell::config::raw::Wrong;

/// A path is at most this long in bytes: PATH_MAX of Linux with its final zero.
const LONGEST_PATH: usize = 4_095;
/// A Unix socket's path is at most this long in bytes (`sun_path`, unix(7)).
const LONGEST_SOCKET_PATH: usize = 107;

/// Units of a duration, longest first, as they must follow each other.
const UNITS: [(char, u64); 5] = [('w', 604_800), ('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

/// `90d`, `2h30m`, `45s`: whole numbers with units w, d, h, m, s, longest first, inside `range`.
pub(super) fn duration(text: &str, range: RangeInclusive<Duration>) -> Result<Duration, Wrong> {
    let mend = "write whole numbers with units w, d, h, m or s, longest first: \"90d\", \"2h30m\", \"45s\"";
    let malformed = |why: &str| Wrong::new("KW0014", format!("is no duration: {} {why}", quoted(text)), mend);
    let (mut total, mut digits, mut units) = (0_u64, String::new(), UNITS.iter());
    for c in text.chars() {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        let Some((_, seconds)) = units.by_ref().find(|(unit, _)| *unit == c) else {
            return Err(malformed(if UNITS.iter().any(|(u, _)| *u == c) {
                "has units twice or in the wrong order"
            } else {
                "has a unit that is not known"
            }));
        };
        let number: u64 = digits.parse().map_err(|_| malformed("has a unit without a number"))?;
        total = total.saturating_add(number.saturating_mul(*seconds));
        digits.clear();
    }
    if !digits.is_empty() || text.is_empty() {
        return Err(malformed(if text.is_empty() { "is empty" } else { "has a number without a unit" }));
    }
    let span = Duration::from_secs(total);
    if range.contains(&span) {
        return Ok(span);
    }
    let (low, high) = (human_span(*range.start()), human_span(*range.end()));
    Err(Wrong::new("KW0014", format!("is out of bounds: {}", quoted(text)), format!("choose from {low} to {high}")))
}

/// `66%` or `66.7%` in thousandths, inside `range`.
pub(super) fn permille(text: &str, range: RangeInclusive<u16>) -> Result<u16, Wrong> {
    let (low, high) = (range.start() / 10, range.end() / 10);
    let wrong = || {
        let mend = format!("write a share of the lifetime from {low}% to {high}%, with at most one decimal: \"66.7%\"");
        Wrong::new("KW0015", format!("is no share of the lifetime: {}", quoted(text)), mend)
    };
    let number = text.strip_suffix('%').ok_or_else(wrong)?;
    let (whole, tenth) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(tenth) || tenth.len() > 1 {
        return Err(wrong());
    }
    let parse = |t: &str| t.parse::<u16>().map_err(|_| wrong());
    let share = parse(whole)?.saturating_mul(10).saturating_add(parse(tenth)?);
    if range.contains(&share) { Ok(share) } else { Err(wrong()) }
}

/// An octal mode as a string: `"0640"`. `allowed` are the bits that may be set, `needed` those that must.
pub(super) fn mode(text: &str, allowed: u32, needed: u32, why: &str) -> Result<u32, Wrong> {
    let octal = matches!(text.len(), 3 | 4) && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    let Some(mode) = u32::from_str_radix(text, 8).ok().filter(|_| octal) else {
        let mend = "write three or four octal digits in quotes: \"0640\"";
        return Err(Wrong::new("KW0018", format!("is no file mode: {}", quoted(text)), mend));
    };
    if mode & !allowed == 0 && mode & needed == needed {
        return Ok(mode);
    }
    let mend = format!("{why}; for example \"0{:o}\"", (mode & allowed) | needed);
    Err(Wrong::new("KW0018", format!("cannot be {mode:04o}"), mend))
}

/// An absolute, plain path.
pub(super) fn path(text: &str) -> Result<String, Wrong> {
    let Some(rest) = text.strip_prefix('/') else {
        let mend = format!("write the whole path from the root: \"/…/{}\"", text.trim_start_matches("./"));
        return Err(Wrong::new("KW0017", format!("is no absolute path: {}", quoted(text)), mend));
    };
    if text.len() > LONGEST_PATH {
        return Err(Wrong::new("KW0017", "is longer than 4095 bytes", "choose a shorter path"));
    }
    if rest.split('/').any(|part| matches!(part, "" | "." | "..")) {
        let mend = "write it without '.', '..', '//' and without '/' at the end, so that it has one spelling only";
        return Err(Wrong::new("KW0017", format!("is no plain path: {}", quoted(text)), mend));
    }
    Ok(text.to_owned())
}

/// A path that a Unix socket can have.
pub(super) fn socket_path(text: &str) -> Result<String, Wrong> {
    let path = path(text)?;
    if path.len() > LONGEST_SOCKET_PATH {
        let what = format!("has {} bytes; a Unix socket's path has at most {LONGEST_SOCKET_PATH}", path.len());
        return Err(Wrong::new("KW0017", what, "choose a shorter path, for example below /run"));
    }
    Ok(path)
}

/// An IP address with a port, other than 0.
pub(super) fn address(text: &str) -> Result<SocketAddr, Wrong> {
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 => Ok(address),
        _ => {
            let mend = "write an IP address and a port: \"127.0.0.1:9180\", \"[::1]:9180\", \"0.0.0.0:80\"";
            Err(Wrong::new("KW0020", format!("is no IP address with a port: {}", quoted(text)), mend))
        }
    }
}

/// A DNS server: an IP address, port 53 if there is none.
pub(super) fn dns_server(text: &str) -> Result<SocketAddr, Wrong> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, 53));
    }
    address(text).map_err(|_| {
        let what = format!("is no DNS server's address: {}", quoted(text));
        Wrong::new(
            "KW0020",
            what,
            "write an IP address, with a port if it is not 53: \"192.0.2.53\", \"[2001:db8::53]:5353\"",
        )
    })
}

/// Host and port of a TLS endpoint: `portal.example.com:443`, `127.0.0.1:443`, `[::1]:8443`.
pub(super) fn host_port(text: &str) -> Result<(String, u16), Wrong> {
    let wrong = || {
        let mend = "write host and port: \"127.0.0.1:443\", \"[::1]:8443\", \"portal.example.com:443\"";
        Wrong::new("KW0020", format!("is no host with a port: {}", quoted(text)), mend)
    };
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse::<u16>().ok().filter(|p| *p != 0).ok_or_else(wrong)?;
    if let Some(inner) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        return inner.parse::<core::net::Ipv6Addr>().map(|ip| (ip.to_string(), port)).map_err(|_| wrong());
    }
    if host.contains(':') { Err(wrong()) } else { host_name(host).map(|h| (h, port)).ok_or_else(wrong) }
}

/// A host as resolvers take it: names of one label count too (containers call each other so).
pub(super) fn host_name(text: &str) -> Option<String> {
    let label = |l: &str| {
        !l.is_empty()
            && l.len() <= 63
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    let text = text.strip_suffix('.').unwrap_or(text);
    (text.len() <= 253 && text.split('.').all(label)).then(|| text.to_ascii_lowercase())
}

/// An absolute URL with a host, without credentials and without a fragment.
pub(super) fn url(text: &str, schemes: &[&str]) -> Result<Url, Wrong> {
    let example = schemes.first().copied().unwrap_or("https");
    let wrong =
        |why: String, mend: String| Wrong::new("KW0021", format!("is no usable URL: {} {why}", quoted(text)), mend);
    let url = Url::parse(text)
        .map_err(|e| wrong(format!("({e})"), format!("write a whole URL: \"{example}://host.example/path\"")))?;
    if text.len() > 2_048 || url.host_str().is_none_or(str::is_empty) {
        return Err(wrong("has no host or is too long".into(), format!("write \"{example}://host.example/path\"")));
    }
    if !schemes.contains(&url.scheme()) {
        let why = format!("begins with {}", quoted(url.scheme()));
        return Err(wrong(why, format!("it must begin with {}://", schemes.join(":// or "))));
    }
    if !url.username().is_empty() || url.password().is_some() {
        let mend = "take user and password out: secrets never stand in the configuration";
        return Err(wrong("holds a user or password".into(), mend.into()));
    }
    if url.fragment().is_some() {
        return Err(wrong("has a fragment".into(), "remove the '#' and what follows".into()));
    }
    Ok(url)
}

/// `mailto:` with one address and nothing else (RFC 8555 section 7.3).
pub(super) fn contact(text: &str) -> Result<String, Wrong> {
    let wrong = |mend: String| Wrong::new("KW0022", format!("is no mailto: address: {}", quoted(text)), mend);
    let Some(address) = text.strip_prefix("mailto:") else {
        let mend = match text.split_once('@') {
            Some(_) if !text.contains(':') => format!("write \"mailto:{text}\""),
            _ => "write \"mailto:ops@example.com\"; CAs take nothing else".to_owned(),
        };
        return Err(wrong(mend));
    };
    let part = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_graphic() && !b",?;<>()".contains(&b));
    match address.split_once('@') {
        Some((user, host)) if part(user) && host_name(host).is_some_and(|h| h.contains('.')) => Ok(text.to_owned()),
        _ => Err(wrong("write exactly one address, without headers: \"mailto:ops@example.com\"".into())),
    }
}

/// `HH:MM`, minutes since midnight; `24:00` is the end of the day.
pub(super) fn minute_of_day(text: &str) -> Result<u16, Wrong> {
    let wrong = || {
        Wrong::new(
            "KW0019",
            format!("is no time of day: {}", quoted(text)),
            "write \"HH:MM\", from \"00:00\" to \"24:00\"",
        )
    };
    let (hour, minute) = text.split_once(':').filter(|(h, m)| h.len() == 2 && m.len() == 2).ok_or_else(wrong)?;
    let number = |t: &str| t.bytes().all(|b| b.is_ascii_digit()).then(|| t.parse::<u16>().ok()).flatten();
    match (number(hour), number(minute)) {
        (Some(24), Some(0)) => Ok(1_440),
        (Some(h), Some(m)) if h < 24 && m < 60 => Ok(h.saturating_mul(60).saturating_add(m)),
        _ => Err(wrong()),
    }
}

/// A time zone by its IANA name.
pub(super) fn zone(text: &str) -> Result<TimeZone, Wrong> {
    let wrong = |mend: String| Wrong::new("KW0019", format!("is no time zone: {}", quoted(text)), mend);
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'_' | b'-' | b'+');
    let looks_right = !text.is_empty() && text.len() <= 64 && text.bytes().all(plain) && !text.starts_with('/');
    if let Some(zone) = looks_right.then(|| TimeZone::get(text).ok()).flatten() {
        return Ok(zone);
    }
    let names: Vec<String> = jiff::tz::db().available().map(|n| n.to_string()).collect();
    let mend = match nearest(text, names.iter().map(String::as_str)) {
        Some(meant) => format!("did you mean \"{meant}\"?"),
        None => "write an IANA name: \"UTC\", \"Europe/Berlin\", \"America/New_York\"".to_owned(),
    };
    Err(wrong(mend))
}

/// A user's or group's name or number.
pub(super) fn account(text: &str) -> Result<String, Wrong> {
    let number = text.parse::<u32>().is_ok();
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    let name = first && text.len() <= 32 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.$".contains(&b));
    if number || name {
        return Ok(text.to_owned());
    }
    let what = format!("is no user or group: {}", quoted(text));
    Err(Wrong::new("KW0024", what, "write a name or a number: \"www-data\", \"33\""))
}

/// A short text for people or policy: not empty, at most 128 characters.
pub(super) fn short_text(text: &str) -> Result<String, Wrong> {
    if (1..=128).contains(&text.chars().count()) {
        return Ok(text.to_owned());
    }
    Err(Wrong::new("KW0023", "is empty or longer than 128 characters", "choose 1 to 128 characters"))
}

/// What is spoken before TLS.
pub(super) const STARTTLS: [(StartTls, &str); 4] =
    [(StartTls::None, "none"), (StartTls::Smtp, "smtp"), (StartTls::Imap, "imap"), (StartTls::Postgres, "postgres")];

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: RangeInclusive<Duration> = Duration::ZERO..=Duration::MAX;

    #[test]
    fn durations_need_units_in_falling_order() {
        for (text, seconds) in [("90d", 7_776_000), ("2h30m", 9_000), ("45s", 45), ("1w1d", 691_200), ("0s", 0)] {
            assert_eq!(duration(text, ANY), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for bad in ["", "90", "d", "30m2h", "1h1h", "1 h", "1.5h", "-1h", "1y", "h1", "１h"] {
            assert!(duration(bad, ANY).is_err(), "{bad:?}");
        }
        assert_eq!(duration("99999999999999999999w", ANY).map_err(|w| w.code), Err("KW0014"));
        assert!(duration("18446744073709551615w", Duration::ZERO..=Duration::from_secs(9)).is_err());
    }

    #[test]
    fn shares_are_percentages_with_at_most_one_decimal() {
        assert_eq!(permille("66.7%", 100..=950), Ok(667));
        assert_eq!(permille("5%", 10..=500), Ok(50));
        for bad in ["66", "%", "66.77%", "-5%", "101%", "0%", ".5%", "5.%", "99999999%"] {
            assert!(permille(bad, 10..=950).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_path_has_one_spelling() {
        assert!(path("/etc/keyward/live").is_ok());
        for bad in ["", "etc", "./etc", "/", "/etc/", "/etc//x", "/etc/../x", "/./x", "~/x"] {
            assert!(path(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn modes_are_octal_strings_inside_their_mask() {
        assert_eq!(mode("0640", 0o640, 0o400, "x"), Ok(0o640));
        assert_eq!(mode("640", 0o640, 0o400, "x"), Ok(0o640));
        for bad in ["0644", "0040", "0750", "4640", "rw-r-----", "0o640", "+640", "", "00640", "648"] {
            assert!(mode(bad, 0o640, 0o400, "x").is_err(), "{bad:?}");
        }
    }

    #[test]
    fn hosts_and_ports_are_read_with_and_without_brackets() {
        assert_eq!(host_port("[::1]:443"), Ok(("::1".into(), 443)));
        assert_eq!(host_port("nginx:8443"), Ok(("nginx".into(), 8443)));
        for bad in ["", "x", ":443", "x:0", "x:99999", "::1:443", "[x]:443", "a b:443", "[::1]", "a:b:1"] {
            assert!(host_port(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn contacts_are_one_address_each() {
        assert!(contact("mailto:ops@example.com").is_ok());
        for bad in ["ops@example.com", "mailto:", "mailto:a@b", "mailto:a@b.c,d@e.f", "mailto:a@b.c?cc=x@y.z", "tel:1"]
        {
            assert!(contact(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn times_and_zones_are_exact() {
        assert_eq!((minute_of_day("02:30"), minute_of_day("24:00")), (Ok(150), Ok(1_440)));
        for bad in ["2:30", "24:01", "12:60", "", "12", "ab:cd", "+1:00"] {
            assert!(minute_of_day(bad).is_err(), "{bad:?}");
        }
        assert!(zone("Europe/Berlin").is_ok() && zone("UTC").is_ok());
        assert!(zone("Europe/Brelin").is_err_and(|w| w.mend.contains("Europe/Berlin")));
        for bad in ["", "/etc/passwd", "../../etc/passwd", "EST5EDT,M3.2.0,M11.1.0"] {
            assert!(zone(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn urls_hold_no_secrets() {
        assert!(url("https://ca.example/dir", &["https"]).is_ok());
        for bad in
            ["", "ca.example", "http://ca.example", "https://u:p@ca.example/", "https://ca.example/#x", "https://"]
        {
            assert!(url(bad, &["https"]).is_err(), "{bad:?}");
        }
    }
}
