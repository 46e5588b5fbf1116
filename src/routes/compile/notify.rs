//! Who is told of every change of a circuit: address, secrets, waits, and what messages say of us.
//!
//! The address may hold a token, so nothing of it is repeated in a problem. Opens files and no socket.

use std::net::IpAddr;
use std::sync::Arc;

use crate::clock::Duration;
use crate::config::schema::Notify;
use crate::config::{At, Env};
use crate::herald::{About, Address, Settings};
use crate::routes::plan::{Plan, RoutePlan, UpstreamPlan};
use crate::upstream::tls::{self, Tls, TlsSettings};
use crate::webhook::Written;

use super::breakers::positive;
use super::notes::Notes;
use super::store;
use super::webhooks::{Sources, secrets};

/// News of a day ago are none.
const LONGEST: Duration = Duration::from_secs(86_400);

pub(super) fn compile(notes: &mut Notes<'_>, plan: &Plan, env: Env<'_>) -> Option<Arc<Settings>> {
    let written = notes.config().notify.as_ref()?;
    let at = At::root().key("notify");
    let address = address(notes, &at, written)?;
    let sources = Sources {
        given: ("secrets", &written.secrets),
        files: ("secret_file", &written.secret_file),
        whose: "give a long random one, such as of `openssl rand -hex 32`",
    };
    let secrets = secrets(notes, &at, &sources, Written::Standard);
    let tls = trust(notes, &at, written);
    warn(notes, &at, &address);
    let timeout = positive(notes, &at.key("timeout"), written.timeout);
    let give_up = positive(notes, &at.key("give_up_after"), written.give_up_after);
    if give_up.is_some_and(|wait| wait > LONGEST) {
        let what = "a change is told for a day at most";
        notes.problem(&at.key("give_up_after"), what, "5m is usual");
    }
    let mut settings = Settings::new(address, tls, secrets?);
    settings.timeout = timeout.unwrap_or(settings.timeout);
    settings.give_up_after = give_up.unwrap_or(settings.give_up_after);
    settings.about = about(notes, plan, env);
    Some(Arc::new(settings))
}

/// What messages say of the process that sends them.
fn about(notes: &Notes<'_>, plan: &Plan, env: Env<'_>) -> About {
    let written = notes.config().notify.as_ref();
    let named = written.and_then(|notify| notify.instance.as_ref());
    let named = named.map(|name| name.as_str().to_owned());
    About {
        instance: named.unwrap_or_else(|| machine(env)),
        environment: plan.environment,
        config: plan.hash.clone(),
        guards: guards(plan),
    }
}

/// The machine's name: in a pod, the pod's.
fn machine(env: Env<'_>) -> String {
    let kernels = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let given = env("HOSTNAME").and_then(|name| name.into_string().ok());
    let name = given.or_else(kernels).unwrap_or_default();
    name.trim().to_owned()
}

/// The upstreams that each circuit guards.
fn guards(plan: &Plan) -> Vec<(String, Vec<String>)> {
    let own = |upstream: &UpstreamPlan| (upstream.name.clone(), vec![upstream.name.clone()]);
    let mut guards: Vec<(String, Vec<String>)> = plan.upstreams.iter().map(own).collect();
    for (index, breaker) in plan.breakers.iter().enumerate() {
        let joins = |route: &&RoutePlan| route.breaker == Some(index);
        let joined = plan.routes.iter().filter(joins);
        let joined = joined.filter_map(|route| plan.upstreams.get(route.upstream?));
        let mut names: Vec<String> = joined.map(|upstream| upstream.name.clone()).collect();
        names.sort();
        names.dedup();
        guards.push((breaker.name.clone(), names));
    }
    guards
}

fn address(notes: &mut Notes<'_>, at: &At, written: &Notify) -> Option<Address> {
    let places = (&written.url, &written.url_file);
    let lack = (
        "`notify` has no url",
        "add `url: https://hooks.example.com/...`",
    );
    let (key, url) = store::url(notes, at, places, lack)?;
    let read = Address::parse(&url);
    read.map_err(|why| {
        let what = format!("the receiver's address cannot be used: {why}");
        let hint = "write it like https://hooks.example.com/trunkline";
        notes.problem(&at.key(key), what, hint);
    })
    .ok()
}

fn trust(notes: &mut Notes<'_>, at: &At, written: &Notify) -> Tls {
    let at = at.key("ca_file");
    let Some(file) = &written.ca_file else {
        return Tls::default();
    };
    let shown = notes.source().shown(&at);
    let roots = tls::read_roots(&notes.path(file));
    if let Err(why) = &roots {
        let what = format!("the file {shown} cannot be used: {why}");
        let hint = "paths are relative to the directory of this file";
        notes.problem(&at, what, hint);
    }
    Tls::new(TlsSettings {
        roots: roots.ok(),
        ..TlsSettings::default()
    })
}

/// A signature keeps a message from being changed, not from being read.
fn warn(notes: &mut Notes<'_>, at: &At, address: &Address) {
    let host = &address.endpoint().host;
    let near = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if !address.endpoint().tls && !near {
        let what = "notifications cross the network unencrypted";
        notes.warn(
            at,
            what,
            "write https:// in the URL if the receiver speaks TLS",
        );
    }
}
