//! A CA's JSON: whatever it says, what reaches the engine and people is bounded and safe to keep and to show.
#![no_main]

use keyward::adapters::acme::fuzzing::read;
use keyward::domain::id::IssuerId;
use keyward::domain::name::Name;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let issuer = IssuerId::parse("ca").expect("a slug");
    let found = read(&issuer, body);
    for error in &found.errors {
        let texts = error.subproblems.iter().map(|(_, _, text)| text).chain([&error.text]);
        for text in texts.chain(&error.problem).chain(&error.link) {
            assert!(text.len() <= 2_048 + '…'.len_utf8(), "{} bytes", text.len());
            assert!(!text.chars().any(char::is_control), "{text:?}");
        }
        assert!(error.subproblems.len() <= 100 && !error.text.is_empty());
    }
    for name in &found.names {
        assert_eq!(Name::parse(&name.to_string()).as_ref(), Ok(name));
    }
    for token in &found.tokens {
        assert!(!token.is_empty() && token.len() <= 128 && !token.contains(['.', '/', '$', '\0']), "{token:?}");
    }
    if let Some(window) = found.window {
        assert!(window.explanation.is_none_or(|url| url.starts_with("https://") && !url.chars().any(char::is_control)));
    }
});
