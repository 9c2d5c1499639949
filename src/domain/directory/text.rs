//! Authorizations as one text.

use std::sync::Arc;

use super::{Authorization, AuthorizationStatus, Challenge, ChallengeKind, ChallengeStatus};
use crate::domain::name::Name;
use crate::domain::time::Timestamp;

fn word<T: PartialEq>(all: &[(T, &'static str)], value: &T) -> &'static str {
    all.iter().find(|(known, _)| known == value).map_or("", |(_, name)| name)
}

fn of_word<T: Copy>(all: &[(T, &'static str)], name: &str) -> Option<T> {
    all.iter().find(|(_, known)| *known == name).map(|(value, _)| *value)
}

pub(super) fn write(all: &[Authorization]) -> String {
    let mut out = String::new();
    for authorization in all {
        let Authorization { name, status, expires, challenges } = authorization;
        if !out.is_empty() {
            out.push_str("; ");
        }
        out.push_str(&format!("{name} {} {}", word(&AuthorizationStatus::ALL, status), expires.unix()));
        for Challenge { kind, token, status, validated } in challenges {
            out.push_str(&format!(" {}:{token}:{}:", kind.as_str(), word(&ChallengeStatus::ALL, status)));
            if let Some(at) = validated {
                out.push_str(&at.unix().to_string());
            }
        }
    }
    out
}

pub(super) fn read(text: &str) -> Option<Vec<Authorization>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    text.split("; ").map(authorization).collect()
}

fn authorization(text: &str) -> Option<Authorization> {
    let mut parts = text.split(' ');
    let name = Name::parse(parts.next()?).ok()?;
    let status = of_word(&AuthorizationStatus::ALL, parts.next()?)?;
    let expires = time(parts.next()?)?;
    let challenges = parts.map(challenge).collect::<Option<_>>()?;
    Some(Authorization { name, status, expires, challenges })
}

fn challenge(text: &str) -> Option<Challenge> {
    let parts: Vec<&str> = text.split(':').collect();
    let [kind, token, status, validated] = *parts.as_slice() else { return None };
    let good = !token.is_empty() && token.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    Some(Challenge {
        kind: of_word(&ChallengeKind::ALL, kind)?,
        token: Some(Arc::from(token)).filter(|_| good)?,
        status: of_word(&ChallengeStatus::ALL, status)?,
        validated: if validated.is_empty() { None } else { Some(time(validated)?) },
    })
}

fn time(text: &str) -> Option<Timestamp> {
    text.parse().ok().map(Timestamp::from_unix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorizations_survive_their_text_and_bad_text_is_refused() {
        let challenge = |kind, status, validated| Challenge { kind, token: Arc::from("a-_9"), status, validated };
        let all = vec![
            Authorization {
                name: Name::parse("*.a.example").unwrap(),
                status: AuthorizationStatus::Valid,
                expires: Timestamp::from_unix(7),
                challenges: vec![
                    challenge(ChallengeKind::Dns01, ChallengeStatus::Valid, Some(Timestamp::from_unix(-1))),
                    challenge(ChallengeKind::Http01, ChallengeStatus::Pending, None),
                ],
            },
            Authorization {
                name: Name::parse("2001:db8::1").unwrap(),
                status: AuthorizationStatus::Deactivated,
                expires: Timestamp::from_unix(8),
                challenges: Vec::new(),
            },
        ];
        assert_eq!(read(&write(&all)), Some(all));
        assert_eq!(read(""), Some(Vec::new()));
        for bad in
            ["a.example", "a.example valid", "a.example good 1", "a.example valid 1 http-01:t:valid", "a valid 1 x"]
        {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }
}
