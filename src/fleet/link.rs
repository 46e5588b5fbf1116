//! One connection to the store, or to a cluster of them, and how it is made.
//!
//! A link carries any number of commands at once, in the order in which they were given. It never
//! tries again, never waits longer than its caller does, and is not repaired: a broken one is
//! replaced by the keeper. Names are resolved by our own resolver.

use super::settings::Settings;
use crate::clock::Duration;
use crate::upstream::resolve::Resolver;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{MultipleNodeRoutingInfo, ResponsePolicy, RoutingInfo};
use redis::io::AsyncDNSResolver;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind,
    IntoConnectionInfo, RedisConnectionInfo, RedisError, RedisFuture, RedisResult, TlsCertificates,
    Value,
};
use secrecy::{ExposeSecret, SecretString};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How long making a link may take, TLS and password included; longer where answers may take long.
const CONNECT: Duration = Duration::from_millis(500);
/// Commands that may wait to be written; more wait with their callers.
const QUEUE: usize = 1024;

/// A live connection.
pub(super) struct Link {
    line: Line,
    /// Scripts that were run here, by the names under which the store keeps them.
    known: Mutex<HashSet<String>>,
}

enum Line {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Link {
    fn over(line: Line) -> Link {
        Link {
            line,
            known: Mutex::default(),
        }
    }

    /// Whether a script of that name was run here.
    pub(super) fn knows(&self, script: &str) -> bool {
        self.known().contains(script)
    }

    /// A script of that name was run here.
    pub(super) fn learn(&self, script: &str) {
        self.known().insert(script.to_owned());
    }

    fn known(&self) -> MutexGuard<'_, HashSet<String>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a command and waits for its answer.
    pub(super) async fn send(&self, command: &Cmd) -> RedisResult<Value> {
        let answer = match &self.line {
            Line::One(link) => link.clone().req_packed_command(command).await,
            Line::Cluster(link) => link.clone().req_packed_command(command).await,
        };
        answer.and_then(Value::extract_error)
    }

    /// Whether every part of a cluster answers; one server answers for itself by what it is asked.
    pub(super) async fn ping(&self) -> RedisResult<()> {
        if let Line::Cluster(link) = &self.line {
            let all = MultipleNodeRoutingInfo::AllMasters;
            let routing = RoutingInfo::MultiNode((all, Some(ResponsePolicy::AllSucceeded)));
            let ping = redis::cmd("PING");
            link.clone().route_command(ping, routing).await?;
        }
        Ok(())
    }
}

/// Makes links.
pub(super) struct Dialer {
    pub(super) patience: Duration,
    settings: Settings,
    way: Way,
    names: Names,
    config: AsyncConnectionConfig,
}

enum Way {
    One(Box<Client>),
    Cluster(Box<ClusterClient>),
}

impl Dialer {
    /// One that reaches what `settings` name. Sends nothing.
    ///
    /// # Errors
    /// Settings that make no sense to the client.
    pub(super) fn new(settings: &Settings) -> RedisResult<Dialer> {
        let names = Names(Arc::default());
        let patience = CONNECT.max(settings.timeout * 4);
        let way = way(settings, patience, &names)?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(patience))
            .set_response_timeout(None)
            .set_pipeline_buffer_size(QUEUE)
            .set_dns_resolver(names.clone());
        Ok(Dialer {
            patience,
            settings: settings.clone(),
            way,
            names,
            config,
        })
    }

    /// Reads the password's file again, if there is one; what is gone or empty changes nothing.
    fn read_password(&mut self) -> RedisResult<()> {
        let Some(file) = &self.settings.password_file else {
            return Ok(());
        };
        let held = std::fs::read_to_string(file).unwrap_or_default();
        let held = held.trim_end_matches(['\r', '\n']);
        if !held.trim().is_empty() {
            self.settings.password = Some(SecretString::from(held));
            self.way = way(&self.settings, self.patience, &self.names)?;
        }
        Ok(())
    }

    /// A new link. Its upkeep runs on the runtime of the caller.
    pub(super) async fn dial(&mut self) -> RedisResult<Link> {
        self.read_password()?;
        match &self.way {
            Way::One(client) => {
                let link = client.get_multiplexed_async_connection_with_config(&self.config);
                link.await.map(Line::One).map(Link::over)
            }
            Way::Cluster(client) => {
                let link = client.get_async_connection().await;
                link.map(Line::Cluster).map(Link::over)
            }
        }
    }
}

fn way(settings: &Settings, patience: Duration, names: &Names) -> RedisResult<Way> {
    let info = info(settings)?;
    let certificates = settings.authorities.clone().map(|pem| TlsCertificates {
        client_tls: None,
        root_cert: Some(pem),
    });
    if settings.cluster {
        let mut builder = ClusterClientBuilder::new([info])
            .retries(2)
            .connection_timeout(patience)
            .response_timeout(patience)
            .tcp_settings(at_once())
            .async_dns_resolver(names.clone());
        if let Some(certificates) = certificates {
            builder = builder.certs(certificates);
        }
        return Ok(Way::Cluster(Box::new(builder.build()?)));
    }
    Ok(Way::One(Box::new(match certificates {
        Some(certificates) => Client::build_with_tls(info, certificates)?,
        None => Client::open(info)?,
    })))
}

fn info(settings: &Settings) -> RedisResult<ConnectionInfo> {
    let (host, port) = (settings.host.clone(), settings.port);
    let address = match settings.tls {
        false => ConnectionAddr::Tcp(host, port),
        true => ConnectionAddr::TcpTls {
            host,
            port,
            insecure: false,
            tls_params: None,
        },
    };
    let mut who = RedisConnectionInfo::default()
        .set_db(settings.database)
        .set_skip_set_lib_name();
    if let Some(username) = &settings.username {
        who = who.set_username(username);
    }
    if let Some(password) = &settings.password {
        who = who.set_password(password.expose_secret());
    }
    let info = address.into_connection_info()?;
    Ok(info.set_redis_settings(who).set_tcp_settings(at_once()))
}

/// A command goes out when it is given, and does not wait for what the store says to the one before.
fn at_once() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}

/// The client's names, resolved as an upstream's are.
#[derive(Clone)]
struct Names(Arc<Resolver>);

impl AsyncDNSResolver for Names {
    fn resolve<'a, 'b: 'a>(
        &'a self,
        host: &'b str,
        port: u16,
    ) -> RedisFuture<'a, Box<dyn Iterator<Item = SocketAddr> + Send + 'a>> {
        Box::pin(async move {
            let found = self.0.addresses(host).await;
            let found = found
                .map_err(|why| RedisError::from((ErrorKind::Io, "its name has no address", why)))?;
            let addresses = found.into_iter().map(move |ip| SocketAddr::new(ip, port));
            Ok(Box::new(addresses) as Box<dyn Iterator<Item = SocketAddr> + Send>)
        })
    }
}
