//! What a link points at: by its MIME type, else by the extension of its file name.

use url::Url;

use super::hex;

/// What a provider must be told about media.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Image,
    /// WebP, which Meta takes as a sticker only.
    Sticker,
    Audio,
    Video,
    File,
}

pub(crate) fn kind(url: &Url, mime_type: Option<&str>) -> Kind {
    match mime_type {
        Some(mime_type) => of_mime_type(&mime_type.trim().to_ascii_lowercase()),
        None => of_extension(&extension(url)),
    }
}

/// The last part of the link's path, decoded. `None` for a path that ends with a slash.
pub(crate) fn file_name(url: &Url) -> Option<String> {
    let encoded = url.path_segments()?.next_back().filter(|name| !name.is_empty())?;
    let decoded = percent_decoded(encoded).filter(|name| !name.contains(|c: char| c == '/' || c.is_control()));
    Some(decoded.unwrap_or_else(|| encoded.to_owned()))
}

fn of_mime_type(mime_type: &str) -> Kind {
    let essence = mime_type.split(';').next().unwrap_or_default().trim_end();
    match essence.split('/').next() {
        _ if essence == "image/webp" => Kind::Sticker,
        Some("image") => Kind::Image,
        Some("audio") => Kind::Audio,
        Some("video") => Kind::Video,
        _ => Kind::File,
    }
}

fn extension(url: &Url) -> String {
    let name = url.path_segments().and_then(|mut segments| segments.next_back()).unwrap_or_default();
    name.rsplit_once('.').map_or_else(String::new, |(_, extension)| extension.to_ascii_lowercase())
}

fn of_extension(extension: &str) -> Kind {
    match extension {
        "jpg" | "jpeg" | "png" | "gif" => Kind::Image,
        "webp" => Kind::Sticker,
        "aac" | "amr" | "m4a" | "mp3" | "oga" | "ogg" | "opus" | "wav" => Kind::Audio,
        "3gp" | "avi" | "mov" | "mp4" | "webm" => Kind::Video,
        _ => Kind::File,
    }
}

/// `None` if it is not UTF-8 then.
fn percent_decoded(text: &str) -> Option<String> {
    let (mut rest, mut decoded) = (text.as_bytes(), Vec::with_capacity(text.len()));
    while let [first, after @ ..] = rest {
        let escaped = match rest {
            [b'%', high, low, after @ ..] => hex::byte(*high, *low).map(|byte| (byte, after)),
            _ => None,
        };
        let (byte, after) = escaped.unwrap_or((*first, after));
        decoded.push(byte);
        rest = after;
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, mime_type: Option<&str>, expected: Kind) {
        assert_eq!(kind(&url.parse().unwrap(), mime_type), expected, "{url} {mime_type:?}");
    }

    #[test]
    fn the_mime_type_decides_whatever_the_link_looks_like() {
        check("https://x/a.pdf", Some("image/png"), Kind::Image);
        check("https://x/a.png", Some("image/webp"), Kind::Sticker);
        check("https://x/a.png", Some(" Audio/OGG ; codecs=opus"), Kind::Audio);
        check("https://x/a.png", Some("video/mp4"), Kind::Video);
        for other in ["application/pdf", "text/plain", "images/png", "image", "", "audio-video/mp4"] {
            check("https://x/a.png", Some(other), if other == "image" { Kind::Image } else { Kind::File });
        }
    }

    #[test]
    fn without_one_the_extension_does() {
        check("https://x/a/photo.JPG?size=2.mp4#b.mp3", None, Kind::Image);
        check("https://x/a.webp", None, Kind::Sticker);
        check("https://x/a.b.mp3", None, Kind::Audio);
        check("https://x/a.mp4", None, Kind::Video);
        for other in ["https://x/a.pdf", "https://x/a", "https://x", "https://mp4", "https://x/a.mp4/", "https://x/mp4"]
        {
            check(other, None, Kind::File);
        }
    }

    #[test]
    fn a_file_name_is_the_last_part_of_the_path() {
        let check = |url: &str, expected: Option<&str>| {
            assert_eq!(file_name(&url.parse().unwrap()).as_deref(), expected, "{url}");
        };
        check("https://x/a/label.pdf?b=c/d.pdf", Some("label.pdf"));
        check("https://x/Sua%20conta%20n%C2%BA%201+1%.pdf", Some("Sua conta nº 1+1%.pdf"));
        check("https://x/olá.pdf", Some("olá.pdf"));
        check("https://x/a%2Fb.pdf", Some("a%2Fb.pdf"));
        check("https://x/a%0Ab.pdf", Some("a%0Ab.pdf"));
        check("https://x/%FF.pdf", Some("%FF.pdf"));
        check("https://x/%+1%é.pdf", Some("%+1%é.pdf"));
        for none in ["https://x", "https://x/", "https://x/a/"] {
            check(none, None);
        }
    }
}
