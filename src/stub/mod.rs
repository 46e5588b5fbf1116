//! Canned answers: what a route says when no vendor is asked.
//!
//! A [`Stub`] is compiled once, when the route table is built, and never changes: fixed answers are finished bytes,
//! templated ones are parsed templates. It decides which answer of a sequence is due and what its bytes are. It never
//! reads a clock, waits or touches a socket: delays and faults are told to the caller, who acts them out. Whether stubs
//! are switched on, and the field that marks a canned answer, are the caller's business too.

mod draft;
mod scenario;
mod template;
mod variables;

use std::fmt;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use serde_json::Value;

use draft::Draft;
pub use scenario::Scenario;
use template::{Recipe, Templates};

/// What the operator asked for, in plain values.
#[derive(Debug, Clone)]
pub struct StubSpec {
    /// The one answer, or a sequence whose last answer repeats.
    pub answers: Vec<AnswerSpec>,
    /// Whose requests move the sequence on.
    pub per: Per,
}

/// Whose requests move a sequence on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Per {
    /// Each client walks through the sequence alone.
    Client,
    /// All clients walk through it together.
    All,
}

/// One canned answer as written.
#[derive(Debug, Clone)]
pub struct AnswerSpec {
    /// 200 to 599.
    pub status: u16,
    /// Names and values as written; a name may repeat.
    pub headers: Vec<(String, String)>,
    /// What follows the head.
    pub body: BodySpec,
    /// Whether the strings of the body are MiniJinja templates.
    pub template: bool,
    /// Whether a mistake in them is told with its text.
    pub quoting: Quoting,
    /// How long the caller waits before it answers or fails.
    pub delay: Duration,
    /// Fail in this way instead of answering.
    pub fault: Option<Fault>,
}

impl Default for AnswerSpec {
    fn default() -> Self {
        Self {
            status: 200,
            headers: Vec::new(),
            body: BodySpec::Empty,
            template: false,
            quoting: Quoting::Short,
            delay: Duration::ZERO,
            fault: None,
        }
    }
}

/// Whether a mistake in a template quotes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quoting {
    /// Where it is short.
    Short,
    /// Nothing of it: the value of a variable stands in it.
    Never,
}

/// The body of a canned answer as written.
#[derive(Debug, Clone)]
pub enum BodySpec {
    /// No body and no Content-Type.
    Empty,
    /// Sent as `application/json`, keys in the order written.
    Json(Value),
    /// Sent as `text/plain; charset=utf-8`.
    Text(String),
    /// The content of a file, its media type guessed from the name's extension.
    File {
        /// The file's name; only the extension matters.
        name: String,
        /// What was read from it.
        bytes: Bytes,
    },
}

/// How a canned answer fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The connection ends without an answer.
    Close,
    /// Nothing is ever said.
    Hang,
}

/// A mistake in a stub, found when it is compiled or when a template meets a request it cannot answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct StubError {
    /// Which answer, counted from 0.
    pub answer: usize,
    /// The keys, or list positions, that lead from the answer to the mistake: `["json", "items", "0"]`.
    pub at: Vec<String>,
    /// What is wrong, in one sentence.
    pub what: String,
}

impl StubError {
    fn new(answer: usize, at: &[&str], what: impl Into<String>) -> Self {
        Self {
            answer,
            at: at.iter().map(ToString::to_string).collect(),
            what: what.into(),
        }
    }
}

impl fmt::Display for StubError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stub answer {}", self.answer.saturating_add(1))?;
        if !self.at.is_empty() {
            write!(f, ", {}", self.at.join("."))?;
        }
        write!(f, ": {}", self.what)
    }
}

/// What a stub may know of a request.
#[derive(Debug)]
pub struct StubRequest<'a> {
    /// Who asks: the same number is the same client.
    pub client: u64,
    pub method: &'a Method,
    /// The path as sent.
    pub path: &'a str,
    /// What the route's pattern captured, as sent.
    pub path_params: Vec<(&'a str, &'a str)>,
    /// The query as sent, without `?`.
    pub query: Option<&'a str>,
    pub headers: &'a HeaderMap,
    /// The parsed body, where [`Stub::needs_body`] asked for it and it was JSON.
    pub json: Option<Value>,
}

/// What the caller does.
#[derive(Debug)]
pub enum Answer {
    /// After `delay`, send this.
    Reply {
        status: StatusCode,
        headers: HeaderMap,
        body: Bytes,
        delay: Duration,
    },
    /// After `delay`, fail like this.
    Fault { fault: Fault, delay: Duration },
}

/// The compiled stub of one route.
#[derive(Debug)]
pub struct Stub {
    answers: Vec<Prepared>,
    per: Per,
    templates: Templates,
}

#[derive(Debug)]
struct Prepared {
    delay: Duration,
    act: Act,
}

#[derive(Debug)]
enum Act {
    Reply {
        status: StatusCode,
        headers: HeaderMap,
        content: Content,
    },
    Fault(Fault),
}

#[derive(Debug)]
enum Content {
    Fixed(Bytes),
    Made(Recipe),
}

impl Stub {
    /// Checks and prepares every answer.
    ///
    /// # Errors
    /// Every mistake of every answer.
    pub fn compile(spec: StubSpec) -> Result<Self, Vec<StubError>> {
        let mut templates = Templates::default();
        let mut problems = Vec::new();
        if spec.answers.is_empty() {
            let what = "a sequence needs at least one answer";
            problems.push(StubError::new(0, &["sequence"], what));
        }
        let mut answers = Vec::with_capacity(spec.answers.len());
        for (index, answer) in spec.answers.into_iter().enumerate() {
            let mut draft = Draft {
                index,
                templates: &mut templates,
                problems: &mut problems,
            };
            answers.extend(draft.prepare(answer));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Self {
            answers,
            per: spec.per,
            templates,
        })
    }

    /// Whether a template looks at `request.json`, so that the caller reads a bounded body first.
    #[must_use]
    pub fn needs_body(&self) -> bool {
        self.templates.read_json()
    }

    /// The answer that is due to this request; a sequence moves on in `scenario`.
    ///
    /// # Errors
    /// A template that this request cannot fill: an undefined value, too much work, or more than 1 MiB of output.
    pub fn answer(
        &self,
        scenario: &Scenario,
        request: &StubRequest<'_>,
        now: SystemTime,
    ) -> Result<Answer, StubError> {
        let index = match self.answers.len() {
            0 | 1 => 0,
            length => scenario.advance(self.per, request.client, length),
        };
        let Some(Prepared { delay, act }) = self.answers.get(index) else {
            return Err(StubError::new(index, &[], "there is no such answer"));
        };
        let delay = *delay;
        match act {
            Act::Fault(fault) => Ok(Answer::Fault {
                fault: *fault,
                delay,
            }),
            Act::Reply {
                status,
                headers,
                content,
            } => Ok(Answer::Reply {
                status: *status,
                headers: headers.clone(),
                body: match content {
                    Content::Fixed(bytes) => bytes.clone(),
                    Content::Made(recipe) => self.templates.render(index, recipe, request, now)?,
                },
                delay,
            }),
        }
    }
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]
mod tests {
    use std::time::UNIX_EPOCH;

    use http::header::CONTENT_TYPE;
    use serde_json::json;

    use super::*;

    fn one(answer: AnswerSpec) -> StubSpec {
        StubSpec {
            answers: vec![answer],
            per: Per::Client,
        }
    }

    fn json_spec(body: Value) -> AnswerSpec {
        AnswerSpec {
            body: BodySpec::Json(body),
            ..AnswerSpec::default()
        }
    }

    fn file(name: &str, bytes: &'static [u8]) -> BodySpec {
        BodySpec::File {
            name: name.to_owned(),
            bytes: Bytes::from_static(bytes),
        }
    }

    fn ask(stub: &Stub, scenario: &Scenario, client: u64) -> Result<Answer, StubError> {
        let headers = HeaderMap::new();
        let request = StubRequest {
            client,
            method: &Method::GET,
            path: "/stub",
            path_params: Vec::new(),
            query: None,
            headers: &headers,
            json: None,
        };
        stub.answer(scenario, &request, UNIX_EPOCH)
    }

    fn reply(spec: AnswerSpec) -> (StatusCode, HeaderMap, Bytes) {
        let stub = Stub::compile(one(spec)).unwrap();
        match ask(&stub, &Scenario::default(), 1).unwrap() {
            Answer::Reply {
                status,
                headers,
                body,
                ..
            } => (status, headers, body),
            Answer::Fault { .. } => panic!("a fault"),
        }
    }

    fn problems(spec: AnswerSpec) -> Vec<String> {
        let problems = Stub::compile(one(spec)).unwrap_err();
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_json_answer_is_sent_as_written_with_its_media_type() {
        let (status, headers, body) = reply(json_spec(json!({ "b": 1, "a": "{{ now }}" })));
        assert_eq!(status, 200);
        assert_eq!(headers[CONTENT_TYPE], "application/json");
        assert_eq!(body, r#"{"b":1,"a":"{{ now }}"}"#);
    }

    #[test]
    fn a_content_type_that_the_operator_gave_wins() {
        let (_, headers, _) = reply(AnswerSpec {
            headers: vec![("content-type".into(), "application/ld+json".into())],
            ..json_spec(json!({}))
        });
        assert_eq!(headers.get_all(CONTENT_TYPE).iter().count(), 1);
        assert_eq!(headers[CONTENT_TYPE], "application/ld+json");
    }

    #[test]
    fn an_empty_answer_has_no_media_type() {
        let (status, headers, body) = reply(AnswerSpec {
            status: 204,
            ..AnswerSpec::default()
        });
        assert_eq!((status.as_u16(), headers.len(), body.len()), (204, 0, 0));
    }

    #[test]
    fn a_repeated_header_is_sent_repeatedly() {
        let cookie = |value: &str| ("Set-Cookie".to_owned(), value.to_owned());
        let (_, headers, _) = reply(AnswerSpec {
            headers: vec![cookie("a=1"), cookie("b=2")],
            ..AnswerSpec::default()
        });
        assert_eq!(headers.get_all("set-cookie").iter().count(), 2);
    }

    #[test]
    fn a_file_has_the_media_type_of_its_name() {
        for (name, expected) in [
            ("a.json", "application/json"),
            ("A.CSV", "text/csv; charset=utf-8"),
            ("noise.wav", "audio/wav"),
            ("dir.d/unknown", "application/octet-stream"),
        ] {
            let (_, headers, body) = reply(AnswerSpec {
                body: file(name, b"{{ now }}"),
                ..AnswerSpec::default()
            });
            assert_eq!(headers[CONTENT_TYPE], expected, "{name}");
            assert_eq!(body, "{{ now }}");
        }
    }

    #[test]
    fn json_text_and_files_can_be_templates() {
        let bodies = [
            BodySpec::Json(json!("{{ now }}")),
            BodySpec::Text("\"{{ now }}\"".to_owned()),
            file("a.txt", b"\"{{ now }}\""),
        ];
        for body in bodies {
            let (_, _, body) = reply(AnswerSpec {
                body,
                template: true,
                ..AnswerSpec::default()
            });
            assert_eq!(body, "\"1970-01-01T00:00:00Z\"");
        }
    }

    #[test]
    fn framing_and_hop_by_hop_headers_are_refused() {
        for name in [
            "Connection",
            "content-length",
            "Transfer-Encoding",
            "Upgrade",
            "X-Stub",
        ] {
            let found = problems(AnswerSpec {
                headers: vec![(name.to_owned(), "1".to_owned())],
                ..AnswerSpec::default()
            });
            assert_eq!(found.len(), 1);
            assert!(found[0].starts_with(&format!("stub answer 1, headers.{name}: ")));
        }
    }

    #[test]
    fn a_header_that_would_break_the_message_is_refused() {
        let found = problems(AnswerSpec {
            headers: vec![
                ("X-A".to_owned(), "1\r\nX-B: 2".to_owned()),
                ("X C".to_owned(), "1".to_owned()),
            ],
            ..AnswerSpec::default()
        });
        assert_eq!(found.len(), 2, "{found:?}");
    }

    #[test]
    fn only_final_statuses_are_allowed() {
        for status in [0, 99, 100, 101, 199, 600, 999] {
            let found = problems(AnswerSpec {
                status,
                ..AnswerSpec::default()
            });
            assert!(found[0].contains("200 to 599"), "{found:?}");
        }
        for status in [200, 418, 599] {
            let spec = AnswerSpec {
                status,
                ..AnswerSpec::default()
            };
            assert_eq!(reply(spec).0.as_u16(), status);
        }
    }

    #[test]
    fn a_status_without_a_body_refuses_one() {
        for status in [204, 205, 304] {
            let found = problems(AnswerSpec {
                status,
                ..json_spec(json!({}))
            });
            assert!(found[0].contains("has no body"), "{found:?}");
        }
    }

    #[test]
    fn a_template_with_nothing_to_fill_is_refused() {
        let empty = AnswerSpec {
            template: true,
            ..AnswerSpec::default()
        };
        assert_eq!(problems(empty).len(), 1);
        let binary = AnswerSpec {
            template: true,
            body: file("a.png", b"\xff\xfe"),
            ..AnswerSpec::default()
        };
        assert!(problems(binary)[0].contains("this file is not UTF-8"));
    }

    #[test]
    fn every_mistake_of_every_answer_is_reported_with_its_place() {
        let bad = AnswerSpec {
            status: 42,
            template: true,
            headers: vec![("TE".to_owned(), "trailers".to_owned())],
            ..json_spec(json!({ "a": "{{", "b": "{{" }))
        };
        let spec = StubSpec {
            answers: vec![AnswerSpec::default(), bad],
            per: Per::All,
        };
        let found = Stub::compile(spec).unwrap_err();
        let places: Vec<_> = found.iter().map(|p| (p.answer, p.at.join("."))).collect();
        let expected = ["status", "headers.TE", "json.a", "json.b"];
        assert_eq!(places, expected.map(|at| (1, at.to_owned())));
    }

    #[test]
    fn a_sequence_without_answers_is_refused() {
        let spec = StubSpec {
            answers: Vec::new(),
            per: Per::All,
        };
        assert_eq!(Stub::compile(spec).unwrap_err().len(), 1);
    }

    #[test]
    fn a_fault_is_told_with_its_delay_and_carries_no_answer() {
        let fault = AnswerSpec {
            fault: Some(Fault::Hang),
            delay: Duration::from_secs(2),
            ..AnswerSpec::default()
        };
        let stub = Stub::compile(one(fault.clone())).unwrap();
        let answer = ask(&stub, &Scenario::default(), 1).unwrap();
        let Answer::Fault { fault: how, delay } = answer else {
            panic!("an answer");
        };
        assert_eq!((how, delay), (Fault::Hang, Duration::from_secs(2)));
        let with_body = AnswerSpec {
            body: BodySpec::Text("x".to_owned()),
            ..fault
        };
        assert_eq!(problems(with_body).len(), 1);
    }

    #[test]
    fn a_delay_is_handed_to_the_caller() {
        let stub = Stub::compile(one(AnswerSpec {
            delay: Duration::from_millis(5),
            ..AnswerSpec::default()
        }));
        let answer = ask(&stub.unwrap(), &Scenario::default(), 1).unwrap();
        assert!(matches!(answer, Answer::Reply { delay, .. } if delay.as_millis() == 5));
    }

    #[test]
    fn a_sequence_gives_its_answers_in_order_and_repeats_the_last() {
        let status = |status| AnswerSpec {
            status,
            ..AnswerSpec::default()
        };
        let stub = Stub::compile(StubSpec {
            answers: vec![status(503), status(429), status(200)],
            per: Per::Client,
        })
        .unwrap();
        let scenario = Scenario::default();
        let mut seen = Vec::new();
        for client in [1, 1, 2, 1, 1] {
            let Answer::Reply { status, .. } = ask(&stub, &scenario, client).unwrap() else {
                panic!("a fault");
            };
            seen.push(status.as_u16());
        }
        assert_eq!(seen, [503, 429, 503, 200, 200]);
    }

    #[test]
    fn only_a_template_over_the_body_needs_the_body() {
        let of = |template, text: &str| {
            let spec = AnswerSpec {
                template,
                ..json_spec(json!(text))
            };
            Stub::compile(one(spec)).unwrap().needs_body()
        };
        assert!(of(true, "{{ request.json.a }}"));
        assert!(!of(true, "{{ now }}"));
        assert!(!of(false, "{{ request.json.a }}"));
    }

    #[test]
    fn a_template_that_cannot_be_filled_is_an_error_not_an_answer() {
        let stub = Stub::compile(one(AnswerSpec {
            template: true,
            ..json_spec(json!({ "id": "{{ request.query.id }}" }))
        }));
        let problem = ask(&stub.unwrap(), &Scenario::default(), 1).unwrap_err();
        assert!(problem.to_string().starts_with("stub answer 1, json.id: "));
    }
}
