//! A collector of traces: an upstream that is sent OTLP, read with the official types. It knows nothing of how the
//! binary writes them.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span as Sent;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message;

use super::upstream::{Received, Step, Upstream, reply};
use super::wait::until_some;

pub struct Collector(pub Upstream);

/// One span that came.
#[derive(Clone, Debug)]
pub struct Span(pub Sent);

impl Collector {
    /// Takes everything.
    pub fn start() -> Self {
        Self::script([reply(200)])
    }

    /// Answers deliveries by a script.
    pub fn script(steps: impl IntoIterator<Item = Step>) -> Self {
        Self(Upstream::script(steps))
    }

    /// The keys of a file that sends traces here.
    pub fn tracing(&self) -> String {
        format!("tracing: {{ otlp_endpoint: \"{}\" }}\n", self.0.url())
    }

    pub fn deliveries(&self) -> Vec<Received> {
        self.0.requests()
    }

    /// Every span that came, in the order of coming; one that was sent again comes again.
    pub fn spans(&self) -> Vec<Span> {
        let requests = self
            .deliveries()
            .into_iter()
            .map(|delivery| read(&delivery));
        let resources = requests.flat_map(|request| request.resource_spans);
        let scopes = resources.flat_map(|resource| resource.scope_spans);
        scopes.flat_map(|scope| scope.spans).map(Span).collect()
    }

    /// Waits until so many spans have come.
    #[track_caller]
    pub fn wait_for(&self, count: usize) -> Vec<Span> {
        until_some(&format!("{count} spans"), || {
            let spans = self.spans();
            assert!(spans.len() <= count, "{} spans: {spans:#?}", spans.len());
            (spans.len() == count).then_some(spans)
        })
    }

    /// What the first delivery says of who sent it.
    #[track_caller]
    pub fn resource(&self, key: &str) -> Option<String> {
        let delivery = until_some("a delivery", || self.deliveries().into_iter().next());
        let resource = read(&delivery).resource_spans.remove(0).resource.unwrap();
        text(&resource.attributes, key)
    }
}

fn read(delivery: &Received) -> ExportTraceServiceRequest {
    assert_eq!(
        delivery.header("content-type"),
        Some("application/x-protobuf")
    );
    ExportTraceServiceRequest::decode(delivery.body.as_slice()).unwrap()
}

fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    let mut same = attributes.iter().filter(|attribute| attribute.key == key);
    let found = same.next()?;
    assert!(same.next().is_none(), "{key} twice in {attributes:#?}");
    match found.value.clone()?.value? {
        Value::StringValue(text) => Some(text),
        Value::IntValue(number) => Some(number.to_string()),
        other => panic!("{key} is {other:?}"),
    }
}

impl Span {
    /// An attribute as text.
    pub fn get(&self, key: &str) -> Option<String> {
        text(&self.0.attributes, key)
    }

    /// An attribute of one of its events as text.
    pub fn told(&self, key: &str) -> Option<String> {
        let mut events = self.0.events.iter();
        events.find_map(|event| text(&event.attributes, key))
    }

    pub fn is(&self, kind: SpanKind) -> bool {
        self.0.kind() == kind
    }

    pub fn failed(&self) -> bool {
        let status = self.0.status.as_ref();
        status.is_some_and(|status| status.code() == StatusCode::Error)
    }

    pub fn trace(&self) -> String {
        hex(&self.0.trace_id)
    }

    pub fn id(&self) -> String {
        hex(&self.0.span_id)
    }

    pub fn parent(&self) -> String {
        hex(&self.0.parent_span_id)
    }

    /// The field of a request that this span is the parent of.
    pub fn traceparent(&self) -> String {
        format!("00-{}-{}-01", self.trace(), self.id())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The spans of the requests that came in.
pub fn server(spans: &[Span]) -> Vec<&Span> {
    spans.iter().filter(|s| s.is(SpanKind::Server)).collect()
}

/// The spans of the attempts, the earliest first.
pub fn client(spans: &[Span]) -> Vec<&Span> {
    let mut spans: Vec<&Span> = spans.iter().filter(|s| s.is(SpanKind::Client)).collect();
    spans.sort_by_key(|span| span.0.start_time_unix_nano);
    spans
}
