//! The one upgrade that passes through: WebSocket (RFC 6455 4), named as RFC 9110 7.8 asks.
//!
//! Reads and writes the two fields that ask for it and agree to it; both sides of the proxy use the
//! same words, so that neither takes for a WebSocket what the other does not.

use http::{HeaderMap, HeaderValue, header};

/// Whether these fields ask for WebSocket, or agree to it: `Upgrade` is that one token and
/// `Connection` names it. A list of protocols is not it: which of them was meant is open.
pub fn is_named(fields: &HeaderMap) -> bool {
    let mut protocols = fields.get_all(header::UPGRADE).iter();
    let token = |value: &HeaderValue| {
        let token = value.as_bytes().trim_ascii();
        token.eq_ignore_ascii_case(b"websocket")
    };
    protocols.next().is_some_and(token) && protocols.next().is_none() && names_upgrade(fields)
}

fn names_upgrade(fields: &HeaderMap) -> bool {
    let lines = fields.get_all(header::CONNECTION).iter();
    lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .any(|token| token.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
}

/// Asks for it, or agrees to it, on the next connection.
pub fn name(fields: &mut HeaderMap) {
    fields.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    fields.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for (name, value) in lines {
            fields.append(*name, HeaderValue::from_static(value));
        }
        fields
    }

    #[test]
    fn one_token_that_connection_names_is_a_websocket() {
        for good in [
            &[("connection", "Upgrade"), ("upgrade", "websocket")][..],
            &[
                ("connection", "keep-alive, UPGRADE"),
                ("upgrade", " WebSocket "),
            ],
            &[
                ("connection", "close"),
                ("connection", "upgrade"),
                ("upgrade", "websocket"),
            ],
        ] {
            assert!(is_named(&fields(good)), "{good:?}");
        }
        let mut ours = HeaderMap::new();
        name(&mut ours);
        assert!(is_named(&ours));
    }

    #[test]
    fn whatever_else_is_not() {
        for bad in [
            &[("upgrade", "websocket")][..],
            &[("connection", "upgrade")],
            &[("connection", "upgraded"), ("upgrade", "websocket")],
            &[("connection", "upgrade"), ("upgrade", "websocket, h2c")],
            &[
                ("connection", "upgrade"),
                ("upgrade", "websocket"),
                ("upgrade", "h2c"),
            ],
            &[
                ("connection", "upgrade"),
                ("upgrade", "websocket"),
                ("upgrade", "websocket"),
            ],
            &[("connection", "upgrade"), ("upgrade", "websocket/13")],
            &[("connection", "upgrade"), ("upgrade", "h2c")],
            &[("connection", "upgrade"), ("upgrade", "")],
        ] {
            assert!(!is_named(&fields(bad)), "{bad:?}");
        }
    }
}
