//! The address under which others know what stands here: what a vendor signed, or what a client dials, and
//! not what arrived here.
//!
//! Scheme, host and port come from the configuration and never from a client's fields; path and query
//! are the bytes that arrived. Vendors are of two minds about the port of the scheme, so each address
//! has two spellings. Made by the compiler, read by the checks of signatures and where answers name us.

/// Scheme, host, perhaps a port, and perhaps a path that a gateway in front of us takes away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl {
    tls: bool,
    host: String,
    port: Option<u16>,
    base: String,
    /// Everything in front of a target, for HTTP and for WebSocket.
    spelled: [Spelled; 2],
}

/// An address up to its target in two spellings, first as it is configured.
type Spelled = [String; 2];

impl PublicUrl {
    /// Reads `https://host`, `https://host:port` or either with a path.
    ///
    /// # Errors
    /// One sentence that says what is wrong with it.
    pub fn parse(text: &str) -> Result<PublicUrl, &'static str> {
        let (scheme, rest) = text.split_once("://").ok_or("it names no scheme")?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err("its scheme is not https or http"),
        };
        let end = rest.find('/').unwrap_or(rest.len());
        let (authority, base) = rest.split_at(end);
        if rest.contains(['?', '#']) {
            return Err("it has a query or fragment; those come with each request");
        }
        if authority.contains('@') {
            return Err("it holds a user name or password");
        }
        let (host, port) = split_port(authority)?;
        let is_host = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
        let bracketed = host.starts_with('[') && host.ends_with(']');
        if host.is_empty() || !(bracketed || host.bytes().all(is_host)) {
            return Err("it names no host");
        }
        if !base.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("its path holds bytes that a URL cannot; percent-encode them");
        }
        let base = base.trim_end_matches('/');
        Ok(PublicUrl {
            tls,
            host: host.to_owned(),
            port,
            base: base.to_owned(),
            spelled: [false, true].map(|socket| spelled((socket, tls), (host, port), base)),
        })
    }

    /// Whether `fits` finds one of the spellings of this target's address that may have been signed, each in
    /// two parts: without a port and with one, and those also as Twilio's own library spells a target that
    /// ends in nothing.
    pub(super) fn any(
        &self,
        websocket: bool,
        target: &str,
        mut fits: impl FnMut(&str, &str) -> bool,
    ) -> bool {
        let [http, socket] = &self.spelled;
        let spelled = if websocket { socket } else { http };
        let mut both = |target: &str| spelled.iter().any(|start| fits(start, target));
        both(target) || tidied(target).is_some_and(|tidy| both(&tidy))
    }

    /// The address of this target, as it was configured.
    pub(super) fn of(&self, target: &str) -> String {
        self.address(false, target)
    }

    /// The path in front of every target; empty, or starting with a slash.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The address of this target, as it was configured, for HTTP or for WebSocket.
    pub fn address(&self, websocket: bool, target: &str) -> String {
        let scheme = scheme(websocket, self.tls);
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        format!("{scheme}://{}{port}{}{target}", self.host, self.base)
    }
}

fn spelled(
    (websocket, tls): (bool, bool),
    (host, port): (&str, Option<u16>),
    base: &str,
) -> Spelled {
    let scheme = scheme(websocket, tls);
    // Twilio's library knows one scheme whose port is not 80.
    let usual = if scheme == "https" { 443 } else { 80 };
    let named = format!("{scheme}://{host}:{}{base}", port.unwrap_or(usual));
    let bare = format!("{scheme}://{host}{base}");
    match port {
        Some(_) => [named, bare],
        None => [bare, named],
    }
}

fn split_port(authority: &str) -> Result<(&str, Option<u16>), &'static str> {
    let colon = match authority.rfind(']') {
        Some(bracket) => authority
            .get(bracket..)
            .and_then(|rest| rest.find(':'))
            .map(|at| at + bracket),
        None => authority.find(':'),
    };
    let Some(colon) = colon else {
        return Ok((authority, None));
    };
    let (host, port) = authority.split_at(colon);
    let port = port
        .trim_start_matches(':')
        .parse()
        .map_err(|_| "its port is not a number")?;
    Ok((host, Some(port)))
}

/// The target without a `?` that nothing follows, and without an empty `;` at the end of its path,
/// where it has one of them.
fn tidied(target: &str) -> Option<String> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let last = path.rsplit('/').next().unwrap_or(path);
    let empty_parameter = last.find(';').is_some_and(|at| at + 1 == last.len());
    let path = match path.strip_suffix(';') {
        Some(bare) if empty_parameter => bare,
        _ => path,
    };
    let tidy = match query {
        "" => path.to_owned(),
        query => format!("{path}?{query}"),
    };
    (tidy != target).then_some(tidy)
}

/// The scheme of an address, for HTTP or for WebSocket.
pub fn scheme(websocket: bool, tls: bool) -> &'static str {
    match (websocket, tls) {
        (false, true) => "https",
        (false, false) => "http",
        (true, true) => "wss",
        (true, false) => "ws",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// All that are tried where none fits.
    fn spellings(url: &PublicUrl, websocket: bool, target: &str) -> Vec<String> {
        let mut tried = Vec::new();
        let found = url.any(websocket, target, |start, target| {
            tried.push(format!("{start}{target}"));
            false
        });
        assert!(!found);
        tried
    }

    #[test]
    fn an_address_is_taken_as_it_is_written() {
        let url = PublicUrl::parse("https://My.Example.com:8443/base/").unwrap();
        assert_eq!(url.of("/a?b"), "https://My.Example.com:8443/base/a?b");
        assert_eq!(
            spellings(&url, true, "/a"),
            [
                "wss://My.Example.com:8443/base/a",
                "wss://My.Example.com/base/a"
            ]
        );
        let plain = PublicUrl::parse("HTTP://[::1]").unwrap();
        assert_eq!(
            spellings(&plain, false, "/"),
            ["http://[::1]/", "http://[::1]:80/"]
        );
        assert_eq!(
            PublicUrl::parse("http://[::1]:81").unwrap().of("/"),
            "http://[::1]:81/"
        );
    }

    #[test]
    fn a_target_that_ends_in_nothing_is_spelled_as_the_library_does_too() {
        for (target, tidy) in [
            ("/a?", Some("/a")),
            ("/a;", Some("/a")),
            ("/a;?", Some("/a")),
            ("/a;;", None),
            ("/a;b", None),
            ("/a?b", None),
            ("/a;/b", None),
            ("/a;?b", Some("/a?b")),
        ] {
            assert_eq!(tidied(target).as_deref(), tidy, "{target}");
        }
    }

    #[test]
    fn a_spelling_that_fits_is_the_last_that_is_tried() {
        let url = PublicUrl::parse("https://a").unwrap();
        let all = [
            "https://a/b;",
            "https://a:443/b;",
            "https://a/b",
            "https://a:443/b",
        ];
        assert_eq!(spellings(&url, false, "/b;"), all);
        for (index, right) in all.iter().enumerate() {
            let mut tried = 0;
            let found = url.any(false, "/b;", |start, target| {
                tried += 1;
                format!("{start}{target}") == *right
            });
            assert_eq!((found, tried), (true, index + 1));
        }
    }

    #[test]
    fn what_is_no_address_says_why() {
        for text in [
            "my.example.com",
            "wss://a",
            "https://",
            "https:///x",
            "https://a b",
            "https://u:p@a",
            "https://a:x",
            "https://a:70000",
            "https://a/?q",
            "https://a#f",
            "https://a/ü",
        ] {
            assert!(PublicUrl::parse(text).is_err(), "{text}");
        }
    }
}
