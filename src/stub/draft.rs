//! From what the operator wrote to an answer that can be sent.
//!
//! Decides which statuses, header fields and combinations a stub may have, and which media type a body gets when none
//! was written. Every mistake is noted with its place; nothing is repaired or dropped in silence.

use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

use super::template::Templates;
use super::{Act, AnswerSpec, BodySpec, Content, Prepared, Quoting, StubError};

/// Response fields that a stub may not set, because the connection or the proxy decides them.
const RESERVED: [&str; 10] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-stub",
    "proxy-status",
];

/// One answer on its way from [`AnswerSpec`] to [`Prepared`]; mistakes are collected, not returned.
pub(super) struct Draft<'a> {
    pub(super) index: usize,
    pub(super) templates: &'a mut Templates,
    pub(super) problems: &'a mut Vec<StubError>,
}

impl Draft<'_> {
    fn problem(&mut self, at: &[&str], what: impl Into<String>) {
        self.problems.push(StubError::new(self.index, at, what));
    }

    /// `None` when a problem was noted.
    pub(super) fn prepare(&mut self, spec: AnswerSpec) -> Option<Prepared> {
        let delay = spec.delay;
        if let Some(fault) = spec.fault {
            if spec.template || !spec.headers.is_empty() || !matches!(spec.body, BodySpec::Empty) {
                self.problem(
                    &["fault"],
                    "a fault sends nothing: drop the headers, the body and `template`, or the fault",
                );
            }
            let act = Act::Fault(fault);
            return Some(Prepared { delay, act });
        }
        let empty = matches!(spec.body, BodySpec::Empty);
        let status = self.status(spec.status, empty);
        let mut headers = self.headers(&spec.headers);
        if let Some(guess) = media_type(&spec.body)
            && !headers.contains_key(CONTENT_TYPE)
        {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(guess));
        }
        let content = self.content(spec)?;
        Some(Prepared {
            delay,
            act: Act::Reply {
                status: status?,
                headers,
                content,
            },
        })
    }

    fn status(&mut self, code: u16, empty: bool) -> Option<StatusCode> {
        let status = StatusCode::from_u16(code)
            .ok()
            .filter(|_| (200..=599).contains(&code));
        if status.is_none() {
            let what = format!("{code} is not a final status: use 200 to 599");
            self.problem(&["status"], what);
        }
        if matches!(code, 204 | 205 | 304) && !empty {
            let what =
                format!("an answer with status {code} has no body: drop the body or the status");
            self.problem(&["status"], what);
        }
        status
    }

    fn headers(&mut self, written: &[(String, String)]) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(written.len().saturating_add(1));
        for (name, value) in written {
            match header(name, value) {
                Ok((name, value)) => {
                    headers.append(name, value);
                }
                Err(what) => self.problem(&["headers", name], what),
            }
        }
        headers
    }

    fn content(&mut self, spec: AnswerSpec) -> Option<Content> {
        let body = spec.body;
        if spec.template {
            return self.made(body, spec.quoting);
        }
        let bytes = match body {
            BodySpec::Empty => Bytes::new(),
            BodySpec::Json(value) => Bytes::from(value.to_string()),
            BodySpec::Text(text) => Bytes::from(text),
            BodySpec::File { bytes, .. } => bytes,
        };
        Some(Content::Fixed(bytes))
    }

    fn made(&mut self, body: BodySpec, quoting: Quoting) -> Option<Content> {
        self.templates.quote(quoting);
        let made = match body {
            BodySpec::Empty => {
                let what = "there is nothing to fill in: give `json`, `body` or `file`";
                self.problem(&["template"], what);
                return None;
            }
            BodySpec::Json(value) => self.templates.json(self.index, &value),
            BodySpec::Text(text) => self.templates.text(self.index, "body", &text),
            BodySpec::File { bytes, .. } => {
                let Ok(text) = std::str::from_utf8(&bytes) else {
                    let what = "this file is not UTF-8 and cannot be a template";
                    self.problem(&["file"], what);
                    return None;
                };
                self.templates.text(self.index, "file", text)
            }
        };
        match made {
            Ok(recipe) => Some(Content::Made(recipe)),
            Err(mut problems) => {
                self.problems.append(&mut problems);
                None
            }
        }
    }
}

fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), String> {
    let parsed = HeaderName::try_from(name)
        .map_err(|_| format!("{name:?} is not a field name: letters, digits and - are"))?;
    if RESERVED.contains(&parsed.as_str()) {
        return Err(format!(
            "{name} cannot be set by a stub: the connection and the proxy decide it"
        ));
    }
    let value = HeaderValue::try_from(value).map_err(|_| {
        format!("the value of {name} holds a line break or another control character")
    })?;
    Ok((parsed, value))
}

fn media_type(body: &BodySpec) -> Option<&'static str> {
    match body {
        BodySpec::Empty => None,
        BodySpec::Json(_) => Some("application/json"),
        BodySpec::Text(_) => Some("text/plain; charset=utf-8"),
        BodySpec::File { name, .. } => Some(media_type_of_file(name)),
    }
}

fn media_type_of_file(name: &str) -> &'static str {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    match extension.to_ascii_lowercase().as_str() {
        "json" => "application/json",
        "txt" | "md" => "text/plain; charset=utf-8",
        "html" | "htm" => "text/html; charset=utf-8",
        "csv" => "text/csv; charset=utf-8",
        "ics" => "text/calendar; charset=utf-8",
        "xml" => "application/xml",
        "yaml" | "yml" => "application/yaml",
        "pdf" => "application/pdf",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "svg" => "image/svg+xml",
        "mp3" => "audio/mpeg",
        "wav" => "audio/wav",
        _ => "application/octet-stream",
    }
}
