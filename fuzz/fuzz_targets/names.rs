//! Names and sets of names from any text: what parses holds its promises.
#![no_main]

use keyward::domain::name::{Name, NameSet};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let names: Vec<Name> = text.lines().filter_map(|line| Name::parse(line).ok()).collect();
    for name in &names {
        let again = Name::parse(&name.to_string());
        assert_eq!(again.as_ref(), Ok(name), "a name survives its text");
        let authorized = name.authorized();
        assert!(!authorized.is_wildcard() && Name::parse(&authorized.to_string()).is_ok(), "the base of {name}");
        assert!(name.covers(name) || name.is_wildcard(), "{name} covers itself");
        assert!(!(name.is_wildcard() && name.covers(&authorized)), "{name} does not cover its own base");
        let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '*' | ':');
        let text = name.to_string();
        assert!(text.len() <= 253 && text.chars().all(safe) && text == text.to_ascii_lowercase(), "{text:?}");
    }
    let set = NameSet::new(names.iter().cloned());
    assert!(set.len() <= names.len() && names.iter().all(|n| set.iter().any(|m| m == n)));
    assert_eq!(NameSet::parse_key(&set.key()).as_ref(), Ok(&set), "a set survives its key");
    assert!(set.covers_all(&set) && (set.is_empty() || set.shares_one_with(&set)));
    // Any other text as a key: refused or stable.
    if let Ok(parsed) = NameSet::parse_key(text) {
        assert_eq!(NameSet::parse_key(&parsed.key()), Ok(parsed));
    }
});
