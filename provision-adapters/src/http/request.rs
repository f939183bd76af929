//! One request, built from path segments.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use provision_core::{Secret, StepContext, StepError};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;
use uuid::Uuid;

use super::base::BaseUrl;
#[cfg(feature = "supabase-storage")]
use super::file::FilePart;

/// Methods the adapters use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Reads.
    Get,
    /// Reads the head only.
    Head,
    /// Creates, or starts something.
    Post,
    /// Replaces.
    Put,
    /// Changes.
    Patch,
    /// Removes.
    Delete,
}

impl Method {
    fn wire(self) -> reqwest::Method {
        match self {
            Self::Get => reqwest::Method::GET,
            Self::Head => reqwest::Method::HEAD,
            Self::Post => reqwest::Method::POST,
            Self::Put => reqwest::Method::PUT,
            Self::Patch => reqwest::Method::PATCH,
            Self::Delete => reqwest::Method::DELETE,
        }
    }
}

/// A request to a provider. Its `Debug` form shows method and path, never headers or body.
#[derive(Clone)]
pub struct Request {
    method: Method,
    segments: Vec<String>,
    query: Vec<(String, String)>,
    headers: Vec<(&'static str, String, bool)>,
    body: Option<Content>,
    fault: Option<&'static str>,
}

/// What a request carries.
#[derive(Clone)]
enum Content {
    Bytes(Vec<u8>),
    #[cfg(feature = "supabase-storage")]
    File(FilePart),
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("segments", &self.segments)
            .finish_non_exhaustive()
    }
}

impl Request {
    /// Describes a request of `method` to the path made of `segments`.
    ///
    /// Every segment is percent-encoded; one that is empty, `.` or `..` is refused when sending.
    #[must_use]
    pub fn new<S: AsRef<str>>(method: Method, segments: &[S]) -> Self {
        Self {
            method,
            segments: segments.iter().map(|s| s.as_ref().to_owned()).collect(),
            query: Vec::new(),
            headers: Vec::new(),
            body: None,
            fault: None,
        }
    }

    /// Describes a GET.
    #[must_use]
    pub fn get<S: AsRef<str>>(segments: &[S]) -> Self {
        Self::new(Method::Get, segments)
    }

    /// Describes a POST.
    #[must_use]
    pub fn post<S: AsRef<str>>(segments: &[S]) -> Self {
        Self::new(Method::Post, segments)
    }

    /// Describes a PUT.
    #[must_use]
    pub fn put<S: AsRef<str>>(segments: &[S]) -> Self {
        Self::new(Method::Put, segments)
    }

    /// Describes a PATCH.
    #[must_use]
    pub fn patch<S: AsRef<str>>(segments: &[S]) -> Self {
        Self::new(Method::Patch, segments)
    }

    /// Describes a DELETE.
    #[must_use]
    pub fn delete<S: AsRef<str>>(segments: &[S]) -> Self {
        Self::new(Method::Delete, segments)
    }

    /// Adds a query parameter; both parts are encoded.
    #[must_use]
    pub fn query(mut self, name: &str, value: impl Into<String>) -> Self {
        self.query.push((name.to_owned(), value.into()));
        self
    }

    /// Sets a JSON body.
    #[must_use]
    pub fn json(mut self, body: &(impl Serialize + ?Sized)) -> Self {
        match serde_json::to_vec(body) {
            Ok(bytes) => self.body = Some(Content::Bytes(bytes)),
            Err(_) => self.fault = Some("the body cannot be written as json"),
        }
        self.header(CONTENT_TYPE_NAME, "application/json")
    }

    /// Sets a text body of the given content type.
    #[must_use]
    pub fn text(mut self, content_type: impl Into<String>, body: String) -> Self {
        self.body = Some(Content::Bytes(body.into_bytes()));
        self.header(CONTENT_TYPE_NAME, content_type)
    }

    /// Sets the first `length` bytes of a file as the body, sent piece by piece as they are read.
    ///
    /// The file is opened when the request is sent. One that is shorter by then cuts the call.
    #[cfg(feature = "supabase-storage")]
    #[must_use]
    pub fn file(
        mut self,
        content_type: impl Into<String>,
        path: std::path::PathBuf,
        length: u64,
    ) -> Self {
        self.body = Some(Content::File(FilePart { path, length }));
        self.header(CONTENT_TYPE_NAME, content_type)
    }

    /// Sets a form body; names and values are encoded.
    #[must_use]
    pub fn form(mut self, fields: &[(&str, &str)]) -> Self {
        let mut body = String::new();
        for (place, (name, value)) in fields.iter().enumerate() {
            if place > 0 {
                body.push('&');
            }
            encode(name, &mut body);
            body.push('=');
            encode(value, &mut body);
        }
        self.body = Some(Content::Bytes(body.into_bytes()));
        self.header(CONTENT_TYPE_NAME, "application/x-www-form-urlencoded")
    }

    /// Adds a header that may be printed.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into(), false));
        self
    }

    /// Adds a header that is marked sensitive, so that no layer below prints it.
    #[must_use]
    pub fn secret_header(mut self, name: &'static str, value: &Secret) -> Self {
        self.headers.push((name, value.expose().to_owned(), true));
        self
    }

    /// Adds `Authorization: Bearer`, marked sensitive.
    #[must_use]
    pub fn bearer(mut self, token: &Secret) -> Self {
        self.headers.push((AUTHORIZATION_NAME, format!("Bearer {}", token.expose()), true));
        self
    }

    /// Adds `Authorization: Basic`, marked sensitive.
    #[must_use]
    pub fn basic(mut self, user: &str, password: &Secret) -> Self {
        let pair = STANDARD.encode(format!("{user}:{}", password.expose()));
        self.headers.push((AUTHORIZATION_NAME, format!("Basic {pair}"), true));
        self
    }

    /// Turns it into what is sent. Every refusal is permanent and has no effect.
    pub(super) fn build(
        self,
        base: &BaseUrl,
        cx: &StepContext,
        operation: &'static str,
    ) -> Result<reqwest::Request, StepError> {
        let refuse = |why: &'static str| {
            StepError::permanent(operation).with_code("bad_request").with_message(why)
        };
        if let Some(fault) = self.fault {
            return Err(refuse(fault));
        }
        let url = url(base, &self.segments, &self.query).map_err(refuse)?;
        let mut request = reqwest::Request::new(self.method.wire(), url);
        let headers = request.headers_mut();
        headers.insert("accept", HeaderValue::from_static("application/json"));
        // Compressed answers are not asked for: what is read is what counts against the limit (X6).
        headers.insert("accept-encoding", HeaderValue::from_static("identity"));
        trace(headers, cx);
        for (name, value, sensitive) in self.headers {
            let mut value = HeaderValue::from_str(&value)
                .map_err(|_| refuse("a header value has characters that headers cannot hold"))?;
            value.set_sensitive(sensitive);
            let name = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| refuse("a header name has characters that headers cannot hold"))?;
            headers.insert(name, value);
        }
        match self.body {
            None => {}
            Some(Content::Bytes(bytes)) => *request.body_mut() = Some(bytes.into()),
            #[cfg(feature = "supabase-storage")]
            Some(Content::File(part)) => {
                let body = part.open().map_err(|error| {
                    StepError::retry(operation).with_code("file_unreadable").with_source(error)
                })?;
                *request.body_mut() = Some(reqwest::Body::wrap(body));
            }
        }
        Ok(request)
    }
}

const AUTHORIZATION_NAME: &str = "authorization";
const CONTENT_TYPE_NAME: &str = "content-type";

/// Says which run a request belongs to, in our own header and in the W3C trace context.
fn trace(headers: &mut HeaderMap, cx: &StepContext) {
    let run = cx.run_id();
    let span = Uuid::new_v5(run.as_uuid(), format!("{}#{}", cx.path(), cx.attempt()).as_bytes());
    let span: String = span.simple().to_string().chars().take(16).collect();
    let parent = format!("00-{}-{span}-01", run.as_uuid().simple());
    for (name, value) in [("x-provision-run", run.to_string()), ("traceparent", parent)] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}

fn url(
    base: &BaseUrl,
    segments: &[String],
    query: &[(String, String)],
) -> Result<reqwest::Url, &'static str> {
    let mut text = base.as_str().to_owned();
    for segment in segments {
        // X4: URL libraries drop these without a word, and the request hits another endpoint.
        if matches!(segment.as_str(), "" | "." | "..") {
            return Err("a path segment is empty, `.` or `..`");
        }
        text.push('/');
        encode(segment, &mut text);
    }
    for (place, (name, value)) in query.iter().enumerate() {
        text.push(if place == 0 { '?' } else { '&' });
        encode(name, &mut text);
        text.push('=');
        encode(value, &mut text);
    }
    reqwest::Url::parse(&text).map_err(|_| "the url cannot be built")
}

/// Percent-encodes everything but the unreserved characters of RFC 3986.
fn encode(text: &str, out: &mut String) {
    const HEX: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push('%');
            for half in [byte >> 4, byte & 15] {
                out.extend(HEX.get(usize::from(half)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Request, url};
    use crate::http::BaseUrl;

    fn path(segments: &[&str]) -> Result<String, &'static str> {
        let base = BaseUrl::parse("https://api.example/v1").unwrap();
        let segments: Vec<String> = segments.iter().map(|s| (*s).to_owned()).collect();
        url(&base, &segments, &[]).map(|u| u.path().to_owned())
    }

    // covers: X4
    #[test]
    fn a_segment_never_reaches_another_endpoint() {
        let cases = [
            (&["a", "b"][..], Some("/v1/a/b")),
            (&["a/b"], Some("/v1/a%2Fb")),
            (&["..\\..", "x"], Some("/v1/..%5C../x")),
            (&["%2e%2e"], Some("/v1/%252e%252e")),
            (&["a?b#c"], Some("/v1/a%3Fb%23c")),
            (&["ü\u{0}\n"], Some("/v1/%C3%BC%00%0A")),
            (&["..."], Some("/v1/...")),
            (&["a", ""], None),
            (&["a", "."], None),
            (&["a", "..", "b"], None),
        ];
        for (segments, expected) in cases {
            assert_eq!(path(segments).ok().as_deref(), expected, "{segments:?}");
        }
    }

    #[test]
    fn form_values_are_encoded_and_never_shown() {
        let request = Request::post(&["token"]).form(&[("id", "a b"), ("secret", "x&y=z%")]);
        let Some(super::Content::Bytes(body)) = request.body.clone() else { panic!("no bytes") };
        let body = String::from_utf8(body).unwrap();
        assert_eq!(body, "id=a%20b&secret=x%26y%3Dz%25");
        assert!(!format!("{request:?}").contains("secret"));
    }

    #[test]
    fn query_values_are_encoded() {
        let base = BaseUrl::parse("https://api.example").unwrap();
        let query = [("created".to_owned(), ">=2026-01-01T00:00:00Z&x".to_owned())];
        let url = url(&base, &["r".to_owned()], &query).unwrap();
        assert_eq!(url.query(), Some("created=%3E%3D2026-01-01T00%3A00%3A00Z%26x"));
    }
}
