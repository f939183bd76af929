//! What a simulated provider is asked and answers.

use std::time::Duration;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// One request, decoded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SimRequest {
    /// Method, in upper case.
    pub method: String,
    /// Path segments, decoded.
    pub path: Vec<String>,
    /// Query parameters, decoded, in their order.
    pub query: Vec<(String, String)>,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Value of the `Host` header.
    pub host: String,
    /// The body.
    pub body: Vec<u8>,
    /// What this request creates stays out of listings for so long; zero without a fault.
    pub hidden_for: Duration,
}

impl SimRequest {
    /// The first header of that name (in lower case).
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The first query parameter of that name.
    #[must_use]
    pub fn q(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// All query parameters of that name.
    #[must_use]
    pub fn q_all(&self, name: &str) -> Vec<&str> {
        self.query.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect()
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// The body has another shape; says where.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, String> {
        serde_json::from_slice(&self.body).map_err(|error| error.to_string())
    }

    /// The token of `Authorization: Bearer`.
    #[must_use]
    pub fn bearer(&self) -> Option<&str> {
        self.header("authorization")?.strip_prefix("Bearer ")
    }

    /// The segments as `&str`, for matching.
    #[must_use]
    pub fn segments(&self) -> Vec<&str> {
        self.path.iter().map(String::as_str).collect()
    }
}

/// One answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SimResponse {
    /// HTTP status.
    pub status: u16,
    /// Headers, without length and connection: the front adds them.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl SimResponse {
    /// An answer with a JSON body.
    #[must_use]
    pub fn json(status: u16, value: &impl Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => Self { status, headers: Vec::new(), body }
                .header("content-type", "application/json; charset=utf-8"),
            Err(error) => Self::text(500, "text/plain", error.to_string()),
        }
    }

    /// An answer without a body.
    #[must_use]
    pub fn empty(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    /// An answer with a body of the given content type.
    #[must_use]
    pub fn text(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }.header("content-type", content_type)
    }

    /// The answer to a route the simulator does not know: 501, said aloud in `x-sim-unhandled`.
    #[must_use]
    pub fn unhandled(request: &SimRequest) -> Self {
        let what = format!("{} /{}", request.method, request.path.join("/"));
        let body = serde_json::json!({ "message": format!("the simulator has no route {what}") });
        Self::json(501, &body).header("x-sim-unhandled", &what)
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let value: String = value.chars().filter(|c| !c.is_control()).collect();
        self.headers.push((name.to_ascii_lowercase(), value));
        self
    }
}
