//! The PROXY protocol, versions 1 and 2: who a load balancer says that the client is, before any
//! other byte.
//!
//! Reads the header and not one byte more, within bounds, and believes it as far as the file trusts
//! the sender. A connection without a whole and well-formed header gets no answer: what would follow
//! could be anybody's. The wait for it is the wait for a first byte, kept by the watch.

use crate::clock::{self, Duration, Instant};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// What version 2 begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// What version 1 begins with.
const WORD: &[u8] = b"PROXY ";
/// The longest line of version 1, its end included.
const LONGEST_LINE: usize = 107;
/// Of version 2, what precedes the addresses.
const FIXED: usize = 16;
/// Addresses and further facts take at most this much; known load balancers send a tenth of it.
const LONGEST_BLOCK: usize = 4096;

/// Why a connection is not served.
#[derive(Debug)]
pub enum Unnamed {
    /// It ended or broke before the header was whole.
    Broken(io::Error),
    /// It does not begin with one.
    Missing,
    /// It begins with one that breaks its own rules.
    Malformed(&'static str),
    /// Its sender is not among those who may say who the client is.
    Untrusted,
}

impl fmt::Display for Unnamed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unnamed::Broken(error) => write!(f, "it ended within the header: {error}"),
            Unnamed::Missing => f.write_str("it does not begin with a PROXY protocol header"),
            Unnamed::Malformed(what) => write!(f, "its PROXY protocol header is malformed: {what}"),
            Unnamed::Untrusted => f.write_str("its sender is not among clients.trusted_proxies"),
        }
    }
}

/// Reads the header of a new connection. `None`: it speaks for nobody but its sender, as the health
/// checks of a load balancer do.
///
/// # Errors
/// There is no header that can be read.
pub async fn read<R: AsyncRead + Unpin>(from: &mut R) -> Result<Option<SocketAddr>, Unnamed> {
    let mut held = Vec::with_capacity(128);
    loop {
        match look(&held)? {
            Look::Named(client) => return Ok(client),
            Look::Needs(more) => {
                let begun = held.len();
                held.resize(begun + more, 0);
                let rest = held.get_mut(begun..).unwrap_or_default();
                from.read_exact(rest).await.map_err(Unnamed::Broken)?;
            }
        }
    }
}

/// What the bytes so far amount to.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    /// A whole header.
    Named(Option<SocketAddr>),
    /// At least so many bytes are missing.
    Needs(usize),
}

fn look(held: &[u8]) -> Result<Look, Unnamed> {
    let shared = held.len().min(SIGNATURE.len());
    if held.get(..shared) == SIGNATURE.get(..shared) && shared > 0 {
        return binary(held);
    }
    let shared = held.len().min(WORD.len());
    if held.get(..shared) == WORD.get(..shared) {
        return line(held);
    }
    Err(Unnamed::Missing)
}

/// Version 1: one line of text.
fn line(held: &[u8]) -> Result<Look, Unnamed> {
    let Some(text) = held.strip_suffix(b"\r\n") else {
        // Both versions take at least as much as the signature, and a line ends with two bytes.
        let missing = SIGNATURE.len().saturating_sub(held.len());
        let end = if held.ends_with(b"\r") { 1 } else { 2 };
        return match held.len() + missing.max(end) {
            n if n > LONGEST_LINE => Err(Unnamed::Malformed("its line is too long")),
            _ if held.contains(&b'\n') => Err(Unnamed::Malformed("its line ends in no CRLF")),
            _ => Ok(Look::Needs(missing.max(end))),
        };
    };
    let words = std::str::from_utf8(text).ok();
    let words: Vec<&str> = words.map(|t| t.split(' ').collect()).unwrap_or_default();
    let malformed = Unnamed::Malformed("its line is not what it should be");
    let client = match words.as_slice() {
        ["PROXY", "UNKNOWN", ..] => return Ok(Look::Named(None)),
        ["PROXY", "TCP4", from, to, from_port, to_port] => {
            ends::<Ipv4Addr>((from, to), (from_port, to_port))
        }
        ["PROXY", "TCP6", from, to, from_port, to_port] => {
            ends::<Ipv6Addr>((from, to), (from_port, to_port))
        }
        _ => None,
    };
    client.map(|c| Look::Named(Some(c))).ok_or(malformed)
}

/// The first of two ends, where both are well formed.
fn ends<A: std::str::FromStr + Into<IpAddr>>(
    (from, to): (&str, &str),
    (from_port, to_port): (&str, &str),
) -> Option<SocketAddr> {
    let (from, _): (A, A) = (from.parse().ok()?, to.parse().ok()?);
    let (from_port, _) = (port(from_port)?, port(to_port)?);
    Some(SocketAddr::new(from.into(), from_port))
}

/// Digits, and no more of them than are needed.
fn port(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    let needed = text == "0" || !text.starts_with('0');
    (digits && needed).then(|| text.parse().ok()).flatten()
}

/// Version 2: a fixed part, and a block whose length that tells.
fn binary(held: &[u8]) -> Result<Look, Unnamed> {
    let Some((fixed, block)) = held.split_at_checked(FIXED) else {
        return Ok(Look::Needs(FIXED - held.len()));
    };
    let (command, family, length) = match fixed.get(SIGNATURE.len()..) {
        Some([command, family, high, low]) => (
            *command,
            *family,
            usize::from(u16::from_be_bytes([*high, *low])),
        ),
        _ => return Err(Unnamed::Missing),
    };
    if length > LONGEST_BLOCK {
        return Err(Unnamed::Malformed("it is too long"));
    }
    if block.len() < length {
        return Ok(Look::Needs(length - block.len()));
    }
    match (command, family) {
        // LOCAL: the family, whatever it is, says nothing.
        (0x20, _) => Ok(Look::Named(None)),
        (0x21, 0x11) => named(v4(block)),
        (0x21, 0x21) => named(v6(block)),
        // Known, and not a TCP connection over IP: nobody that we could tell apart.
        (0x21, 0x00 | 0x12 | 0x22 | 0x31 | 0x32) => Ok(Look::Named(None)),
        (0x21, _) => Err(Unnamed::Malformed("its address family is unknown")),
        _ => Err(Unnamed::Malformed("its version or command is unknown")),
    }
}

fn named(client: Option<SocketAddr>) -> Result<Look, Unnamed> {
    let client = client.ok_or(Unnamed::Malformed("its addresses are cut short"))?;
    Ok(Look::Named(Some(client)))
}

/// Two addresses and two ports.
fn v4(block: &[u8]) -> Option<SocketAddr> {
    let address: [u8; 4] = block.get(..4)?.try_into().ok()?;
    let port: [u8; 2] = block.get(8..10)?.try_into().ok()?;
    block.get(10..12)?;
    Some(SocketAddr::new(address.into(), u16::from_be_bytes(port)))
}

fn v6(block: &[u8]) -> Option<SocketAddr> {
    let address: [u8; 16] = block.get(..16)?.try_into().ok()?;
    let port: [u8; 2] = block.get(32..34)?.try_into().ok()?;
    block.get(34..36)?;
    Some(SocketAddr::new(address.into(), u16::from_be_bytes(port)))
}

/// How often the log tells of connections that are not served.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Says in the log why a connection was not served; not of every one, since anybody can make many.
pub fn complain(listener: &str, sender: IpAddr, why: &Unnamed) {
    static LAST: Mutex<Option<Instant>> = Mutex::new(None);
    let now = clock::now();
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if last.is_none_or(|last| now.saturating_duration_since(last) >= TELL_EVERY) {
        *last = Some(now);
        tracing::warn!(listener, %sender, %why, "a connection was not served");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};

    /// What is read of `bytes`, and what is left behind it.
    fn reading(bytes: &[u8]) -> (Result<Option<SocketAddr>, Unnamed>, usize) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let mut rest = bytes;
        let read = runtime.block_on(read(&mut rest));
        (read, rest.len())
    }

    fn binary_of(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let length = u16::try_from(block.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[command, family][..], &length, block].concat()
    }

    #[test]
    fn a_header_names_the_client_and_not_a_byte_more_is_read() {
        let v4 = [&[192, 0, 2, 7, 10, 0, 0, 1][..], &[0x30, 0x39, 0, 80]].concat();
        let address: Ipv6Addr = "2001:db8::7".parse().unwrap();
        let v6 = [&address.octets()[..], &[0; 16], &[0x30, 0x39, 0, 80]].concat();
        let with_facts = [&v4[..], &[0x04, 0, 200], &[0; 200]].concat();
        for (header, client) in [
            (
                b"PROXY TCP4 192.0.2.7 10.0.0.1 12345 80\r\n".to_vec(),
                "192.0.2.7:12345",
            ),
            (
                b"PROXY TCP6 2001:db8::7 ::1 12345 80\r\n".to_vec(),
                "[2001:db8::7]:12345",
            ),
            (binary_of(0x21, 0x11, &v4), "192.0.2.7:12345"),
            (binary_of(0x21, 0x11, &with_facts), "192.0.2.7:12345"),
            (binary_of(0x21, 0x21, &v6), "[2001:db8::7]:12345"),
        ] {
            let behind = b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1\r\nGET / HTTP/1.1\r\n";
            let (read, left) = reading(&[&header[..], behind].concat());
            assert_eq!(read.unwrap(), Some(client.parse().unwrap()));
            assert_eq!(left, behind.len(), "{client}");
        }
    }

    #[test]
    fn who_speaks_for_nobody_is_itself() {
        for header in [
            b"PROXY UNKNOWN\r\n".to_vec(),
            b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n".to_vec(),
            binary_of(0x20, 0x00, b""),
            binary_of(0x20, 0xff, &[7; 50]),
            binary_of(0x21, 0x00, &[7; 50]),
            binary_of(0x21, 0x12, &[7; 12]),
            binary_of(0x21, 0x31, &[7; 216]),
        ] {
            let (read, left) = reading(&[&header[..], b"x"].concat());
            assert_eq!((read.unwrap(), left), (None, 1), "{header:?}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(92));
        assert_eq!(long.len(), LONGEST_LINE + 1);
        for bad in [
            &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00\x00",
            b"proxy TCP4 192.0.2.7 10.0.0.1 1 80\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 1\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 1 80 \r\n",
            b"PROXY  TCP4 192.0.2.7 10.0.0.1 1 80\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 65536 80\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 +1 80\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 01 80\r\n",
            b"PROXY TCP4 192.0.2.300 10.0.0.1 1 80\r\n",
            b"PROXY TCP4 ::1 10.0.0.1 1 80\r\n",
            b"PROXY TCP6 192.0.2.7 ::1 1 80\r\n",
            b"PROXY UDP4 192.0.2.7 10.0.0.1 1 80\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 1 80\nGET / HTTP/1.1\r\n\r\n",
            b"PROXY TCP4\r\n",
            b"PROXY \r\n\r\n\r\n\r\n",
            long.as_bytes(),
            &binary_of(0x11, 0x11, &[0; 12]),
            &binary_of(0x22, 0x11, &[0; 12]),
            &binary_of(0x21, 0x13, &[0; 12]),
            &binary_of(0x21, 0x41, &[0; 12]),
            &binary_of(0x21, 0x11, &[0; 11]),
            &binary_of(0x21, 0x21, &[0; 35]),
            &binary_of(0x20, 0x00, &[0; LONGEST_BLOCK + 1]),
            b"",
            b"PROXY TCP4 192",
            SIGNATURE,
        ] {
            assert!(
                reading(bad).0.is_err(),
                "{:?}",
                String::from_utf8_lossy(bad)
            );
        }
    }

    proptest! {
        /// Whatever comes: no panic, no more read than is bounded, and the same however it is cut.
        #[test]
        fn no_bytes_do_harm(
            begin in prop::sample::select(vec![&b""[..], b"PROXY ", b"PROXY TCP4 ", &SIGNATURE[..], b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"]),
            bytes in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let all = [begin, &bytes[..]].concat();
            let (read, left) = reading(&all);
            let used = all.len() - left;
            prop_assert!(used <= FIXED + LONGEST_BLOCK);
            if let Ok(client) = read {
                let (again, none) = reading(all.get(..used).unwrap());
                prop_assert_eq!(again.unwrap(), client);
                prop_assert_eq!(none, 0, "not a byte beyond the header");
            }
        }

        #[test]
        fn every_address_is_read_as_it_was_written(client: SocketAddr, to: u16) {
            let (family, other) = match client {
                SocketAddr::V4(_) => ("TCP4", "10.0.0.1"),
                SocketAddr::V6(_) => ("TCP6", "fd00::1"),
            };
            let header = format!("PROXY {family} {} {other} {} {to}\r\n", client.ip(), client.port());
            let read = reading(header.as_bytes()).0.unwrap();
            prop_assert_eq!(read, Some(SocketAddr::new(client.ip(), client.port())));
        }
    }
}
