//! Who is calling: the address behind the proxies that are trusted, and the first identity of `identify_by` that the
//! request carries, as a key that rate limits, stubs and caches can count by.
//!
//! Values (header contents, user names, tokens) leave this file only as hashes with a seed drawn at start-up, and with
//! a second one where several replicas have to mean the same client by it. A request must never be able to choose its own identity from an address that the configuration does not believe. Called once
//! per request while the exchange is set up, and by the compiler of the configuration.

mod keys;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

use super::scheme::credentials;
use keys::Keys;
pub use keys::{ClientKey, FleetKey, FleetSeed};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Basic credentials up to this size decode without an allocation; Twilio's take 67 bytes.
const USUAL_CREDENTIALS: usize = 384;

const BASIC: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A request's connection, the client behind it, its head, and the seed of the fleet.
#[derive(Clone, Copy)]
struct Caller<'a> {
    socket: IpAddr,
    address: IpAddr,
    headers: &'a HeaderMap,
    seed: Option<&'a FleetSeed>,
}

/// Where an identity is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The value of a request header, believed only from the addresses in `identity_from`: that of the connection,
    /// and that of the client behind it where a trusted proxy passes on for another.
    Header(HeaderName),
    /// The user part of `Authorization: Basic` (RFC 7617), unverified.
    BasicUser,
    /// The token of `Authorization: Bearer` (RFC 6750), unverified.
    Bearer,
    /// The client's address, IPv6 cut to a prefix.
    Ip,
    /// A parameter of the route's path.
    Path(Box<str>),
}

/// One entry of `identify_by`: a source, and the words it was written in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identify {
    source: Source,
    label: Arc<str>,
}

impl Identify {
    /// Where this identity is read from.
    pub fn source(&self) -> &Source {
        &self.source
    }
}

impl fmt::Display for Identify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label)
    }
}

/// Why an entry of `identify_by` cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentifyError {
    /// Not one of the known words.
    #[error("`{0}` is not an identity: write header:NAME, path:NAME, basic_user, bearer or ip")]
    Unknown(String),
    /// `header:` with something that no header can be called.
    #[error("`{0}` is not a header name")]
    HeaderName(String),
    /// `path:` without a parameter name.
    #[error("`path:` needs the name of a path parameter, as in path:account")]
    PathName,
}

impl FromStr for Identify {
    type Err = IdentifyError;

    fn from_str(text: &str) -> Result<Self, IdentifyError> {
        let source = match text.split_once(':') {
            Some(("header", name)) => Source::Header(
                HeaderName::from_bytes(name.as_bytes())
                    .map_err(|_| IdentifyError::HeaderName(name.to_owned()))?,
            ),
            Some(("path", "")) => return Err(IdentifyError::PathName),
            Some(("path", name)) => Source::Path(name.into()),
            None if text == "basic_user" => Source::BasicUser,
            None if text == "bearer" => Source::Bearer,
            None if text == "ip" => Source::Ip,
            _ => return Err(IdentifyError::Unknown(text.to_owned())),
        };
        Ok(Self {
            source,
            label: text.into(),
        })
    }
}

/// Who one request comes from.
#[derive(Debug, Clone)]
pub struct Identity {
    /// What limits count by.
    pub key: ClientKey,
    /// The same on every replica, where they count together.
    pub fleet: Option<FleetKey>,
    /// The client's address behind the trusted proxies, whole.
    pub address: IpAddr,
    named: Named,
}

#[derive(Debug, Clone)]
enum Named {
    Address(IpNet),
    Hashed(Arc<str>),
}

impl Identity {
    /// The IPv4 address that stands for the caller, where that is what limits count by.
    pub fn ipv4(&self) -> Option<Ipv4Addr> {
        match &self.named {
            Named::Address(IpNet::V4(net)) if net.prefix_len() == 32 => Some(net.addr()),
            _ => None,
        }
    }

    /// A label for log lines and refusals: `127.0.0.1`, `2001:db8::/64` or `header:X-Client-ID#1a2b3c4d`; no secret.
    pub fn shown(&self) -> impl fmt::Display {
        Shown(self)
    }
}

struct Shown<'a>(&'a Identity);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.named {
            Named::Address(net) if net.prefix_len() == net.max_prefix_len() => {
                write!(f, "{}", net.addr())
            }
            Named::Address(net) => write!(f, "{net}"),
            Named::Hashed(label) => write!(f, "{label}#{:08x}", self.0.key.as_u64() >> 32),
        }
    }
}

/// The compiled `clients:` block.
#[derive(Debug, Clone)]
pub struct Clients {
    identify_by: Vec<Identify>,
    identity_from: Vec<IpNet>,
    trusted_proxies: Vec<IpNet>,
    ipv6_prefix: u8,
    identity_headers: Vec<HeaderName>,
}

impl Clients {
    /// `ipv6_prefix` above 128 counts as 128.
    pub fn new(
        identify_by: Vec<Identify>,
        identity_from: Vec<IpNet>,
        trusted_proxies: Vec<IpNet>,
        ipv6_prefix: u8,
    ) -> Self {
        let identity_headers = identify_by
            .iter()
            .filter_map(|identify| match &identify.source {
                Source::Header(name) => Some(name.clone()),
                _ => None,
            })
            .collect();
        Self {
            identify_by,
            identity_from,
            trusted_proxies,
            ipv6_prefix: ipv6_prefix.min(128),
            identity_headers,
        }
    }

    /// The entries of `identify_by`, in order.
    pub fn identify_by(&self) -> &[Identify] {
        &self.identify_by
    }

    /// The headers that name a client to us and are not to be sent upstream.
    pub fn identity_headers(&self) -> &[HeaderName] {
        &self.identity_headers
    }

    /// Whether a connection from this address comes from a trusted proxy.
    pub fn is_trusted(&self, socket: IpAddr) -> bool {
        contains(&self.trusted_proxies, socket.to_canonical())
    }

    /// Whether this address may say by the PROXY protocol who the client is: a trusted proxy, or anyone
    /// where none is named.
    pub fn may_name_clients(&self, socket: IpAddr) -> bool {
        self.trusted_proxies.is_empty() || self.is_trusted(socket)
    }

    /// The address of the client, IPv4-mapped IPv6 as IPv4.
    ///
    /// `X-Forwarded-For` is read only if the connection comes from a trusted proxy, and then from the right, several
    /// field lines in order: the first address that is not a trusted proxy is the client. What is left of it was
    /// written by the client. An element that is no address ends the walk at the last one that was.
    pub fn client_address(&self, socket: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = socket.to_canonical();
        if !contains(&self.trusted_proxies, client) {
            return client;
        }
        for line in headers.get_all(X_FORWARDED_FOR).iter().rev() {
            for element in line.as_bytes().rsplit(|byte| *byte == b',') {
                let Some(address) = forwarded_address(element) else {
                    return client;
                };
                client = address;
                if !contains(&self.trusted_proxies, client) {
                    return client;
                }
            }
        }
        client
    }

    /// The first identity of `identify_by` that is present and believed; the address if there is none.
    ///
    /// `path_param` answers the route's path parameters by name. Empty values count as absent. With a fleet's seed the
    /// identity has its key there too.
    pub fn identify<'p>(
        &self,
        socket: IpAddr,
        headers: &HeaderMap,
        seed: Option<&FleetSeed>,
        path_param: impl Fn(&str) -> Option<&'p str>,
    ) -> Identity {
        let address = self.client_address(socket, headers);
        let caller = Caller {
            socket,
            address,
            headers,
            seed,
        };
        for identify in &self.identify_by {
            if identify.source == Source::Ip {
                break;
            }
            if let Some(Keys(key, fleet)) = self.named_keys(identify, caller, &path_param) {
                let named = Named::Hashed(Arc::clone(&identify.label));
                return Identity {
                    key,
                    fleet,
                    address,
                    named,
                };
            }
        }
        let net = self.masked(address);
        let Keys(key, fleet) = Keys::of_address(seed, net.addr());
        Identity {
            key,
            fleet,
            address,
            named: Named::Address(net),
        }
    }

    fn named_keys<'p>(
        &self,
        identify: &Identify,
        caller: Caller<'_>,
        path_param: impl Fn(&str) -> Option<&'p str>,
    ) -> Option<Keys> {
        let Caller { headers, seed, .. } = caller;
        let value = match &identify.source {
            Source::Header(name) => self.believed(caller, name)?,
            Source::Bearer => authorization(headers, "bearer")?,
            Source::Path(name) => path_param(name)?.as_bytes(),
            Source::BasicUser => return basic_user_keys(seed, headers),
            Source::Ip => return None,
        };
        (!value.is_empty()).then(|| Keys::of(seed, &identify.label, value))
    }

    /// A proxy passes on what its client sent, this field too, so that both have to be believed.
    fn believed<'h>(&self, caller: Caller<'h>, name: &HeaderName) -> Option<&'h [u8]> {
        let value = caller.headers.get(name)?.as_bytes().trim_ascii();
        let socket = caller.socket.to_canonical();
        let believed = |address| contains(&self.identity_from, address);
        let both = believed(socket) && (socket == caller.address || believed(caller.address));
        both.then_some(value)
    }

    fn masked(&self, address: IpAddr) -> IpNet {
        match address {
            IpAddr::V4(_) => IpNet::from(address),
            IpAddr::V6(v6) => {
                let prefix = u32::from(self.ipv6_prefix);
                let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
                let network = IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask));
                IpNet::new(network, self.ipv6_prefix).unwrap_or_else(|_| IpNet::from(address))
            }
        }
    }
}

fn contains(nets: &[IpNet], address: IpAddr) -> bool {
    nets.iter().any(|net| net.contains(&address))
}

/// An element of `X-Forwarded-For`: an address, bracketed or not, with or without a port.
fn forwarded_address(element: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(element.trim_ascii()).ok()?;
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let address = text
        .parse::<IpAddr>()
        .ok()
        .or_else(|| text.parse::<SocketAddr>().ok().map(|with| with.ip()))
        .or_else(|| bracketed().map(IpAddr::V6))?;
    Some(address.to_canonical())
}

/// The credentials of an `Authorization` header of the given scheme, if not empty.
fn authorization<'h>(headers: &'h HeaderMap, scheme: &str) -> Option<&'h [u8]> {
    credentials(headers.get(AUTHORIZATION)?.as_bytes(), scheme)
}

fn basic_user_keys(seed: Option<&FleetSeed>, headers: &HeaderMap) -> Option<Keys> {
    let encoded = authorization(headers, "basic")?;
    let mut usual = [0; USUAL_CREDENTIALS];
    if let Ok(length) = BASIC.decode_slice(encoded, &mut usual) {
        return user_keys(seed, usual.get(..length)?);
    }
    user_keys(seed, &BASIC.decode(encoded).ok()?)
}

fn user_keys(seed: Option<&FleetSeed>, credentials: &[u8]) -> Option<Keys> {
    let colon = credentials.iter().position(|byte| *byte == b':')?;
    let user = credentials.get(..colon)?;
    (!user.is_empty()).then(|| Keys::of(seed, "basic_user", user))
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]
mod tests {
    use super::*;

    const LOCAL: &str = "127.0.0.1";
    const STRANGER: &str = "203.0.113.9";

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn clients(identify_by: &[&str], trusted_proxies: &[&str]) -> Clients {
        let identify_by = identify_by.iter().map(|text| text.parse().unwrap());
        let believed = nets(&["127.0.0.0/8", "::1/128"]);
        Clients::new(identify_by.collect(), believed, nets(trusted_proxies), 64)
    }

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(*name, value.parse().unwrap());
        }
        map
    }

    fn identify(clients: &Clients, socket: &str, lines: &[(&'static str, &str)]) -> Identity {
        clients.identify(address(socket), &headers(lines), None, |_| None)
    }

    fn basic(credentials: &str) -> String {
        format!("Basic {}", BASIC.encode(credentials))
    }

    #[test]
    fn every_source_is_parsed_and_shown_as_written() {
        for (text, source) in [
            ("basic_user", Source::BasicUser),
            ("bearer", Source::Bearer),
            ("ip", Source::Ip),
            ("path:account", Source::Path("account".into())),
            (
                "header:X-Client-ID",
                Source::Header(HeaderName::from_static("x-client-id")),
            ),
        ] {
            let identify: Identify = text.parse().unwrap();
            assert_eq!(identify.source(), &source);
            assert_eq!(identify.to_string(), text);
        }
    }

    #[test]
    fn a_source_that_cannot_be_read_is_refused() {
        for (text, expected) in [
            ("header:", IdentifyError::HeaderName(String::new())),
            ("header:a b", IdentifyError::HeaderName("a b".into())),
            ("path:", IdentifyError::PathName),
            ("cookie", IdentifyError::Unknown("cookie".into())),
            ("ip:4", IdentifyError::Unknown("ip:4".into())),
            ("", IdentifyError::Unknown(String::new())),
        ] {
            assert_eq!(text.parse::<Identify>(), Err(expected));
        }
    }

    #[test]
    fn the_right_most_untrusted_address_is_the_client() {
        let clients = clients(&["ip"], &["10.0.0.0/8", "fd00::/8"]);
        for (socket, lines, expected) in [
            ("10.0.0.1", vec![], "10.0.0.1"),
            ("10.0.0.1", vec!["198.51.100.7"], "198.51.100.7"),
            ("10.0.0.1", vec!["1.1.1.1, 198.51.100.7"], "198.51.100.7"),
            ("10.0.0.1", vec!["198.51.100.7, 10.9.9.9"], "198.51.100.7"),
            ("10.0.0.1", vec!["198.51.100.7", "10.9.9.9"], "198.51.100.7"),
            ("10.0.0.1", vec!["1.1.1.1", "198.51.100.7"], "198.51.100.7"),
            ("10.0.0.1", vec!["10.3.3.3, 10.2.2.2"], "10.3.3.3"),
            ("::ffff:10.0.0.1", vec!["198.51.100.7"], "198.51.100.7"),
            ("fd00::1", vec!["2001:db8::7"], "2001:db8::7"),
            ("fd00::1", vec!["[2001:db8::7]:443, fd00::2"], "2001:db8::7"),
            ("fd00::1", vec!["[2001:db8::7]"], "2001:db8::7"),
            ("10.0.0.1", vec!["198.51.100.7:5060"], "198.51.100.7"),
            ("10.0.0.1", vec!["::ffff:198.51.100.7"], "198.51.100.7"),
        ] {
            let lines: Vec<_> = lines.iter().map(|l| ("x-forwarded-for", *l)).collect();
            let found = clients.client_address(address(socket), &headers(&lines));
            assert_eq!(found, address(expected), "{socket} {lines:?}");
        }
    }

    #[test]
    fn a_malformed_element_ends_the_walk_at_the_last_good_one() {
        let clients = clients(&["ip"], &["10.0.0.0/8"]);
        for (line, expected) in [
            ("1.1.1.1, unknown, 10.2.2.2", "10.2.2.2"),
            ("1.1.1.1, 10.2.2.2, ", "10.0.0.1"),
            ("1.1.1.1,,10.2.2.2", "10.2.2.2"),
            ("1.1.1.1, 1.2.3", "10.0.0.1"),
            ("", "10.0.0.1"),
        ] {
            let headers = headers(&[("x-forwarded-for", line)]);
            let found = clients.client_address(address("10.0.0.1"), &headers);
            assert_eq!(found, address(expected), "{line}");
        }
    }

    #[test]
    fn a_forged_forwarded_address_changes_nothing() {
        for trusted in [&[][..], &["10.0.0.0/8"]] {
            let clients = clients(&["header:X-Client-ID", "ip"], trusted);
            let honest = identify(&clients, STRANGER, &[]);
            for forged in ["127.0.0.1", "10.0.0.1", "1.1.1.1, 10.0.0.1", "junk"] {
                let lines = [("x-forwarded-for", forged), ("x-client-id", "a")];
                let found = identify(&clients, STRANGER, &lines);
                assert_eq!((found.key, found.address), (honest.key, honest.address));
                assert_eq!(found.shown().to_string(), STRANGER);
            }
        }
    }

    #[test]
    fn a_header_identity_is_believed_by_the_connection_and_not_by_what_it_forwards() {
        let clients = clients(&["header:X-Client-ID", "ip"], &["10.0.0.0/8"]);
        let named = [("x-client-id", "a"), ("x-forwarded-for", "127.0.0.1")];
        let from_proxy = identify(&clients, "10.0.0.1", &named);
        assert_eq!(from_proxy.shown().to_string(), "127.0.0.1");
        let mapped = identify(&clients, "::ffff:127.0.0.1", &named);
        let local = identify(&clients, LOCAL, &named);
        assert_eq!(mapped.key, local.key);
        assert!(local.shown().to_string().starts_with("header:X-Client-ID#"));
    }

    #[test]
    fn a_trusted_proxy_lends_its_clients_no_belief() {
        let clients = clients(
            &["header:X-Client-ID", "basic_user", "ip"],
            &["127.0.0.0/8"],
        );
        let user = basic("AC123:secret");
        for (forwarded, shown) in [
            (Some(STRANGER), STRANGER),
            (Some("127.0.0.5, 203.0.113.9, 127.0.0.2"), STRANGER),
            (Some("::1"), "header:X-Client-ID#"),
            (Some("127.0.0.5"), "header:X-Client-ID#"),
            (Some("junk"), "header:X-Client-ID#"),
            (None, "header:X-Client-ID#"),
        ] {
            let mut lines = vec![("x-client-id", "a")];
            lines.extend(forwarded.map(|from| ("x-forwarded-for", from)));
            let found = identify(&clients, LOCAL, &lines).shown().to_string();
            assert!(found.starts_with(shown), "{forwarded:?}: {found}");
            // The next sign counts in place of a header that is not believed.
            lines.push(("authorization", &user));
            let found = identify(&clients, LOCAL, &lines).shown().to_string();
            let next = if shown == STRANGER {
                "basic_user#"
            } else {
                shown
            };
            assert!(found.starts_with(next), "{forwarded:?}: {found}");
        }
    }

    #[test]
    fn the_first_identity_that_is_present_wins() {
        let clients = clients(&["header:X-Client-ID", "basic_user", "bearer", "ip"], &[]);
        let (user, other_secret) = (basic("AC123:secret"), basic("AC123:other"));
        for (lines, shown) in [
            (
                vec![("x-client-id", "a"), ("authorization", &*user)],
                "header:X-Client-ID#",
            ),
            (
                vec![("x-client-id", " "), ("authorization", &user)],
                "basic_user#",
            ),
            (vec![("authorization", &other_secret)], "basic_user#"),
            (vec![("authorization", "bearer  tok")], "bearer#"),
            (vec![("authorization", "Bearer ")], LOCAL),
            (vec![("authorization", "Basic ????")], LOCAL),
            (vec![("authorization", "Basicx")], LOCAL),
            (vec![("authorization", "Digest x")], LOCAL),
            (vec![], LOCAL),
        ] {
            let found = identify(&clients, LOCAL, &lines);
            assert!(found.shown().to_string().starts_with(shown), "{lines:?}");
        }
    }

    #[test]
    fn a_basic_user_is_the_same_whatever_the_secret_and_however_long() {
        let clients = clients(&["basic_user"], &[]);
        let keyed = |credentials: &str| {
            let line = basic(credentials);
            identify(&clients, LOCAL, &[("authorization", &line)]).key
        };
        assert_eq!(keyed("AC123:secret"), keyed("AC123:other"));
        assert_eq!(
            keyed("AC123:"),
            keyed(&format!("AC123:{}", "x".repeat(2000)))
        );
        assert_ne!(keyed("AC123:secret"), keyed("AC124:secret"));
        assert_eq!(keyed(":secret"), keyed("no colon"));
    }

    #[test]
    fn a_path_parameter_identifies_where_the_route_has_it() {
        let clients = clients(&["path:account"], &[]);
        let with = |value: Option<&'static str>| {
            clients.identify(address(LOCAL), &HeaderMap::new(), None, |name| {
                assert_eq!(name, "account");
                value
            })
        };
        assert_ne!(with(Some("AC1")).key, with(Some("AC2")).key);
        assert_eq!(with(Some("AC1")).key, with(Some("AC1")).key);
        assert_eq!(with(Some("")).shown().to_string(), LOCAL);
        assert_eq!(with(None).shown().to_string(), LOCAL);
    }

    #[test]
    fn an_ipv6_client_is_its_prefix_and_a_mapped_one_is_ipv4() {
        let clients = clients(&["ip"], &[]);
        let found = |socket: &str| identify(&clients, socket, &[]);
        assert_eq!(found("2001:db8::1").key, found("2001:db8::ffff:1").key);
        assert_ne!(found("2001:db8::1").key, found("2001:db8:0:1::1").key);
        assert_eq!(found("2001:db8::1").shown().to_string(), "2001:db8::/64");
        assert_eq!(found("2001:db8::1").address, address("2001:db8::1"));
        assert_eq!(found("::ffff:192.0.2.1").key, found("192.0.2.1").key);
        for (prefix, shown) in [(0, "::/0"), (128, "2001:db8::1"), (200, "2001:db8::1")] {
            let clients = Clients::new(vec![], vec![], vec![], prefix);
            let found = identify(&clients, "2001:db8::1", &[]);
            assert_eq!(found.shown().to_string(), shown);
        }
    }

    #[test]
    fn nothing_shown_holds_the_value() {
        let clients = clients(&["header:X-Client-ID", "bearer"], &[]);
        for line in [
            ("x-client-id", "hush-hush"),
            ("authorization", "Bearer hush-hush"),
        ] {
            let found = identify(&clients, LOCAL, &[line]);
            let said = format!("{} {} {found:?}", found.shown(), found.key);
            assert!(!said.contains("hush"), "{said}");
            assert_eq!(found.key.to_string().len(), 16);
        }
    }

    #[test]
    fn header_identities_are_listed_so_that_they_stay_here() {
        let clients = clients(&["header:X-Client-ID", "ip", "header:X-Tenant"], &[]);
        assert_eq!(clients.identity_headers(), ["x-client-id", "x-tenant"]);
    }

    #[test]
    fn replicas_with_one_seed_mean_the_same_client() {
        let clients = clients(&["header:X-Client-ID", "basic_user", "ip"], &[]);
        let keys = |seed: u8| {
            let seed = FleetSeed([seed; 16]);
            let line = basic("AC1:secret");
            let found = |lines: &[(&'static str, &str)]| {
                let headers = headers(lines);
                let identity = clients.identify(address(LOCAL), &headers, Some(&seed), |_| None);
                identity.fleet.unwrap().to_string()
            };
            [
                found(&[("x-client-id", "a")]),
                found(&[("x-client-id", "b")]),
                found(&[("authorization", &line)]),
                found(&[]),
            ]
        };
        let (one, other) = (keys(1), keys(2));
        assert_eq!(one, keys(1));
        assert!(
            one.iter()
                .all(|key| key.len() == 32 && !other.contains(key))
        );
        assert!(one[0] != one[1] && one[1] != one[2] && one[2] != one[3]);
        assert_eq!(identify(&clients, LOCAL, &[]).fleet, None);
    }
}
