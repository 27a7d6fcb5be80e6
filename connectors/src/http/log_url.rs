//! URLs as logs may show them.

use std::fmt;

use url::{Position, Url};

/// Scheme, host and port: some providers have their token in the path.
pub struct LogUrl(String);

impl LogUrl {
    /// Empty unless the log shows what the client logs: most calls log nothing and need no copy.
    pub fn if_logged(url: &Url) -> Self {
        if tracing::enabled!(target: "chat4all_connectors::http", tracing::Level::DEBUG) {
            Self::of(url)
        } else {
            Self(String::new())
        }
    }

    fn of(url: &Url) -> Self {
        let (scheme, host) = (url.scheme(), &url[Position::BeforeHost..Position::AfterPort]);
        Self(format!("{scheme}://{host}"))
    }
}

impl fmt::Display for LogUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_secret_is_left_out() {
        let check = |url: &str, expected| assert_eq!(LogUrl::of(&url.parse().unwrap()).to_string(), expected);
        check("https://ana:hunter2@example.com:8443/in?token=hunter2#part", "https://example.com:8443");
        check("http://[::1]:8090", "http://[::1]:8090");
    }
}
