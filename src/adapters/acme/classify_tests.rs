use super::*;
use crate::adapters::acme::headers::Headers;

fn ca() -> IssuerId {
    IssuerId::parse("ca").expect("slug")
}

fn answer(status: u16, body: &str) -> Answer {
    Answer { status, headers: Headers::default(), body: Ok(body.as_bytes().to_vec()) }
}

fn problem(kind: &str, detail: &str) -> String {
    serde_json::json!({ "type": format!("urn:ietf:params:acme:error:{kind}"), "detail": detail }).to_string()
}

fn asked(endpoint: Endpoint, status: u16, body: &str) -> (IssuerErrorKind, Fault) {
    let e = refused(&ca(), endpoint, &answer(status, body), Carried::Nothing);
    (e.kind, e.fault)
}

#[test]
fn every_problem_type_has_its_kind_and_its_fault() {
    for (kind, status, expected) in [
        ("accountDoesNotExist", 400, (Account, Fault::Ours)),
        ("alreadyReplaced", 409, (Refused, Fault::Ours)),
        ("alreadyRevoked", 400, (Refused, Fault::Ours)),
        ("autoRenewalCanceled", 403, (Refused, Fault::Ours)),
        ("badCSR", 400, (Refused, Fault::Ours)),
        ("badNonce", 400, (Retry, Fault::Issuer)),
        ("badPublicKey", 400, (Refused, Fault::Ours)),
        ("badRevocationReason", 400, (Refused, Fault::Ours)),
        ("badSignatureAlgorithm", 400, (Refused, Fault::Ours)),
        ("caa", 403, (Refused, Fault::Subject)),
        ("compound", 400, (Refused, Fault::Ours)),
        ("conflict", 409, (Retry, Fault::Issuer)),
        ("connection", 400, (ValidationFailed, Fault::Subject)),
        ("dns", 400, (ValidationFailed, Fault::Subject)),
        ("externalAccountRequired", 403, (Account, Fault::Ours)),
        ("incorrectResponse", 400, (ValidationFailed, Fault::Subject)),
        ("invalidContact", 400, (Account, Fault::Ours)),
        ("invalidProfile", 400, (Refused, Fault::Ours)),
        ("malformed", 400, (Refused, Fault::Ours)),
        ("orderNotReady", 403, (Retry, Fault::Issuer)),
        ("rateLimited", 429, (RateLimited, Fault::Issuer)),
        ("rejectedIdentifier", 400, (Refused, Fault::Ours)),
        ("serverInternal", 500, (Retry, Fault::Issuer)),
        ("tls", 400, (ValidationFailed, Fault::Subject)),
        ("unauthorized", 403, (Account, Fault::Ours)),
        ("unknownDelegation", 400, (Refused, Fault::Ours)),
        ("unknownHost", 400, (ValidationFailed, Fault::Subject)),
        ("unsupportedContact", 400, (Account, Fault::Ours)),
        ("unsupportedIdentifier", 400, (Refused, Fault::Ours)),
        ("userActionRequired", 403, (Account, Fault::Ours)),
        ("madeUp", 400, (Refused, Fault::Ours)),
        ("madeUp", 503, (Retry, Fault::Issuer)),
        ("malformed", 500, (Retry, Fault::Issuer)),
        ("rateLimited", 503, (RateLimited, Fault::Issuer)),
    ] {
        assert_eq!(asked(Endpoint::NewOrder, status, &problem(kind, "")), expected, "{kind} {status}");
    }
    for row in &TABLE {
        let e = dead(&ca(), &Problem::parse(problem(row.kind, "why").as_bytes()).expect("problem"));
        assert_eq!((e.kind, e.fault), row.dead, "{}", row.kind);
        assert_ne!(e.kind, Retry, "a dead order never comes back: {}", row.kind);
    }
}

#[test]
fn a_status_without_a_problem_document_is_judged_by_itself() {
    for (status, endpoint, expected) in [
        (301, Endpoint::Directory, (Protocol, Fault::Issuer)),
        (400, Endpoint::NewOrder, (Refused, Fault::Ours)),
        (403, Endpoint::NewOrder, (Retry, Fault::Issuer)),
        (404, Endpoint::NewOrder, (Retry, Fault::Issuer)),
        (404, Endpoint::Order, (OrderDead, Fault::Issuer)),
        (404, Endpoint::RenewalInfo, (Retry, Fault::Issuer)),
        (408, Endpoint::Order, (Retry, Fault::Network)),
        (429, Endpoint::Order, (RateLimited, Fault::Issuer)),
        (500, Endpoint::Order, (Retry, Fault::Issuer)),
        (503, Endpoint::Order, (Retry, Fault::Issuer)),
        (999, Endpoint::Order, (Retry, Fault::Issuer)),
    ] {
        assert_eq!(asked(endpoint, status, "<html>"), expected, "{status}");
    }
}

#[test]
fn what_went_wrong_below_http_is_blamed_on_the_right_one() {
    let s = || "x".to_owned();
    for (failure, expected) in [
        (Failure::Connect(s()), (Retry, Fault::Network)),
        (Failure::Tls(s()), (Retry, Fault::Issuer)),
        (Failure::Timeout(Duration::from_secs(30)), (Retry, Fault::Network)),
        (Failure::Slow(Duration::from_secs(30)), (Retry, Fault::Issuer)),
        (Failure::Broken(s()), (Retry, Fault::Network)),
        (Failure::Oversize(1), (Protocol, Fault::Issuer)),
        (Failure::Busy(s(), Duration::from_secs(40)), (Retry, Fault::Ours)),
        (Failure::Local(s()), (Retry, Fault::Host)),
    ] {
        let e = failed(&ca(), Endpoint::Order, &failure);
        assert_eq!((e.kind, e.fault), expected, "{failure:?}");
    }
}

#[test]
fn a_refusal_that_concerns_replaces_is_recognised_in_every_wording_if_the_request_carried_it() {
    let wordings = [
        ("alreadyReplaced", 409, "cannot indicate an order replaces certificate with serial \"04\""),
        (
            "conflict",
            409,
            "cannot indicate an order replaces certificate with serial 04, which already has a replacement",
        ),
        ("malformed", 400, "Invalid 'replaces' field"),
        ("malformed", 400, "While parsing ARI CertID an error occurred: invalid path"),
        ("unauthorized", 403, "requester account did not request the certificate being replaced by this order"),
        ("malformed", 404, "could not find an order for the given certificate: replacement not found"),
        ("", 422, "REPLACES is not supported"),
    ];
    for (kind, status, detail) in wordings {
        let a = answer(status, &problem(kind, detail));
        assert_eq!(refused(&ca(), Endpoint::NewOrder, &a, Carried::Replaces).kind, Replaces, "{detail}");
        assert_ne!(refused(&ca(), Endpoint::NewOrder, &a, Carried::Nothing).kind, Replaces, "{detail}");
    }
    for (kind, status, detail) in [
        ("rateLimited", 429, "too many certificates; a renewal with replaces would be exempt"),
        ("serverInternal", 500, "replaces lookup failed"),
        ("rejectedIdentifier", 400, "policy forbids issuing for this name"),
        ("badNonce", 400, "replaced"),
    ] {
        let a = answer(status, &problem(kind, detail));
        assert_ne!(refused(&ca(), Endpoint::NewOrder, &a, Carried::Replaces).kind, Replaces, "{detail}");
    }
}

#[test]
fn subproblems_name_each_identifier_and_decide_for_their_sum() {
    let part = |kind: &str, name: &str, detail: &str| {
        let kind = format!("urn:ietf:params:acme:error:{kind}");
        serde_json::json!({ "type": kind, "detail": detail, "identifier": { "type": "dns", "value": name } })
    };
    let of = |kinds: [&str; 2], outer: &str| {
        let parts = [part(kinds[0], "a.example.com", "one"), part(kinds[1], "b.example.com", "two")];
        let mut whole: serde_json::Value = serde_json::from_str(&problem(outer, "Errors")).expect("json");
        whole["subproblems"] = serde_json::Value::from(parts.to_vec());
        whole.to_string()
    };
    for (kinds, outer, expected) in [
        (["rejectedIdentifier", "rejectedIdentifier"], "malformed", (Refused, Fault::Ours)),
        (["caa", "caa"], "compound", (Refused, Fault::Subject)),
        (["dns", "dns"], "compound", (ValidationFailed, Fault::Subject)),
        (["caa", "dns"], "compound", (ValidationFailed, Fault::Subject)),
        (["unauthorized", "unauthorized"], "unauthorized", (ValidationFailed, Fault::Subject)),
        (["caa", "caa"], "rateLimited", (RateLimited, Fault::Issuer)),
    ] {
        let e = refused(&ca(), Endpoint::NewOrder, &answer(400, &of(kinds, outer)), Carried::Nothing);
        assert_eq!((e.kind, e.fault), expected, "{kinds:?} in {outer}");
        let names: Vec<String> = e.subproblems.iter().map(|(n, k, t)| format!("{n} {k} {t}")).collect();
        assert_eq!(names, [format!("a.example.com {} one", kinds[0]), format!("b.example.com {} two", kinds[1])]);
    }
}

#[test]
fn the_unpause_link_and_new_terms_reach_the_owner() {
    let detail = "Your account is temporarily prevented from requesting certificates for a.example and possibly others. \
                  Please visit: https://portal.letsencrypt.org/sfe/v1/unpause?jwt=eyJ.abc-_.x. See https://le.org/docs.";
    let e = refused(&ca(), Endpoint::NewOrder, &answer(429, &problem("rateLimited", detail)), Carried::Nothing);
    assert_eq!(e.kind, RateLimited);
    assert_eq!(e.link.as_deref(), Some("https://portal.letsencrypt.org/sfe/v1/unpause?jwt=eyJ.abc-_.x"));

    let mut a = answer(403, &problem("userActionRequired", "terms changed"));
    a.headers.links.push(("terms-of-service".to_owned(), "https://ca.example/tos-v2".to_owned()));
    let e = refused(&ca(), Endpoint::NewOrder, &a, Carried::Nothing);
    assert_eq!((e.kind, e.link.as_deref()), (Account, Some("https://ca.example/tos-v2")));

    let hostile = answer(429, &problem("rateLimited", "visit javascript:alert(1)//unpause or http://x/unpause"));
    assert_eq!(refused(&ca(), Endpoint::NewOrder, &hostile, Carried::Nothing).link, None);
}

#[test]
fn a_link_with_control_or_steering_characters_is_encoded() {
    let detail = "visit https://ca.example/unpause?jwt=e\u{7f}J\u{202e}x";
    let hostile = answer(429, &problem("rateLimited", detail));
    let link = refused(&ca(), Endpoint::NewOrder, &hostile, Carried::Nothing).link;
    assert_eq!(link.as_deref(), Some("https://ca.example/unpause?jwt=e%7FJ%E2%80%AEx"));
}

#[test]
fn a_deactivated_account_is_told_from_authorizations_that_ran_out() {
    let kind = |detail| asked(Endpoint::Finalize, 403, &problem("unauthorized", detail)).0;
    assert_eq!(kind("Account is not valid, has status \"deactivated\""), Account);
    assert_eq!(kind("authorizations for these identifiers not found or expired: a.example"), OrderDead);
}

#[test]
fn an_error_is_one_bounded_line_however_long_the_ca_talks() {
    let a = answer(400, &problem("malformed", &"\u{202e}x\n".repeat(10_000)));
    let e = refused(&ca(), Endpoint::NewOrder, &a, Carried::Nothing);
    assert!(e.text.len() <= LONGEST_TEXT + 3 && !e.text.contains('\n') && !e.text.contains('\u{202e}'));
    assert_eq!((known("dns"), known("x")), ("dns", "other"));
}
