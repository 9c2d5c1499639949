//! Signing requests of anybody: what is taken has a good key and names that read the same again, however it was wrapped.
#![no_main]

use keyward::codec::ca;
use keyward::domain::name::{Name, NameSet};
use keyward::domain::spiffe::SpiffeId;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // Keys are judged before signatures, so they are reached alone too: nothing signs a changed request.
    let kind = ca::algorithm(bytes);
    if let Ok(strong) = ca::strength(bytes) {
        assert_eq!(kind, Ok(strong));
    }
    let Ok(request) = ca::request(bytes) else { return };
    assert_eq!(ca::strength(&request.spki), Ok(request.algorithm));
    assert!(request.names.len() <= 1_000);
    assert_eq!(NameSet::parse_key(request.names.key()).as_ref(), Ok(&request.names));
    for name in request.names.iter().chain(&request.common_name) {
        assert_eq!(Name::parse(&name.to_string()).as_ref(), Ok(name));
    }
    if let Some(id) = &request.spiffe {
        assert_eq!(SpiffeId::parse(id.as_str()).as_ref(), Some(id));
    }
});
