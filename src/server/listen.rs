//! Addresses: bound once for each worker, or refused with a reason.
//!
//! Workers share an address by SO_REUSEPORT, so that the kernel spreads connections over them. That
//! would let a second process take the same address in silence; so it is tried alone first.

use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpListener};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// Binds `address` once for each of `workers`. Port 0 is one free port for all.
///
/// # Errors
/// The address is taken, or not ours.
pub fn bind(address: SocketAddr, workers: usize) -> io::Result<Vec<TcpListener>> {
    let alone = open(address, false)?;
    let address = alone.local_addr()?;
    drop(alone);
    (0..workers).map(|_| open(address, true)).collect()
}

/// Binds `address` for one listener alone.
///
/// # Errors
/// The address is taken, or not ours.
pub fn bind_one(address: SocketAddr) -> io::Result<TcpListener> {
    open(address, false)
}

fn open(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use super::*;

    #[test]
    fn an_address_that_is_taken_is_refused_though_workers_share_theirs() {
        let ours = bind("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        assert_eq!(ours[0].local_addr().unwrap(), ours[1].local_addr().unwrap());
        let again = bind(ours[0].local_addr().unwrap(), 2);
        assert_eq!(again.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
