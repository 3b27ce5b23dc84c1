//! Which headers belong to one hop only, and are not passed on.

use hyper::HeaderMap;
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING,
    UPGRADE,
};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Names of people and teams that are meant for this gateway, and nobody's business behind it.
const OURS: &str = "x-paramedic-";

fn is_hops_own(name: &HeaderName) -> bool {
    name.as_str().starts_with(OURS)
        || *name == CONNECTION
        || *name == TRANSFER_ENCODING
        || *name == UPGRADE
        || *name == KEEP_ALIVE
        || *name == TE
        || *name == PROXY_CONNECTION
        || *name == PROXY_AUTHENTICATE
        || *name == PROXY_AUTHORIZATION
}

/// `connection: keep-alive` says to the next hop what is true of it too. It is left where it stands, since a map of
/// headers cannot lose one without changing the order of the others.
fn is_plain_keep_alive(value: &HeaderValue) -> bool {
    value.as_bytes().eq_ignore_ascii_case(b"keep-alive")
}

/// Whether `name` is among the headers that a `connection` header names as this hop's own. A message's length and its
/// host cannot be taken away so.
fn is_named(headers: &HeaderMap, name: &HeaderName) -> bool {
    let same = |token: &[u8]| token.trim_ascii().eq_ignore_ascii_case(name.as_str().as_bytes());
    *name != CONTENT_LENGTH
        && *name != HOST
        && headers.get_all(CONNECTION).iter().any(|value| value.as_bytes().split(|byte| *byte == b',').any(same))
}

fn kept(headers: &HeaderMap, drops: impl Fn(&HeaderName, &HeaderValue) -> bool) -> HeaderMap {
    let mut kept = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        if !drops(name, value) {
            kept.append(name.clone(), value.clone());
        }
    }
    kept
}

/// Takes out of a request's headers what is for this hop only, and names the upstream as host. The others stay as they
/// stand, in their order.
pub(super) fn for_upstream(headers: &mut HeaderMap, host: &HeaderValue) {
    let plain = headers.keys().all(|name| (!is_hops_own(name) || *name == CONNECTION) && *name != EXPECT)
        && headers.get_all(CONNECTION).iter().all(is_plain_keep_alive);
    if !plain {
        let before = std::mem::take(headers);
        *headers = kept(&before, |name, value| {
            // Trailers are passed on, so that they are wanted is too. The body's sender was told to go on by us.
            (is_hops_own(name) && !(*name == TE && wants_trailers(value)))
                || (*name == EXPECT && value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
                || (*name != TE && is_named(&before, name))
        });
        if headers.contains_key(TE) {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
    }
    headers.insert(HOST, host.clone());
}

fn wants_trailers(value: &HeaderValue) -> bool {
    value.as_bytes().split(|byte| *byte == b',').any(|token| token.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

/// Takes out of an answer's headers what is for this hop only. `transfer-encoding` stays: the connection to the client
/// encodes anew and minds what it says; but then there is no length beside it.
pub(super) fn for_client(headers: &mut HeaderMap) {
    let encoded = headers.contains_key(TRANSFER_ENCODING);
    let plain =
        headers.keys().all(|name| !is_hops_own(name) || *name == TRANSFER_ENCODING) && !(encoded && headers.contains_key(CONTENT_LENGTH));
    if !plain {
        let before = std::mem::take(headers);
        *headers = kept(&before, |name, _| {
            (is_hops_own(name) && *name != TRANSFER_ENCODING)
                || (encoded && *name == CONTENT_LENGTH)
                || (*name != TRANSFER_ENCODING && is_named(&before, name))
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        map
    }

    fn lines(map: &HeaderMap) -> Vec<(&str, &str)> {
        map.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect()
    }

    #[test]
    fn what_is_for_one_hop_is_not_passed_on_and_the_order_stays() {
        let host = HeaderValue::from_static("api.example");
        let mut plain = map(&[("host", "here"), ("b", "1"), ("connection", "Keep-Alive"), ("a", "2"), ("b", "3")]);
        for_upstream(&mut plain, &host);
        assert_eq!(lines(&plain), [("host", "api.example"), ("b", "1"), ("b", "3"), ("connection", "Keep-Alive"), ("a", "2")]);

        let mut own = map(&[
            ("a", "1"),
            ("connection", "close, x-mine, content-length"),
            ("x-mine", "2"),
            ("te", "gzip, trailers"),
            ("host", "here"),
            ("proxy-authorization", "secret"),
            ("expect", "100-continue"),
            ("content-length", "3"),
            ("upgrade", "websocket"),
            ("trailer", "x-sum"),
            ("z", "4"),
        ]);
        for_upstream(&mut own, &host);
        let expect = [("a", "1"), ("te", "trailers"), ("host", "api.example"), ("content-length", "3"), ("trailer", "x-sum"), ("z", "4")];
        assert_eq!(lines(&own), expect);
    }

    #[test]
    fn an_answer_with_an_encoding_has_no_length() {
        let mut both = map(&[("a", "1"), ("content-length", "5"), ("transfer-encoding", "chunked"), ("connection", "close"), ("b", "2")]);
        for_client(&mut both);
        assert_eq!(lines(&both), [("a", "1"), ("transfer-encoding", "chunked"), ("b", "2")]);
        let mut plain = map(&[("b", "1"), ("transfer-encoding", "chunked"), ("a", "2")]);
        for_client(&mut plain);
        assert_eq!(lines(&plain), [("b", "1"), ("transfer-encoding", "chunked"), ("a", "2")]);
    }
}
