//! Traces: where they go, and which requests are kept.
//!
//! The specification's own variables win over the file. They are often set for a whole pod with the
//! application in mind, so what is wrong with one is a warning and leaves it unused, while what is
//! wrong in the file is a problem as everywhere.

use std::sync::Arc;

use crate::clock::Duration;
use crate::config::units::Ratio;
use crate::config::{At, Env};
use crate::telemetry::traces::Sampler;
use crate::telemetry::traces::settings::{self, Settings};
use crate::upstream::target::{Endpoint, Target};
use crate::upstream::tls;

use super::notes::Notes;

/// What is bound at start, if anything is traced, and what each reload may change.
pub(super) type Tracing = (Option<Arc<Settings>>, Sampler);

pub(super) fn compile(notes: &mut Notes<'_>, env: Env<'_>, environment: &str) -> Tracing {
    let written = &notes.config().tracing;
    let at = At::root().key("tracing");
    let mut file = None;
    if let Some(url) = &written.otlp_endpoint {
        match collector(url) {
            Ok((endpoint, base)) => file = Some((endpoint, settings::path_below(&base))),
            Err(why) => notes.problem(
                &at.key("otlp_endpoint"),
                format!("the collector's address cannot be used: {why}"),
                "an address of OTLP over HTTP, such as http://127.0.0.1:4318",
            ),
        }
    } else if written.sample.is_some() || written.service_name.is_some() {
        notes.absent(
            &at,
            "otlp_endpoint",
            "`tracing` has no otlp_endpoint",
            "give one: `otlp_endpoint: http://127.0.0.1:4318`",
        );
    }
    let mut variables = Variables { notes, env, at };
    variables.no_text();
    let sampler = variables.sampler(written.sample);
    let disabled = variables.says("OTEL_SDK_DISABLED", "true")
        || variables.says("OTEL_TRACES_EXPORTER", "none");
    let Some((endpoint, path)) = variables.endpoint().or(file).filter(|_| !disabled) else {
        return (None, sampler);
    };
    let name = written.service_name.as_ref().map(|name| name.as_str());
    let settings = variables.settings((endpoint, path), name, environment);
    (Some(Arc::new(settings)), sampler)
}

/// The host, and the path without a slash at its end.
fn collector(url: &str) -> Result<(Arc<Endpoint>, String), String> {
    let target = Target::parse(url)?;
    let endpoint = target.endpoint(None).ok_or("it has a parameter")?;
    Ok((endpoint, target.base().to_owned()))
}

/// Every one that is read here.
const READ: [&str; 18] = [
    "OTEL_SDK_DISABLED",
    "OTEL_TRACES_EXPORTER",
    "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG",
    "OTEL_BSP_SCHEDULE_DELAY",
    "OTEL_BSP_MAX_QUEUE_SIZE",
    "OTEL_SERVICE_NAME",
    "OTEL_RESOURCE_ATTRIBUTES",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_EXPORTER_OTLP_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_TIMEOUT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
    "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
];

/// The specification's variables.
struct Variables<'n, 's, 'e> {
    notes: &'n mut Notes<'s>,
    env: Env<'e>,
    at: At,
}

impl Variables<'_, '_, '_> {
    /// One that is set and not empty.
    fn get(&self, name: &str) -> Option<String> {
        let value = (self.env)(name)?.into_string().ok();
        value.filter(|value| !value.trim().is_empty())
    }

    /// Those that are set and cannot be read at all.
    fn no_text(&mut self) {
        for name in READ {
            if (self.env)(name).is_some_and(|value| value.to_str().is_none()) {
                self.unused(name, "it is not UTF-8");
            }
        }
    }

    /// The first of those for traces and for all signals that is set, with its name.
    fn either(&self, rest: &str) -> Option<(String, String)> {
        ["OTEL_EXPORTER_OTLP_TRACES_", "OTEL_EXPORTER_OTLP_"]
            .into_iter()
            .map(|prefix| format!("{prefix}{rest}"))
            .find_map(|name| self.get(&name).map(|value| (name, value)))
    }

    fn says(&self, name: &str, wanted: &str) -> bool {
        self.get(name)
            .is_some_and(|value| value.trim().eq_ignore_ascii_case(wanted))
    }

    fn unused(&mut self, name: &str, why: &str) {
        let what = format!("the variable {name} is not used: {why}");
        self.notes.warn(&self.at, what, "correct or unset it");
    }

    /// Reads one, or warns that it cannot be.
    fn read<T>(&mut self, name: &str, value: Result<T, String>) -> Option<T> {
        value.map_err(|why| self.unused(name, &why)).ok()
    }

    fn endpoint(&mut self) -> Option<(Arc<Endpoint>, String)> {
        let (name, url) = self.either("ENDPOINT")?;
        if let Some((protocol, value)) = self.either("PROTOCOL")
            && value.trim() != "http/protobuf"
        {
            let why = format!("traces go to {name} as http/protobuf all the same");
            self.unused(&protocol, &why);
        }
        let (endpoint, base) = self.read(&name, collector(url.trim()))?;
        let path = match name.contains("TRACES") {
            true if base.is_empty() => "/".to_owned(),
            true => base,
            false => settings::path_below(&base),
        };
        Some((endpoint, path))
    }

    fn sampler(&mut self, share: Option<Ratio>) -> Sampler {
        let file = share.map_or(Sampler::default(), |share| Sampler::share(share.get()));
        let Some(name) = self.get("OTEL_TRACES_SAMPLER") else {
            return file;
        };
        let share = self.get("OTEL_TRACES_SAMPLER_ARG").and_then(|text| {
            let share = text.trim().parse::<f64>().ok();
            let share = share.filter(|share| (0.0..=1.0).contains(share));
            let share = share.ok_or_else(|| "it is no share from 0 to 1".to_owned());
            self.read("OTEL_TRACES_SAMPLER_ARG", share)
        });
        let sampler = Sampler::named(name.trim(), share.unwrap_or(1.0));
        let why = "it is not always_on, always_off or traceidratio, with or without parentbased_";
        self.read("OTEL_TRACES_SAMPLER", sampler.ok_or_else(|| why.to_owned()))
            .unwrap_or(file)
    }

    /// A whole number of at least 1.
    fn count(&mut self, (name, value): (String, String)) -> Option<u32> {
        let count = value.trim().parse().ok().filter(|count| *count > 0);
        self.read(
            &name,
            count.ok_or_else(|| "it is no number above 0".to_owned()),
        )
    }

    fn named_count(&mut self, name: &str) -> Option<u32> {
        let value = self.get(name)?;
        self.count((name.to_owned(), value))
    }

    fn settings(
        &mut self,
        (endpoint, path): (Arc<Endpoint>, String),
        name: Option<&str>,
        environment: &str,
    ) -> Settings {
        let headers = self.either("HEADERS");
        let headers = headers.and_then(|(name, text)| self.read(&name, settings::headers(&text)));
        let ca_file = self.either("CERTIFICATE").and_then(|(name, path)| {
            let roots = tls::read_roots(path.as_ref());
            self.read(&name, roots.map(|_| path.into()))
        });
        let timeout = self.either("TIMEOUT").and_then(|found| self.count(found));
        let gather = self.named_count("OTEL_BSP_SCHEDULE_DELAY");
        let queue = self.named_count("OTEL_BSP_MAX_QUEUE_SIZE");
        let millis = |ms: u32| Duration::from_millis(ms.into());
        Settings {
            endpoint,
            path,
            headers: headers.unwrap_or_default(),
            ca_file,
            timeout: timeout.map_or(Duration::from_secs(10), millis),
            gather: gather.map_or(Duration::from_secs(1), millis),
            queue: usize::try_from(queue.unwrap_or(4096)).unwrap_or(4096),
            resource: self.resource(name, environment),
        }
    }

    /// Who we are: the variable for the name alone, then the list, then the file, then what we know.
    fn resource(&mut self, name: Option<&str>, environment: &str) -> Vec<(String, String)> {
        const LIST: &str = "OTEL_RESOURCE_ATTRIBUTES";
        let list = self.get(LIST);
        let list = list.and_then(|text| self.read(LIST, settings::pairs(&text)));
        let mut all: Vec<(String, String)> = Vec::new();
        let own = self.get("OTEL_SERVICE_NAME").map(|n| ("service.name", n));
        let last = [
            ("service.name", name.unwrap_or("trunkline")),
            ("service.version", env!("CARGO_PKG_VERSION")),
            ("deployment.environment.name", environment),
        ];
        let own = own.map(|(key, value)| (key.to_owned(), value));
        let last = last.map(|(key, value)| (key.to_owned(), value.to_owned()));
        for (key, value) in own.into_iter().chain(list.unwrap_or_default()).chain(last) {
            if !all.iter().any(|(other, _)| *other == key) {
                all.push((key, value));
            }
        }
        all
    }
}
