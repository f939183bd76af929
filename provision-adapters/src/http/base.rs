//! Where a provider is reached.

use std::net::IpAddr;

use reqwest::Url;

/// The root of a provider's API: HTTPS, or HTTP to a literal loopback address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl {
    text: String,
    host: String,
    tls: bool,
}

/// Why a text is not a [`BaseUrl`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BaseUrlError {
    /// It does not parse as an absolute URL with a host.
    #[error("the base is not an absolute URL with a host")]
    Malformed,
    /// It is neither HTTPS nor HTTP to a literal loopback address.
    #[error("the base must be https, or http to a literal loopback address")]
    Insecure,
    /// It holds a user name, a password, a query or a fragment.
    #[error("the base must hold no credentials, query or fragment")]
    Surplus,
}

impl BaseUrl {
    /// Parses a base such as `https://api.github.com` or `http://127.0.0.1:8080`.
    ///
    /// A path prefix is kept (`https://host/api/v3`), a final slash is not.
    ///
    /// # Errors
    /// The text is no URL, is not HTTPS (a name such as `localhost` does not count as loopback,
    /// since a resolver could answer anything), or carries more than scheme, host, port and path.
    pub fn parse(text: &str) -> Result<Self, BaseUrlError> {
        let url = Url::parse(text).map_err(|_| BaseUrlError::Malformed)?;
        let host = url.host_str().ok_or(BaseUrlError::Malformed)?.to_owned();
        let literal = host.trim_start_matches('[').trim_end_matches(']');
        let loopback = literal.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        // X2: tokens travel encrypted, except to this very machine.
        let tls = match url.scheme() {
            "https" => true,
            "http" if loopback => false,
            _ => return Err(BaseUrlError::Insecure),
        };
        let credentials = !url.username().is_empty() || url.password().is_some();
        if credentials || url.query().is_some() || url.fragment().is_some() {
            return Err(BaseUrlError::Surplus);
        }
        let text = url.as_str().trim_end_matches('/').to_owned();
        Ok(Self { text, host, tls })
    }

    /// The base without a final slash.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The host, without its port.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether reaching it needs TLS.
    #[must_use]
    pub fn needs_tls(&self) -> bool {
        self.tls
    }
}

#[cfg(test)]
mod tests {
    use super::{BaseUrl, BaseUrlError};

    // covers: X2
    #[test]
    fn only_https_and_literal_loopback_are_bases() {
        let cases = [
            ("https://api.github.com", Ok("https://api.github.com")),
            ("https://ghe.example/api/v3/", Ok("https://ghe.example/api/v3")),
            ("http://127.0.0.1:4111", Ok("http://127.0.0.1:4111")),
            ("http://[::1]:4111/", Ok("http://[::1]:4111")),
            ("http://localhost:4111", Err(BaseUrlError::Insecure)),
            ("http://127.0.0.1.example.com", Err(BaseUrlError::Insecure)),
            ("http://api.github.com", Err(BaseUrlError::Insecure)),
            ("http://10.0.0.1", Err(BaseUrlError::Insecure)),
            ("ftp://127.0.0.1", Err(BaseUrlError::Insecure)),
            ("https://user:pw@api.github.com", Err(BaseUrlError::Surplus)),
            ("https://api.github.com?x=1", Err(BaseUrlError::Surplus)),
            ("https://api.github.com#x", Err(BaseUrlError::Surplus)),
            ("api.github.com", Err(BaseUrlError::Malformed)),
            ("", Err(BaseUrlError::Malformed)),
        ];
        for (text, expected) in cases {
            let got = BaseUrl::parse(text);
            assert_eq!(got.as_ref().map(BaseUrl::as_str).map_err(|e| *e), expected, "{text}");
        }
    }
}
