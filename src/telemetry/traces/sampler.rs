//! Which requests are traced: decided before anything is spent on one.
//!
//! The same decisions as the OpenTelemetry SDKs make, so that every service on a request's way
//! keeps the same traces.

use super::context::Parent;

/// Decides whether a request is traced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sampler {
    /// Whether a request that names its parent follows it.
    follows: bool,
    root: Root,
}

/// What is decided where nobody decided before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Root {
    Always,
    Never,
    /// Traces whose id's lower 63 bits are below this.
    Below(u64),
}

const HALF: f64 = 9_223_372_036_854_775_808.0;

impl Default for Sampler {
    /// `parentbased_always_on`.
    fn default() -> Self {
        Sampler {
            follows: true,
            root: Root::Always,
        }
    }
}

impl Sampler {
    /// Follows the parent; without one, this share of the traces, 0.0 to 1.0.
    pub fn share(share: f64) -> Self {
        Sampler {
            follows: true,
            root: root(share),
        }
    }

    /// The sampler that `OTEL_TRACES_SAMPLER` names, with the share of `OTEL_TRACES_SAMPLER_ARG`.
    /// `None`: there is none of that name.
    pub fn named(name: &str, share: f64) -> Option<Self> {
        let (follows, rest) = match name.strip_prefix("parentbased_") {
            Some(rest) => (true, rest),
            None => (false, name),
        };
        let root = match rest {
            "always_on" => Root::Always,
            "always_off" => Root::Never,
            "traceidratio" => root(share),
            _ => return None,
        };
        Some(Sampler { follows, root })
    }

    /// Whether the request is traced.
    pub fn keeps(self, parent: Option<Parent>, trace: u128) -> bool {
        match (parent, self.root) {
            (Some(parent), _) if self.follows => parent.is_sampled(),
            (_, Root::Always) => true,
            (_, Root::Never) => false,
            (_, Root::Below(bound)) => low(trace) >> 1 < bound,
        }
    }

    /// In words, for `explain`.
    pub fn words(self) -> String {
        let share = match self.root {
            Root::Always => "every request".to_owned(),
            Root::Never => "no request".to_owned(),
            #[allow(clippy::cast_precision_loss, reason = "a share is only shown")]
            Root::Below(bound) => format!("{}% of requests", bound as f64 / HALF * 100.0),
        };
        match self.follows {
            true => format!("{share}, or as its caller's trace decides"),
            false => share,
        }
    }
}

/// The bound below which the lower 63 bits of a trace's id must lie.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between 0 and 2^63"
)]
fn root(share: f64) -> Root {
    match share {
        share if share >= 1.0 => Root::Always,
        share if share <= 0.0 => Root::Never,
        share => Root::Below((share * HALF) as u64),
    }
}

fn low(trace: u128) -> u64 {
    u64::try_from(trace & u128::from(u64::MAX)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use http::HeaderValue;

    fn parent(flags: &str) -> Option<Parent> {
        let text = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}");
        Parent::read(&HeaderValue::from_str(&text).unwrap())
    }

    #[test]
    fn a_parent_decides_for_those_who_follow_it() {
        for name in ["always_on", "always_off", "traceidratio"] {
            let follows = Sampler::named(&format!("parentbased_{name}"), 0.0).unwrap();
            assert!(follows.keeps(parent("01"), 1), "{name}");
            assert!(!follows.keeps(parent("00"), 1), "{name}");
        }
        let off = Sampler::named("always_off", 1.0).unwrap();
        assert!(!off.keeps(parent("01"), 1));
        let on = Sampler::named("always_on", 0.0).unwrap();
        assert!(on.keeps(parent("00"), 1));
        assert_eq!(Sampler::named("jaeger_remote", 1.0), None);
    }

    #[test]
    fn a_share_of_traces_is_kept_by_their_ids_alone() {
        let half = Sampler::share(0.5);
        assert!(half.keeps(None, 0x7fff_ffff_ffff_ffff));
        assert!(!half.keeps(None, 0x8000_0000_0000_0000));
        assert!(Sampler::share(1.0).keeps(None, u128::MAX));
        assert!(!Sampler::share(0.0).keeps(None, 1));
        let tenth = Sampler::share(0.1);
        let mut random = fastrand::Rng::with_seed(7);
        let kept = (0..10_000)
            .filter(|_| tenth.keeps(None, random.u128(..)))
            .count();
        assert!((800..1200).contains(&kept), "{kept}");
        assert_eq!(
            tenth.words(),
            "10% of requests, or as its caller's trace decides"
        );
    }
}
