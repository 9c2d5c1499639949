//! Envoy's external authorization over gRPC: `envoy.service.auth.v3.Authorization/Check`, the fields that matter.
//!
//! Field numbers are those of envoy/service/auth/v3/{external_auth,attribute_context}.proto, envoy/config/core/v3/base.proto
//! and google/rpc/status.proto; unknown fields are skipped, as protobuf demands. Refuses to know how frames travel and
//! what is decided.

use std::collections::BTreeMap;

use prost::Message as _;

/// The method's URL.
pub const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";
/// In which of a route's `context_extensions` the approval path stands.
pub const EXTENSION: &str = "keyward-path";
/// A frame begins with a flag for compression and four bytes of length (gRPC over HTTP/2, Length-Prefixed-Message).
const PREFIX: usize = 5;
/// google.rpc.Code: OK, PERMISSION_DENIED.
const OK: i32 = 0;
const DENIED: i32 = 7;
/// envoy.type.v3.StatusCode: Forbidden.
const FORBIDDEN: i32 = 403;
/// envoy.config.core.v3.HeaderValueOption.HeaderAppendAction: OVERWRITE_IF_EXISTS_OR_ADD.
const OVERWRITE: i32 = 2;

/// What is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Check {
    /// The approval path of the route, if it names one.
    pub path: Option<String>,
    /// The request's method; empty if it is not told.
    pub method: String,
    /// The request's path with its query; empty if it is not told.
    pub target: String,
}

/// Why a question cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not one whole message.
    #[error("the body is not one gRPC message")]
    Frame,
    /// Compression was never agreed.
    #[error("the message is compressed")]
    Compressed,
    /// No protobuf.
    #[error("the message is no CheckRequest: {0}")]
    Message(String),
}

/// Reads a whole body: one frame with a `CheckRequest`.
///
/// # Errors
/// [`Malformed`].
pub fn read(body: &[u8]) -> Result<Check, Malformed> {
    let (head, message) = body.split_first_chunk::<PREFIX>().ok_or(Malformed::Frame)?;
    let [compressed, length @ ..] = *head;
    if usize::try_from(u32::from_be_bytes(length)) != Ok(message.len()) {
        return Err(Malformed::Frame);
    }
    if compressed != 0 {
        return Err(Malformed::Compressed);
    }
    let request = CheckRequest::decode(message).map_err(|e| Malformed::Message(e.to_string()))?;
    let attributes = request.attributes.unwrap_or_default();
    let http = attributes.request.and_then(|r| r.http).unwrap_or_default();
    let path = attributes.context_extensions.get(EXTENSION).cloned();
    Ok(Check { path, method: http.method, target: http.path })
}

/// The frame that lets the request through as it is.
#[must_use]
pub fn ok() -> Vec<u8> {
    frame(&CheckResponse { status: Some(Status { code: OK }), denied: None, ok: Some(OkHttpResponse {}) })
}

/// The frame that denies the request with 403.
#[must_use]
pub fn denied(fields: &[(&str, &str)], body: &str) -> Vec<u8> {
    let headers = fields.iter().map(|(name, value)| option(name, value)).collect();
    let status = Some(HttpStatus { code: FORBIDDEN });
    let denied = Some(DeniedHttpResponse { status, headers, body: body.to_owned() });
    // Without a status it would be 0, which is OK.
    frame(&CheckResponse { status: Some(Status { code: DENIED }), denied, ok: None })
}

fn option(name: &str, value: &str) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue { key: name.to_owned(), value: value.to_owned() }),
        append_action: OVERWRITE,
    }
}

fn frame(response: &CheckResponse) -> Vec<u8> {
    let message = response.encode_to_vec();
    // A response has a few hundred bytes.
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    [&[0][..], &length.to_be_bytes(), &message].concat()
}

#[derive(Clone, PartialEq, prost::Message)]
struct CheckRequest {
    #[prost(message, optional, tag = "1")]
    attributes: Option<AttributeContext>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct AttributeContext {
    #[prost(message, optional, tag = "4")]
    request: Option<AttributeRequest>,
    #[prost(btree_map = "string, string", tag = "10")]
    context_extensions: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct AttributeRequest {
    #[prost(message, optional, tag = "2")]
    http: Option<HttpRequest>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HttpRequest {
    #[prost(string, tag = "2")]
    method: String,
    #[prost(string, tag = "4")]
    path: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct CheckResponse {
    #[prost(message, optional, tag = "1")]
    status: Option<Status>,
    #[prost(message, optional, tag = "2")]
    denied: Option<DeniedHttpResponse>,
    #[prost(message, optional, tag = "3")]
    ok: Option<OkHttpResponse>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
struct OkHttpResponse {}

#[derive(Clone, PartialEq, prost::Message)]
struct DeniedHttpResponse {
    #[prost(message, optional, tag = "1")]
    status: Option<HttpStatus>,
    #[prost(message, repeated, tag = "2")]
    headers: Vec<HeaderValueOption>,
    #[prost(string, tag = "3")]
    body: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
struct HttpStatus {
    #[prost(int32, tag = "1")]
    code: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HeaderValueOption {
    #[prost(message, optional, tag = "1")]
    header: Option<HeaderValue>,
    #[prost(int32, tag = "3")]
    append_action: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HeaderValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A field with a length, as protobuf writes it; all lengths here fit in two bytes of seven bits.
    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let length = u8::try_from(bytes.len() & 0x7f).unwrap();
        let high = u8::try_from(bytes.len() >> 7).unwrap();
        [&[number << 3 | 2, length | 0x80, high], bytes].concat()
    }

    fn framed(message: &[u8]) -> Vec<u8> {
        [&[0][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
    }

    /// As Envoy sends it: with a source, a time, headers, and fields that are not ours.
    fn question() -> Vec<u8> {
        let entry = |key: &str, value: &str| [field(1, key.as_bytes()), field(2, value.as_bytes())].concat();
        let http = [
            field(1, b"4711"),
            field(2, b"POST"),
            field(3, &entry(":path", "/other")),
            field(4, b"/reject?x=1"),
            field(5, b"portal.example"),
        ];
        let request = [field(1, &[8, 1]), field(2, &http.concat())].concat();
        let attributes = [
            field(1, &field(1, b"a peer")),
            field(4, &request),
            field(10, &entry("other", "x")),
            field(10, &entry(EXTENSION, "approve")),
            field(12, b""),
        ];
        framed(&field(1, &attributes.concat()))
    }

    #[test]
    fn a_question_is_read_and_what_is_not_ours_is_skipped() {
        let expected = Check { path: Some("approve".into()), method: "POST".into(), target: "/reject?x=1".into() };
        assert_eq!(read(&question()), Ok(expected));
        assert_eq!(read(&framed(b"")), Ok(Check::default()), "an empty message names no path");
    }

    #[test]
    fn what_is_cut_compressed_or_no_protobuf_is_malformed() {
        let whole = question();
        for length in 0..whole.len() {
            assert_eq!(read(&whole[..length]), Err(Malformed::Frame), "{length}");
        }
        assert_eq!(read(&[&whole[..], &whole[..]].concat()), Err(Malformed::Frame), "two messages");
        assert_eq!(read(&[&[1], &whole[1..]].concat()), Err(Malformed::Compressed));
        for bad in [&[0x0a, 5][..], &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], b"GET /"] {
            assert!(matches!(read(&framed(bad)), Err(Malformed::Message(_))), "{bad:?}");
        }
        let not_utf8 = field(1, &field(4, &field(2, &field(4, &[0xff, 0xfe]))));
        assert!(matches!(read(&framed(&not_utf8)), Err(Malformed::Message(_))));
    }

    #[test]
    fn answers_are_the_bytes_that_envoy_expects() {
        // status { code: 7 }, denied_response { status { code: 403 } headers { header { key, value } append_action: 2 } body }
        let header = [field(1, b"keyward-reasons"), field(2, b"KW4002")].concat();
        let short = |number: u8, bytes: &[u8]| [&[number << 3 | 2, u8::try_from(bytes.len()).unwrap()], bytes].concat();
        let pair = [short(1, b"keyward-reasons"), short(2, b"KW4002")].concat();
        assert_ne!(header, pair, "lengths may be written longer than they need to be; ours are not");
        let option = [short(1, &pair), vec![0x18, 2]].concat();
        let denial = [short(1, &[8, 0x93, 3]), short(2, &option), short(3, b"no")].concat();
        let expected = framed(&[short(1, &[8, 7]), short(2, &denial)].concat());
        assert_eq!(denied(&[("keyward-reasons", "KW4002")], "no"), expected);
        // An OK status is written as an empty message: proto3 leaves out what is 0.
        assert_eq!(ok(), framed(&[short(1, &[]), short(3, &[])].concat()));
    }
}
