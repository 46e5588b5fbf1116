//! Which routes can be read from their end, so that a vendor's addresses become ours again.

use crate::config::schema::Route;
use crate::profile::Profile;
use crate::routes::back::{Back, Home};
use crate::routes::plan::UpstreamPlan;
use crate::upstream::target::Target;

/// The way back of a route, where its rewrite only changes what stands before the rest.
pub(super) fn of(route: &Route, upstream: &UpstreamPlan) -> Option<Back> {
    let path = route.r#match.path.as_deref()?;
    let (before, tail) = path.rsplit_once("/{*")?;
    let tail = tail.strip_suffix('}')?;
    let ours: Vec<Option<String>> = pieces(before);
    let sent = match route.rewrite.as_deref() {
        Some(rewrite) => rewrite.strip_suffix(&format!("/{{{tail}}}"))?,
        None => before,
    };
    if sent.contains('{') {
        return None;
    }
    let parameter = parameter(before)?;
    let homes = homes(upstream).into_iter();
    let homes: Vec<Home> = homes
        .filter(|home| home.parameter.as_deref() == parameter)
        .collect();
    let sent = sent.to_owned();
    (!homes.is_empty()).then_some(Back { homes, sent, ours })
}

/// The only parameter of the path before its rest; nothing at all where there are several.
fn parameter(before: &str) -> Option<Option<&str>> {
    let mut names = before
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let first = names.next();
    names.next().is_none().then_some(first)
}

/// The text of a path, and the place of its parameter in it.
fn pieces(before: &str) -> Vec<Option<String>> {
    match before.split_once('{') {
        None => vec![Some(before.to_owned())],
        Some((text, rest)) => {
            let after = rest.split_once('}').map_or("", |(_, after)| after);
            vec![Some(text.to_owned()), None, Some(after.to_owned())]
        }
    }
}

/// Where an upstream is: at its own URL and, where that is a stand-in for the vendor, at the vendor's.
fn homes(upstream: &UpstreamPlan) -> Vec<Home> {
    let own = home(&upstream.target);
    let vendors = upstream.profile.rules().homes.iter();
    let vendors: Vec<Home> = vendors
        .filter_map(|url| Some(home(&Target::parse(url).ok()?)))
        .collect();
    let is_vendor = vendors
        .iter()
        .any(|vendor| domain(&vendor.authority) == domain(&own.authority));
    let mut homes = vec![own];
    if !is_vendor {
        homes.extend(vendors);
    }
    homes
}

fn home(target: &Target) -> Home {
    let authority = target.authority();
    Home {
        tls: target.tls(),
        authority: authority.to_ascii_lowercase(),
        parameter: target.parameter().map(str::to_owned),
        base: target.base().to_owned(),
    }
}

/// The last two labels of a host.
fn domain(authority: &str) -> Option<(&str, &str)> {
    let mut labels = authority.rsplit('.');
    let last = labels.next()?;
    Some((labels.next()?, last))
}

/// Whether a profile knows of addresses in its answers.
pub(super) fn is_known(profile: &Profile) -> bool {
    !profile.rules().addresses.is_empty()
}
