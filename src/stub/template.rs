//! Templated bodies: MiniJinja over what [`super::variables`] lets a template know.
//!
//! A body becomes a [`Recipe`], literal text with slots, when the route table is built; rendering fills the slots. A
//! JSON body stays valid JSON whatever a request holds, for each slot is written as one JSON value: the text that a
//! string renders to, or, where a string is exactly one `{{ expression }}`, the value itself (number, list, object,
//! null). Keys are never templates. A text body is rendered as it stands; `| tojson` quotes what goes into it. What is
//! undefined is an error; work and output are bounded; no template reaches a file, a clock or another template.

use std::io::{self, Write};
use std::time::SystemTime;

use bytes::Bytes;
use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, Value};

use super::variables::{REQUEST, VARIABLES, known, urldecode};
use super::{Quoting, StubError, StubRequest};

/// The most bytes one templated body may have.
const OUTPUT: usize = 1024 * 1024;
/// MiniJinja's budget for one slot: about this many instructions, or 64 times as many bytes.
const FUEL: u64 = 50_000;
/// The variable through which the value of a lone expression is taken out of its template.
const TAKEN: &str = "__value";

/// A body with slots to fill.
#[derive(Debug)]
pub(super) struct Recipe(Vec<Piece>);

#[derive(Debug)]
enum Piece {
    Literal(String),
    /// Rendered text as it is.
    Raw(Slot),
    /// Rendered text as a JSON string.
    Text(Slot),
    /// The value of an expression as JSON.
    Value(Slot),
}

#[derive(Debug)]
struct Slot {
    template: String,
    at: Vec<String>,
    /// The template's text where it is short enough to be quoted.
    quote: Option<String>,
    quoting: Quoting,
}

/// The parsed templates of one stub.
#[derive(Debug)]
pub(super) struct Templates {
    environment: Environment<'static>,
    count: usize,
    read_json: bool,
    quoting: Quoting,
}

impl Default for Templates {
    fn default() -> Self {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_fuel(Some(FUEL));
        environment.add_filter("urldecode", urldecode);
        let mut syntax = SyntaxConfig::builder();
        if let Ok(syntax) = syntax.keep_trailing_newline(true).build() {
            environment.set_syntax(syntax);
        }
        Self {
            environment,
            count: 0,
            read_json: false,
            quoting: Quoting::Short,
        }
    }
}

impl Templates {
    /// Whether any template may look at the request's body.
    pub(super) fn read_json(&self) -> bool {
        self.read_json
    }

    /// How mistakes in the templates that are prepared from now on are told.
    pub(super) fn quote(&mut self, quoting: Quoting) {
        self.quoting = quoting;
    }

    /// Prepares a text body; `key` is what it stands under.
    pub(super) fn text(
        &mut self,
        answer: usize,
        key: &str,
        source: &str,
    ) -> Result<Recipe, Vec<StubError>> {
        let at = vec![key.to_owned()];
        match self.slot(answer, at, source, source.to_owned()) {
            Ok(slot) => Ok(Recipe(vec![Piece::Raw(slot)])),
            Err(problem) => Err(vec![problem]),
        }
    }

    /// Prepares a JSON body, each of whose strings may be a template.
    pub(super) fn json(
        &mut self,
        answer: usize,
        value: &serde_json::Value,
    ) -> Result<Recipe, Vec<StubError>> {
        let mut draft = JsonDraft {
            templates: self,
            answer,
            at: vec!["json".to_owned()],
            literal: String::new(),
            pieces: Vec::new(),
            problems: Vec::new(),
        };
        draft.value(value);
        draft.flush();
        if draft.problems.is_empty() {
            Ok(Recipe(draft.pieces))
        } else {
            Err(draft.problems)
        }
    }

    /// Fills a recipe's slots from a request.
    pub(super) fn render(
        &self,
        answer: usize,
        recipe: &Recipe,
        request: &StubRequest<'_>,
        now: SystemTime,
    ) -> Result<Bytes, StubError> {
        let known = known(request, now);
        let mut out = Bounded(Vec::new());
        for piece in &recipe.0 {
            let (slot, written) = match piece {
                Piece::Literal(text) => {
                    (None, out.write_all(text.as_bytes()).map_err(Trouble::from))
                }
                Piece::Raw(slot) => (Some(slot), self.raw(slot, &known, &mut out)),
                Piece::Text(slot) => (Some(slot), self.string(slot, &known, &mut out)),
                Piece::Value(slot) => (Some(slot), self.value(slot, &known, &mut out)),
            };
            written.map_err(|trouble| trouble.at(answer, slot))?;
        }
        Ok(Bytes::from(out.0))
    }

    fn raw(&self, slot: &Slot, known: &Value, out: &mut Bounded) -> Result<(), Trouble> {
        let text = self
            .environment
            .get_template(&slot.template)?
            .render(known.clone())?;
        Ok(out.write_all(text.as_bytes())?)
    }

    fn string(&self, slot: &Slot, known: &Value, out: &mut Bounded) -> Result<(), Trouble> {
        let text = self
            .environment
            .get_template(&slot.template)?
            .render(known.clone())?;
        Ok(serde_json::to_writer(out, &text)?)
    }

    fn value(&self, slot: &Slot, known: &Value, out: &mut Bounded) -> Result<(), Trouble> {
        let template = self.environment.get_template(&slot.template)?;
        let rendered = template.render_captured(known.clone())?;
        match rendered.state().lookup(TAKEN) {
            Some(value) if !value.is_undefined() => Ok(serde_json::to_writer(out, &value)?),
            _ => Err(Error::from(ErrorKind::UndefinedError).into()),
        }
    }

    /// Parses `compiled`, the form in which the written `source` is run.
    fn slot(
        &mut self,
        answer: usize,
        at: Vec<String>,
        source: &str,
        compiled: String,
    ) -> Result<Slot, StubError> {
        let template = self.count.to_string();
        self.count = self.count.saturating_add(1);
        let quoting = self.quoting;
        let short = source.len() <= 120 && !source.contains('\n');
        let quote = (quoting == Quoting::Short && short).then(|| source.to_owned());
        let slot = Slot {
            template,
            at,
            quote,
            quoting,
        };
        match self.add(&slot.template, compiled) {
            Ok(()) => Ok(slot),
            Err(error) => Err(Trouble::from(error).at(answer, Some(&slot))),
        }
    }

    fn add(&mut self, name: &str, source: String) -> Result<(), Error> {
        self.environment
            .add_template_owned(name.to_owned(), source)?;
        let template = self.environment.get_template(name)?;
        for variable in template.undeclared_variables(true) {
            let mut steps = variable.split('.');
            match (steps.next().unwrap_or_default(), steps.next()) {
                // The whole of `request` may be taken apart later.
                ("request", None | Some("json")) => self.read_json = true,
                ("request", Some(part)) if REQUEST.contains(&part) => {}
                ("request", Some(part)) => return Err(unknown(&format!("request.{part}"))),
                (name, _) if VARIABLES.contains(&name) => {}
                (name, _) if self.environment.globals().any(|(global, _)| global == name) => {}
                (name, _) => return Err(unknown(name)),
            }
        }
        Ok(())
    }

    /// The inside of a string that is exactly one `{{ expression }}`.
    fn lone_expression<'s>(&self, source: &'s str) -> Option<&'s str> {
        let inside = source.strip_prefix("{{")?.strip_suffix("}}")?;
        // A sign here is whitespace control, which says that text is meant.
        let text = inside.starts_with(['-', '+']) || inside.ends_with(['-', '+']);
        let expression = self.environment.compile_expression_owned(inside.to_owned());
        (!text && expression.is_ok()).then_some(inside)
    }
}

/// A JSON body on its way to a [`Recipe`]: everything that is not a template becomes literal text.
struct JsonDraft<'a> {
    templates: &'a mut Templates,
    answer: usize,
    at: Vec<String>,
    literal: String,
    pieces: Vec<Piece>,
    problems: Vec<StubError>,
}

impl JsonDraft<'_> {
    fn value(&mut self, value: &serde_json::Value) {
        match value {
            serde_json::Value::String(text) if is_template(text) => self.template(text),
            serde_json::Value::Array(items) => {
                self.literal.push('[');
                for (index, item) in items.iter().enumerate() {
                    self.member(index, index.to_string(), item);
                }
                self.literal.push(']');
            }
            serde_json::Value::Object(members) => {
                self.literal.push('{');
                for (index, (key, member)) in members.iter().enumerate() {
                    self.separate(index);
                    self.literal
                        .push_str(&serde_json::Value::from(key.as_str()).to_string());
                    self.literal.push(':');
                    self.member(0, key.clone(), member);
                }
                self.literal.push('}');
            }
            plain => self.literal.push_str(&plain.to_string()),
        }
    }

    fn member(&mut self, index: usize, step: String, value: &serde_json::Value) {
        self.separate(index);
        self.at.push(step);
        self.value(value);
        self.at.pop();
    }

    fn separate(&mut self, index: usize) {
        if index > 0 {
            self.literal.push(',');
        }
    }

    fn template(&mut self, source: &str) {
        let lone = self.templates.lone_expression(source);
        let compiled = match lone {
            Some(expression) => format!("{{% set {TAKEN} = ({expression}) %}}"),
            None => source.to_owned(),
        };
        let is_value = lone.is_some();
        match self
            .templates
            .slot(self.answer, self.at.clone(), source, compiled)
        {
            Err(problem) => self.problems.push(problem),
            Ok(slot) => {
                self.flush();
                self.pieces.push(if is_value {
                    Piece::Value(slot)
                } else {
                    Piece::Text(slot)
                });
            }
        }
    }

    fn flush(&mut self) {
        if !self.literal.is_empty() {
            self.pieces
                .push(Piece::Literal(std::mem::take(&mut self.literal)));
        }
    }
}

fn unknown(variable: &str) -> Error {
    let what = format!(
        "{variable} is not known here; known are request.{}, request.json, {}",
        REQUEST.join(", request."),
        VARIABLES.join(", ")
    );
    Error::new(ErrorKind::SyntaxError, what)
}

fn is_template(text: &str) -> bool {
    ["{{", "{%", "{#"].iter().any(|mark| text.contains(mark))
}

/// Why a slot could not be parsed or filled.
enum Trouble {
    Template(Error),
    Output(String),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Template(error)
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Output(error.to_string())
    }
}

impl From<serde_json::Error> for Trouble {
    fn from(error: serde_json::Error) -> Self {
        Self::Output(error.to_string())
    }
}

impl Trouble {
    fn at(self, answer: usize, slot: Option<&Slot>) -> StubError {
        let quote = slot.and_then(|slot| slot.quote.as_deref());
        let line = match &self {
            Self::Template(error) if quote.is_none() => error.line(),
            _ => None,
        };
        let mut what = match (quote, line) {
            (Some(quote), _) => format!("`{quote}`: "),
            (None, Some(line)) => format!("line {line}: "),
            (None, None) => String::new(),
        };
        what.push_str(&self.sentence(slot.map_or(Quoting::Short, |slot| slot.quoting)));
        StubError {
            answer,
            at: slot.map_or_else(Vec::new, |slot| slot.at.clone()),
            what,
        }
    }

    fn sentence(&self, quoting: Quoting) -> String {
        match self {
            Self::Output(what) => what.clone(),
            Self::Template(error) => match (error.kind(), error.detail()) {
                (ErrorKind::UndefinedError, _) => {
                    "a value is undefined here; `| default(...)` gives it one".to_owned()
                }
                (ErrorKind::OutOfFuel, _) => {
                    "the template works too long or makes too much text".to_owned()
                }
                // A detail repeats pieces of the template.
                (kind, Some(detail)) if quoting == Quoting::Short => format!("{kind}: {detail}"),
                (kind, _) => kind.to_string(),
            },
        }
    }
}

/// A buffer that refuses to outgrow [`OUTPUT`].
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len().saturating_add(bytes.len()) > OUTPUT {
            return Err(io::Error::other("the body would be larger than 1 MiB"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
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
    use std::time::{Duration, UNIX_EPOCH};

    use http::header::{AUTHORIZATION, COOKIE};
    use http::{HeaderMap, Method};
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn request(headers: &HeaderMap) -> StubRequest<'_> {
        StubRequest {
            client: 1,
            method: &Method::POST,
            path: "/calendars/user%40example.com/events",
            path_params: vec![("calendar", "user%40example.com")],
            query: Some("q=a+b%21&q=second&empty"),
            headers,
            json: Some(json!({
                "summary": "Tea \"at\" five",
                "count": 3,
                "start": { "dateTime": "2026-11-23T10:00:00Z" },
                "attendees": [{ "email": "a@example.com" }],
            })),
        }
    }

    fn fields() -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("X-Tenant", "blue".parse().unwrap());
        headers.append("accept", "text/html".parse().unwrap());
        headers.append("accept", "application/json".parse().unwrap());
        headers.insert(AUTHORIZATION, "Bearer secret".parse().unwrap());
        headers.insert(COOKIE, "session=secret".parse().unwrap());
        headers
    }

    fn json_of(body: &serde_json::Value) -> Result<serde_json::Value, StubError> {
        let mut templates = Templates::default();
        let recipe = templates
            .json(0, body)
            .map_err(|mut problems| problems.remove(0))?;
        let headers = fields();
        let bytes = templates.render(0, &recipe, &request(&headers), at(1_795_381_067))?;
        Ok(serde_json::from_slice(&bytes).unwrap())
    }

    fn text_of(source: &str) -> Result<String, StubError> {
        let mut templates = Templates::default();
        let recipe = templates
            .text(0, "body", source)
            .map_err(|mut problems| problems.remove(0))?;
        let headers = fields();
        let bytes = templates.render(0, &recipe, &request(&headers), at(1_795_381_067))?;
        Ok(String::from_utf8(bytes.to_vec()).unwrap())
    }

    fn reads_json(source: &str) -> bool {
        let mut templates = Templates::default();
        templates.text(0, "body", source).unwrap();
        templates.read_json()
    }

    #[test]
    fn every_string_of_a_json_body_is_a_template_at_any_depth() {
        let body = json!({ "a": ["{{ request.query.q }}!", { "b": "c {{ request.path_params.calendar }}" }] });
        let expected = json!({ "a": ["a b!!", { "b": "c user%40example.com" }] });
        assert_eq!(json_of(&body).unwrap(), expected);
    }

    #[test]
    fn what_is_not_a_template_and_every_key_stay_as_written_and_in_order() {
        let body = json!({ "z{{ now }}": 1.5, "a": null, "m": [true, "plain \" } {"] });
        let mut templates = Templates::default();
        let recipe = templates.json(0, &body).unwrap();
        let headers = HeaderMap::new();
        let bytes = templates
            .render(0, &recipe, &request(&headers), at(0))
            .unwrap();
        assert_eq!(bytes, body.to_string());
    }

    #[test]
    fn a_json_body_stays_json_whatever_the_request_holds() {
        let body = json!({ "text": "say {{ request.json.summary }}" });
        assert_eq!(
            json_of(&body).unwrap(),
            json!({ "text": "say Tea \"at\" five" })
        );
    }

    #[test]
    fn a_lone_expression_keeps_its_json_type() {
        let body = json!({
            "count": "{{ request.json.count + 1 }}",
            "start": "{{ request.json.start }}",
            "attendees": "{{request.json.attendees}}",
            "none": "{{ request.json.missing | default(none) }}",
            "made": "{{ {'a': [1, true]} }}",
        });
        let expected = json!({
            "count": 4,
            "start": { "dateTime": "2026-11-23T10:00:00Z" },
            "attendees": [{ "email": "a@example.com" }],
            "none": null,
            "made": { "a": [1, true] },
        });
        assert_eq!(json_of(&body).unwrap(), expected);
    }

    #[test]
    fn more_than_one_expression_and_whitespace_control_give_text() {
        let body = json!(["{{ 1 }}{{ 2 }}", " {{ 1 }}", "{{- 1 -}}", "{{ '}}{{' }}"]);
        assert_eq!(json_of(&body).unwrap(), json!(["12", " 1", "1", "}}{{"]));
    }

    #[test]
    fn a_text_body_keeps_its_last_line_break_and_escapes_nothing() {
        let source = "<b>{{ request.json.summary }}</b>\n";
        assert_eq!(text_of(source).unwrap(), "<b>Tea \"at\" five</b>\n");
    }

    #[test]
    fn tojson_quotes_a_value_inside_a_text_body() {
        let source = r#"{"s":{{ request.json.summary | tojson }}}"#;
        let made: serde_json::Value = serde_json::from_str(&text_of(source).unwrap()).unwrap();
        assert_eq!(made, json!({ "s": "Tea \"at\" five" }));
    }

    #[test]
    fn the_query_is_decoded_and_its_first_value_wins() {
        let source =
            "{{ request.query.q }}|{{ request.query_all.q[1] }}|{{ request.query.empty }}|";
        assert_eq!(text_of(source).unwrap(), "a b!|second||");
    }

    #[test]
    fn path_parameters_are_as_sent_and_urldecode_decodes_them() {
        let source = "{{ request.method }} {{ request.path_params.calendar | urldecode }} {{ request.path }}";
        let expected = "POST user@example.com /calendars/user%40example.com/events";
        assert_eq!(text_of(source).unwrap(), expected);
    }

    #[test]
    fn headers_have_lower_case_names_and_repeated_ones_are_joined() {
        let source = "{{ request.headers['x-tenant'] }} {{ request.headers.accept }}";
        assert_eq!(text_of(source).unwrap(), "blue text/html, application/json");
    }

    #[test]
    fn credentials_are_not_to_be_had() {
        for name in ["authorization", "proxy-authorization", "cookie"] {
            let source = format!("{{{{ request.headers['{name}'] }}}}");
            assert!(text_of(&source).is_err(), "{name}");
        }
        assert!(!text_of("{{ request }}").unwrap().contains("secret"));
    }

    #[test]
    fn now_is_rfc_3339_in_utc() {
        assert_eq!(text_of("{{ now }}").unwrap(), "2026-11-22T20:57:47Z");
        let shifted = text_of("{{ now_plus(86400) }} {{ now_plus(-47) }}").unwrap();
        assert_eq!(shifted, "2026-11-23T20:57:47Z 2026-11-22T20:57:00Z");
    }

    #[test]
    fn a_date_that_cannot_be_written_is_an_error() {
        for shift in [
            "9223372036854775807",
            "-9223372036854775807",
            "-99999999999",
            "999999999999",
        ] {
            let problem = text_of(&format!("{{{{ now_plus({shift}) }}}}")).unwrap_err();
            assert!(problem.what.contains("1970 to 9999"), "{problem}");
        }
    }

    #[test]
    fn uuid_is_one_id_in_all_of_an_answer_and_a_call_mints_another() {
        let body = json!({ "a": "{{ uuid }}", "b": "{{ uuid | replace('-', '') }}", "c": "{{ uuid() }}", "d": "{{ uuid() }}" });
        let made = json_of(&body).unwrap();
        let id = |key: &str| made[key].as_str().unwrap().to_owned();
        assert_eq!(Uuid::parse_str(&id("a")).unwrap().get_version_num(), 7);
        assert_eq!(id("a").replace('-', ""), id("b"));
        assert_ne!(id("a"), id("c"));
        assert_ne!(id("c"), id("d"));
        assert!(text_of("{{ uuid(1) }}").is_err());
    }

    #[test]
    fn an_undefined_value_is_an_error_that_says_where() {
        let problem =
            json_of(&json!({ "items": [{ "id": "{{ request.query.nope }}" }] })).unwrap_err();
        assert_eq!(problem.at, ["json", "items", "0", "id"]);
        assert!(
            problem.what.contains("`{{ request.query.nope }}`"),
            "{problem}"
        );
        assert!(problem.what.contains("default"), "{problem}");
        let problem = text_of("one\ntwo {{ request.json.a.b }}").unwrap_err();
        assert!(problem.what.starts_with("line 2: "), "{problem}");
    }

    #[test]
    fn without_json_request_json_is_none_and_defaults_work() {
        let mut templates = Templates::default();
        let body = json!({ "s": "{{ request.json.summary | default('Untitled') }}", "j": "{{ request.json }}" });
        let recipe = templates.json(0, &body).unwrap();
        let headers = HeaderMap::new();
        let mut request = request(&headers);
        request.json = None;
        request.query = None;
        let bytes = templates.render(0, &recipe, &request, at(0)).unwrap();
        assert_eq!(bytes, r#"{"s":"Untitled","j":null}"#);
    }

    #[test]
    fn a_template_that_does_not_parse_is_found_before_it_runs() {
        let mut templates = Templates::default();
        let body = json!({ "a": "{{ nope", "b": ["{% if %}"], "c": "{{ now }}" });
        let problems = templates.json(3, &body).unwrap_err();
        let places: Vec<_> = problems
            .iter()
            .map(|problem| problem.at.join("."))
            .collect();
        assert_eq!(places, ["json.a", "json.b.0"]);
        assert!(problems.iter().all(|problem| problem.answer == 3));
    }

    #[test]
    fn a_variable_that_no_request_has_is_found_before_it_runs() {
        let mut templates = Templates::default();
        for source in ["{{ reqeust.json }}", "{{ request.body }}", "{{ today() }}"] {
            let problems = templates.text(0, "body", source).unwrap_err();
            assert!(problems[0].what.contains("is not known here"), "{source}");
        }
        for source in [
            "{% set a = range(3) %}{{ a }}",
            "{% for a in [1] %}{{ loop.index }}{% endfor %}",
        ] {
            assert!(templates.text(0, "body", source).is_ok(), "{source}");
        }
    }

    #[test]
    fn only_a_template_that_looks_at_the_body_asks_for_it() {
        for source in [
            "{{ request.json.summary }}",
            "{{ request.json['summary'] }}",
            "{% for a in request.json.attendees %}{{ a }}{% endfor %}",
            "{% set r = request %}{{ r.json }}",
            "{{ request['json'] }}",
        ] {
            assert!(reads_json(source), "{source}");
        }
        for source in [
            "{{ now }}",
            "{{ request.query.json }}",
            "{{ request.headers.json }}",
        ] {
            assert!(!reads_json(source), "{source}");
        }
    }

    #[test]
    fn a_template_that_works_without_end_is_cut_off() {
        let source = "{% for a in range(9999) %}{% for b in range(9999) %}{{ a * b }}{% endfor %}{% endfor %}";
        let problem = text_of(source).unwrap_err();
        assert!(problem.what.contains("too long"), "{problem}");
        assert!(text_of("{{ 'x' * 999999999 }}").is_err());
    }

    #[test]
    fn a_body_over_one_mebibyte_is_an_error() {
        assert_eq!(text_of("{{ 'x' * 1048576 }}").unwrap().len(), OUTPUT);
        let problem = text_of("{{ 'x' * 1048577 }}").unwrap_err();
        assert!(problem.what.contains("1 MiB"), "{problem}");
        let two = json!(["{{ 'x' * 600000 }}", "{{ 'x' * 600000 }}"]);
        assert!(json_of(&two).unwrap_err().what.contains("1 MiB"));
    }

    #[test]
    fn no_template_reaches_another_or_a_file() {
        for source in [
            "{% include '0' %}",
            "{% extends '0' %}",
            "{% import '0' as x %}",
        ] {
            assert!(text_of(source).is_err(), "{source}");
        }
    }
}
