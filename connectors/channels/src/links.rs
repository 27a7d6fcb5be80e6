//! URLs as users write them, checked the same way by every channel.

use url::Url;

use crate::{Invalid, Unfit};

/// Reads an absolute URL that begins with `http://` or `https://`. The error says what is wrong, goes on after the
/// name of the text, and repeats nothing of it.
pub(crate) fn http_url(text: &str) -> Result<Url, &'static str> {
    // `Url` would quietly repair `http:host` and `http:\\host`.
    let scheme = text.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    if !matches!(scheme.as_deref(), Some("http" | "https")) {
        return Err("must be an absolute URL that begins with `http://` or `https://`");
    }
    Url::parse(text).map_err(|_| "cannot be read as a URL")
}

/// The link of a media content.
pub(crate) fn media_url(text: &str) -> Result<Url, Unfit> {
    http_url(text).map_err(|problem| Unfit::new("content.url", format!("the media's URL {problem}")))
}

/// Where a provider is reached, as the key `base_url` says. Repeats nothing of the text: a password may be in it.
pub(crate) fn base_url(text: &str) -> Result<Url, Invalid> {
    let invalid = |detail: &str| Invalid { key: "base_url", detail: detail.to_owned() };
    let url = http_url(text).map_err(invalid)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(invalid("must not hold a user name or password"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(invalid("must not have a query (`?`) or fragment (`#`)"));
    }
    Ok(url)
}
