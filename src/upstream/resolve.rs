//! Names to addresses, without the system's resolver library: a static binary has none.
//!
//! Reads the machine's own resolver settings and hosts file, keeps answers for their lifetime, and
//! uses the last good answer for a while when the name servers fail. A name that does not exist is
//! a failure at once. Never blocks a worker.

use crate::clock::{self, Duration, Instant};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::ResolverConfig;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, OnceLock, PoisonError};

/// How long the last good addresses serve while name servers fail.
const LAST_GOOD: Duration = Duration::from_secs(300);
/// At most this many names are remembered.
const REMEMBERED: usize = 256;

/// The process's resolver.
#[derive(Default)]
pub struct Resolver {
    hickory: OnceLock<TokioResolver>,
    last_good: Mutex<HashMap<String, (Instant, Vec<IpAddr>)>>,
}

impl Resolver {
    /// The addresses of `host`, IPv4 first.
    ///
    /// # Errors
    /// One sentence that says why there is none.
    pub async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, String> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![address]);
        }
        if host.eq_ignore_ascii_case("localhost") {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        match self.hickory()?.lookup_ip(host).await {
            Ok(found) => {
                let mut addresses: Vec<IpAddr> = found.iter().collect();
                addresses.sort_by_key(IpAddr::is_ipv6);
                self.remember(host, &addresses);
                Ok(addresses)
            }
            Err(e) if e.is_nx_domain() => Err("it does not exist".to_owned()),
            Err(e) => self.recall(host).ok_or_else(|| e.to_string()),
        }
    }

    fn hickory(&self) -> Result<&TokioResolver, String> {
        if let Some(ready) = self.hickory.get() {
            return Ok(ready);
        }
        let built = TokioResolver::builder_tokio()
            .unwrap_or_else(|_| {
                TokioResolver::builder_with_config(
                    ResolverConfig::default(),
                    TokioRuntimeProvider::default(),
                )
            })
            .build()
            .map_err(|e| e.to_string())?;
        Ok(self.hickory.get_or_init(|| built))
    }

    fn remember(&self, host: &str, addresses: &[IpAddr]) {
        let mut known = self
            .last_good
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED && !known.contains_key(host) {
            known.clear();
        }
        known.insert(host.to_owned(), (clock::now(), addresses.to_vec()));
    }

    fn recall(&self, host: &str) -> Option<Vec<IpAddr>> {
        let known = self
            .last_good
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (at, addresses) = known.get(host)?;
        (clock::now().saturating_duration_since(*at) < LAST_GOOD).then(|| addresses.clone())
    }
}
