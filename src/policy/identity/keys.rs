//! Hashes that stand for a caller: one that nobody outside this process can foresee, and one that all replicas share.
//!
//! The first picks places in tables of this process, so its seed is drawn at start-up and never told. The second names
//! a caller in a store that replicas share: 128 bits of SHA-256, so that knowing its seed helps nobody to find two
//! callers with one key.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::IpAddr;
use std::sync::LazyLock;

use aws_lc_rs::digest::{Context, SHA256};

/// One seed for the life of the process, so that keys survive a reload and cannot be predicted from outside.
static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// A hash of who is calling; shown as 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientKey(u64);

impl ClientKey {
    /// The key of `value` within `kind`; equal values of different kinds get different keys.
    pub fn of(kind: &str, value: &[u8]) -> Self {
        let mut hasher = SEED.build_hasher();
        hasher.write(kind.as_bytes());
        hasher.write_u8(0xff);
        hasher.write(value);
        Self(hasher.finish())
    }

    /// All 64 bits, evenly spread.
    pub fn as_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What all replicas of a fleet hash with, so that they mean the same client.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FleetSeed(pub [u8; 16]);

/// A hash of who is calling that is the same on every replica; shown as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FleetKey([u8; 16]);

impl FleetKey {
    /// The key of `value` within `kind`; equal values of different kinds get different keys.
    pub fn of(seed: &FleetSeed, kind: &str, value: &[u8]) -> Self {
        let mut context = Context::new(&SHA256);
        context.update(&seed.0);
        context.update(kind.as_bytes());
        context.update(&[0xff]);
        context.update(value);
        let mut key = [0; 16];
        for (place, byte) in key.iter_mut().zip(context.finish().as_ref()) {
            *place = *byte;
        }
        Self(key)
    }
}

impl FleetKey {
    /// All 128 bits.
    pub fn as_u128(self) -> u128 {
        u128::from_be_bytes(self.0)
    }
}

impl fmt::Display for FleetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for FleetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The keys of one caller: this process's, and the fleet's where there is one.
#[derive(Clone, Copy)]
pub(super) struct Keys(pub(super) ClientKey, pub(super) Option<FleetKey>);

impl Keys {
    pub(super) fn of(seed: Option<&FleetSeed>, kind: &str, value: &[u8]) -> Self {
        let fleet = seed.map(|seed| FleetKey::of(seed, kind, value));
        Self(ClientKey::of(kind, value), fleet)
    }

    pub(super) fn of_address(seed: Option<&FleetSeed>, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self::of(seed, "ip", &v4.octets()),
            IpAddr::V6(v6) => Self::of(seed, "ip", &v6.octets()),
        }
    }
}
