//! The routes: what each matches, where it leads, and under which policies.

use std::collections::HashSet;
use std::sync::Arc;

use crate::clock::Duration;
use crate::config::schema::Route;
use crate::config::{At, Config};
use crate::policy::concurrency::Concurrency;
use crate::policy::deadline::DeadlineField;
use crate::policy::retry::RetrySettings;
use crate::profile::{Dialect, Profile};
use crate::routes::back::Back;
use crate::routes::pattern::{PathPattern, Rewrite, Slot};
use crate::routes::plan::{Authorizes, CredentialPlan, Process, RoutePlan, Timeouts, UpstreamPlan};
use crate::routes::rule::Rule;
use crate::webhook::Check;

use super::notes::Notes;
use super::{
    Known, attempts, backs, breakers, credentials, ladders, profiles, rules, stored, stubs,
    webhooks,
};

/// How long a create of unknown outcome is not repeated, unless the file says otherwise.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(60);

/// Rules and routes of the file, in its order and under one index.
pub(super) fn compile(
    notes: &mut Notes<'_>,
    process: &Process,
    known: Known<'_>,
) -> (Vec<Rule>, Vec<RoutePlan>) {
    let written = &notes.config().routes;
    if written.is_empty() {
        let at = At::root().key("routes");
        notes.problem(
            &at,
            "there are no routes, so that nothing could ever be answered",
            "add one",
        );
    }
    let lines = notes.lines("routes", written.len());
    let mut taken = HashSet::new();
    let each = written.iter().zip(lines).enumerate();
    each.map(|(index, (route, line))| {
        let at = At::root().key("routes").index(index);
        check_name(notes, &at, route, &mut taken);
        let rule = rules::rule(notes, &at.key("match"), &route.r#match, process);
        let draft = Draft {
            at,
            route,
            profiles: known.profiles,
            upstreams: known.upstreams,
            credentials: known.credentials,
        };
        let plan = draft.plan(notes, &rule, line);
        (rule, plan)
    })
    .unzip()
}

fn check_name<'s>(notes: &mut Notes<'s>, at: &At, route: &'s Route, taken: &mut HashSet<&'s str>) {
    let Some(name) = &route.name else {
        let hint = "add `name: ...`: metrics, logs and answers call it that";
        return notes.absent(at, "name", "this route has no name", hint);
    };
    notes.check_name(&at.key("name"), name);
    if !taken.insert(name) {
        let name = notes.named(&at.key("name"), &format!("`{name}`"));
        let what = format!("another route is called {name} already");
        notes.problem(&at.key("name"), what, "give each route a name of its own");
    }
}

/// One route on its way to its plan.
struct Draft<'a> {
    at: At,
    route: &'a Route,
    profiles: &'a [Profile],
    upstreams: &'a [UpstreamPlan],
    credentials: &'a [CredentialPlan],
}

impl Draft<'_> {
    fn plan(&self, notes: &mut Notes<'_>, rule: &Rule, line: usize) -> RoutePlan {
        let route = self.route;
        let index = self.upstream(notes);
        let upstream = index.and_then(|index| self.upstreams.get(index));
        let profile = self.profile(notes, upstream);
        let stub = route.stub.as_ref();
        let authorizes = self.authorizes(notes, upstream);
        let fallback = ladders::compile(notes, &self.at, route, rule, self.upstreams);
        let lead = (authorizes, fallback.as_slice(), self.upstreams);
        let verify = route.verify.as_ref();
        let verify = verify.and_then(|v| webhooks::compile(notes, &self.at.key("verify"), v));
        let timeouts = self.timeouts(notes, verify.as_ref());
        RoutePlan {
            name: route
                .name
                .as_ref()
                .map_or("", |name| name.as_str())
                .to_owned(),
            line,
            upstream: index,
            authorizes,
            callers: credentials::callers(notes, &self.at, route, rule, lead),
            back: upstream.and_then(|upstream| self.back(upstream)),
            rewrite: self.rewrite(notes, rule),
            host_param: upstream.and_then(|upstream| self.host_param(notes, upstream, rule)),
            restricted: restricted(upstream, &profile, rule),
            limits: self.limits(notes),
            breaker: self.breaker(notes),
            verify: verify.map(Arc::new),
            stub: stub
                .and_then(|stub| stubs::compile(notes, &self.at.key("stub"), stub))
                .map(Arc::new),
            profile,
            timeouts,
            deadline: self.deadline(notes.config()),
            retry: self.retry(notes),
            creates: route.creates.map(|flag| flag.get()),
            duplicate_window: self.duplicate_window(notes),
            concurrency: self.concurrency(notes),
            cache: stored::compile(notes, &self.at, route).map(Arc::new),
            fallback,
        }
    }

    /// By its own credential, else by its upstream's.
    fn authorizes(&self, notes: &mut Notes<'_>, upstream: Option<&UpstreamPlan>) -> Authorizes {
        let written = self.route.credential.as_ref();
        if let (Some(_), None) = (written, &self.route.upstream) {
            let what = "a credential has no effect without an upstream";
            notes.problem(&self.at.key("credential"), what, "remove it");
        }
        credentials::used(notes, &self.at, written, self.credentials)
            .or(upstream.map(|upstream| upstream.authorizes))
            .unwrap_or(Authorizes::Caller)
    }

    fn profile(&self, notes: &mut Notes<'_>, upstream: Option<&UpstreamPlan>) -> Profile {
        let at = self.at.key("profile");
        let own = profiles::named(notes, &at, self.route.profile.as_ref(), self.profiles);
        own.or_else(|| upstream.map(|upstream| upstream.profile.clone()))
            .unwrap_or(Profile::from(Dialect::Generic))
    }

    /// The way back, unless the answers are to stay as the vendor gives them.
    fn back(&self, upstream: &UpstreamPlan) -> Option<Back> {
        let written = self.route.rewrite_answers.map(|flag| flag.get());
        let on = written.or(upstream.rewrite_answers);
        let on = on.unwrap_or_else(|| backs::is_known(&upstream.profile));
        on.then(|| backs::of(self.route, upstream)).flatten()
    }

    fn timeouts(&self, notes: &mut Notes<'_>, verify: Option<&Check>) -> Timeouts {
        let config = notes.config();
        let own = &self.route.timeouts;
        breakers::check_timeouts(notes, &self.at.key("timeouts"), own);
        let name = self.route.upstream.as_deref();
        let upstream = name.and_then(|name| config.upstreams.get(name));
        let timeouts = match upstream {
            Some(upstream) => {
                breakers::timeouts(&[own, &upstream.timeouts, &config.defaults.timeouts])
            }
            None => breakers::timeouts(&[own, &config.defaults.timeouts]),
        };
        match verify {
            Some(check) => webhooks::timeouts(notes, &self.at, (own, timeouts), check),
            None => timeouts,
        }
    }

    fn deadline(&self, config: &Config) -> Option<DeadlineField> {
        let own = &self.route.timeouts;
        let name = self.route.upstream.as_deref();
        match name.and_then(|name| config.upstreams.get(name)) {
            Some(upstream) => {
                breakers::deadline(&[own, &upstream.timeouts, &config.defaults.timeouts])
            }
            None => None,
        }
    }

    fn retry(&self, notes: &mut Notes<'_>) -> RetrySettings {
        let config = notes.config();
        let own = &self.route.retry;
        attempts::check_retry(notes, &self.at.key("retry"), own);
        let name = self.route.upstream.as_deref();
        match name.and_then(|name| config.upstreams.get(name)) {
            Some(upstream) => attempts::retry(&[own, &upstream.retry, &config.defaults.retry]),
            None => attempts::retry(&[own, &config.defaults.retry]),
        }
    }

    fn duplicate_window(&self, notes: &Notes<'_>) -> Duration {
        let config = notes.config();
        let name = self.route.upstream.as_deref();
        let upstream = name.and_then(|name| config.upstreams.get(name));
        let own = self.route.duplicate_window;
        own.or(upstream.and_then(|u| u.duplicate_window))
            .or(config.defaults.duplicate_window)
            .map_or(DUPLICATE_WINDOW, |window| window.get())
    }

    /// A share of the route's own, where it says anything of one.
    fn concurrency(&self, notes: &Notes<'_>) -> Option<Concurrency> {
        let config = notes.config();
        let own = &self.route.concurrency;
        let name = self.route.upstream.as_deref()?;
        let upstream = config.upstreams.get(name)?;
        let layers = [own, &upstream.concurrency, &config.defaults.concurrency];
        attempts::is_given(own).then(|| attempts::concurrency(&layers))
    }

    fn upstream(&self, notes: &mut Notes<'_>) -> Option<usize> {
        let Some(wanted) = &self.route.upstream else {
            if self.route.stub.is_none() {
                let what = "this route has neither an upstream nor a stub";
                let hint = "add `upstream: ...` or `stub: { ... }`";
                if !notes.is_unread(&self.at.key("stub")) {
                    notes.absent(&self.at, "upstream", what, hint);
                }
            }
            return None;
        };
        let known = self.upstreams.iter().map(|upstream| upstream.name.as_str());
        notes.resolve(&self.at.key("upstream"), wanted, "upstreams", known)
    }

    fn rewrite(&self, notes: &mut Notes<'_>, rule: &Rule) -> Option<Rewrite> {
        let written = self.route.rewrite.as_ref()?;
        let at = self.at.key("rewrite");
        if self.route.upstream.is_none() {
            notes.problem(
                &at,
                "a rewrite has no effect without an upstream",
                "remove it",
            );
        }
        if self.route.r#match.path.is_none() {
            let hint = "add `match: { path: \"/{*rest}\" }`";
            notes.problem(&at, "a rewrite needs the path that it rewrites", hint);
            return None;
        }
        let path = rule.path.as_ref()?;
        let known: Vec<&str> = PathPattern::params(path).collect();
        rules::parsed(notes, &at, Rewrite::parse(written, &known))
    }

    /// Where the parameter that leads the upstream's host is found in a request.
    fn host_param(
        &self,
        notes: &mut Notes<'_>,
        upstream: &UpstreamPlan,
        rule: &Rule,
    ) -> Option<Slot> {
        let name = upstream.target.parameter()?;
        let slot = rule.slot(name);
        let written = &self.route.r#match;
        let unread = written.path.is_some() != rule.path.is_some()
            || written.host.is_some() != rule.host.is_some();
        if slot.is_none() && !unread {
            notes.problem(
                &self.at.key("match"),
                format!(
                    "{} is at a host led by `{{{name}}}`, which this route does not have",
                    upstream.name
                ),
                format!("put `{{{name}}}` into its path or in front of its host"),
            );
        }
        slot
    }

    fn limits(&self, notes: &mut Notes<'_>) -> Vec<usize> {
        let wanted = self.route.rate_limit.as_deref().unwrap_or_default();
        let known: Vec<&str> = notes.config().rate_limits.names().collect();
        let mut limits = Vec::with_capacity(wanted.len());
        for (index, name) in wanted.iter().enumerate() {
            let found = known.iter().position(|known| *known == name.as_str());
            match found {
                Some(limit) if !limits.contains(&limit) => limits.push(limit),
                Some(_) => {
                    let what = format!("the limit {name} is named twice");
                    notes.problem(&self.limit_at(notes, index), what, "remove one of the two");
                }
                None => {
                    let at = self.limit_at(notes, index);
                    notes.resolve(&at, name, "rate_limits", known.iter().copied());
                }
            }
        }
        limits
    }

    /// The place of a limit's name: that of the key where it is the only one and no list.
    fn limit_at(&self, notes: &Notes<'_>, index: usize) -> At {
        let key = self.at.key("rate_limit");
        if notes.source().is_list(&key) {
            key.index(index)
        } else {
            key
        }
    }

    fn breaker(&self, notes: &mut Notes<'_>) -> Option<usize> {
        let wanted = self.route.breaker.as_ref()?;
        let at = self.at.key("breaker");
        if self.route.upstream.is_none() {
            notes.problem(
                &at,
                "a breaker has no effect without an upstream",
                "remove it",
            );
        }
        let known: Vec<&str> = notes.config().breakers.names().collect();
        notes.resolve(&at, wanted, "breakers", known.into_iter())
    }
}

/// The parameters whose values are a closed list, whether or not a URL uses them.
fn restricted(
    upstream: Option<&UpstreamPlan>,
    profile: &Profile,
    rule: &Rule,
) -> Vec<(Slot, String)> {
    let closed = |name: &str| match upstream {
        Some(upstream) => {
            upstream.profile.restricts(name)
                || upstream.allow.iter().any(|(known, _)| known == name)
        }
        None => profile.restricts(name),
    };
    let params = rule.params().filter(|(name, _)| closed(name));
    params.map(|(name, slot)| (slot, name.to_owned())).collect()
}
