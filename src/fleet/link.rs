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
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind,
    IntoConnectionInfo, RedisConnectionInfo, RedisError, RedisFuture, RedisResult, TlsCertificates,
    Value,
};
use secrecy::ExposeSecret;
use std::net::SocketAddr;
use std::sync::Arc;

/// How long making a link may take, TLS and password included; longer where answers may take long.
const CONNECT: Duration = Duration::from_millis(500);
/// Commands that may wait to be written; more wait with their callers.
const QUEUE: usize = 1024;

/// A live connection.
pub(super) enum Link {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Link {
    /// Sends a command and waits for its answer.
    pub(super) async fn send(&self, command: &Cmd) -> RedisResult<Value> {
        let answer = match self {
            Link::One(link) => link.clone().req_packed_command(command).await,
            Link::Cluster(link) => link.clone().req_packed_command(command).await,
        };
        answer.and_then(Value::extract_error)
    }

    /// Whether every part of a cluster answers; one server answers for itself by what it is asked.
    pub(super) async fn ping(&self) -> RedisResult<()> {
        if let Link::Cluster(link) = self {
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
    way: Way,
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
        let info = info(settings)?;
        let certificates = settings.authorities.clone().map(|pem| TlsCertificates {
            client_tls: None,
            root_cert: Some(pem),
        });
        let names = Names(Arc::default());
        let patience = CONNECT.max(settings.timeout * 4);
        let way = if settings.cluster {
            let mut builder = ClusterClientBuilder::new([info])
                .retries(2)
                .connection_timeout(patience)
                .response_timeout(patience)
                .async_dns_resolver(names.clone());
            if let Some(certificates) = certificates {
                builder = builder.certs(certificates);
            }
            Way::Cluster(Box::new(builder.build()?))
        } else {
            Way::One(Box::new(match certificates {
                Some(certificates) => Client::build_with_tls(info, certificates)?,
                None => Client::open(info)?,
            }))
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(patience))
            .set_response_timeout(None)
            .set_pipeline_buffer_size(QUEUE)
            .set_dns_resolver(names);
        Ok(Dialer {
            patience,
            way,
            config,
        })
    }

    /// A new link. Its upkeep runs on the runtime of the caller.
    pub(super) async fn dial(&self) -> RedisResult<Link> {
        match &self.way {
            Way::One(client) => {
                let link = client.get_multiplexed_async_connection_with_config(&self.config);
                link.await.map(Link::One)
            }
            Way::Cluster(client) => client.get_async_connection().await.map(Link::Cluster),
        }
    }
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
    Ok(address.into_connection_info()?.set_redis_settings(who))
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
