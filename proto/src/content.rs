//! What a message says. One flat JSON object whose `type` decides which fields belong to it.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// What is carried to every address of a message.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Content {
    Text {
        text: String,
    },
    Media {
        url: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        caption: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        mime_type: Option<String>,
    },
    Template {
        name: String,
        language: String,
        #[serde(skip_serializing_if = "Map::is_empty")]
        variables: Map<String, Value>,
    },
    /// Text with choices to tap: reply buttons, or a list that opens.
    Interactive {
        text: String,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        buttons: Vec<Choice>,
        #[serde(skip_serializing_if = "Option::is_none")]
        list: Option<List>,
    },
    /// JSON that a webhook receives byte for byte.
    Raw {
        body: Box<RawValue>,
    },
}

impl Content {
    /// The value of `type`.
    pub fn kind(&self) -> &'static str {
        match self {
            Content::Text { .. } => "text",
            Content::Media { .. } => "media",
            Content::Template { .. } => "template",
            Content::Interactive { .. } => "interactive",
            Content::Raw { .. } => "raw",
        }
    }
}

/// Something to tap. The provider gives `id` back when it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choice {
    pub id: String,
    pub title: String,
    /// Shown below the title in a list; a button has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// A menu behind one button.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// On the button that opens it.
    pub button: String,
    pub sections: Vec<Section>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Section {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    pub rows: Vec<Choice>,
}

impl PartialEq for Content {
    fn eq(&self, other: &Self) -> bool {
        match (serde_json::to_string(self), serde_json::to_string(other)) {
            (Ok(a), Ok(b)) => a == b,
            _ => false,
        }
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// Takes an object only: what serde derives would also take the fields as an array, by position.
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Flat;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with a `type`")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Flat, A::Error> {
                Flat::deserialize(MapAccessDeserializer::new(map))
            }
        }

        deserializer.deserialize_map(Object)?.try_into().map_err(D::Error::custom)
    }
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Text,
    Media,
    Template,
    Interactive,
    Raw,
}

/// Every field of every type: serde's own tagged enums buffer their input, which loses the bytes of `raw` and the
/// name of an unknown field.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Flat {
    #[serde(rename = "type")]
    kind: Kind,
    text: Option<String>,
    url: Option<String>,
    caption: Option<String>,
    mime_type: Option<String>,
    name: Option<String>,
    language: Option<String>,
    variables: Option<Map<String, Value>>,
    buttons: Option<Vec<Choice>>,
    list: Option<List>,
    body: Option<Box<RawValue>>,
}

impl TryFrom<Flat> for Content {
    type Error = String;

    fn try_from(mut flat: Flat) -> Result<Self, String> {
        fn need<T>(field: &mut Option<T>, name: &str, kind: &str) -> Result<T, String> {
            field.take().ok_or_else(|| format!("content of type `{kind}` needs the field `{name}`"))
        }
        let content = match flat.kind {
            Kind::Text => Content::Text { text: need(&mut flat.text, "text", "text")? },
            Kind::Media => Content::Media {
                url: need(&mut flat.url, "url", "media")?,
                caption: flat.caption.take(),
                mime_type: flat.mime_type.take(),
            },
            Kind::Template => Content::Template {
                name: need(&mut flat.name, "name", "template")?,
                language: need(&mut flat.language, "language", "template")?,
                variables: flat.variables.take().unwrap_or_default(),
            },
            Kind::Interactive => Content::Interactive {
                text: need(&mut flat.text, "text", "interactive")?,
                buttons: flat.buttons.take().unwrap_or_default(),
                list: flat.list.take(),
            },
            Kind::Raw => Content::Raw { body: need(&mut flat.body, "body", "raw")? },
        };
        let left_over = [
            ("text", flat.text.is_some()),
            ("url", flat.url.is_some()),
            ("caption", flat.caption.is_some()),
            ("mime_type", flat.mime_type.is_some()),
            ("name", flat.name.is_some()),
            ("language", flat.language.is_some()),
            ("variables", flat.variables.is_some()),
            ("buttons", flat.buttons.is_some()),
            ("list", flat.list.is_some()),
            ("body", flat.body.is_some()),
        ];
        match left_over.iter().find(|(_, present)| *present) {
            Some((name, _)) => Err(format!("content of type `{}` has no field `{name}`", content.kind())),
            None => Ok(content),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, expected: Result<&str, &str>) {
        match (serde_json::from_str::<Content>(json), expected) {
            (Ok(content), Ok(printed)) => assert_eq!(serde_json::to_string(&content).unwrap(), printed),
            (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{json}: {error}"),
            (got, expected) => panic!("{json}: {got:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn each_type_takes_its_own_fields_only() {
        check(r#"{"type":"text","text":"hi"}"#, Ok(r#"{"type":"text","text":"hi"}"#));
        check(r#"{"url":"https://x/y.png","type":"media"}"#, Ok(r#"{"type":"media","url":"https://x/y.png"}"#));
        check(r#"{"type":"text"}"#, Err("needs the field `text`"));
        check(r#"{"type":"text","text":"a","url":"b"}"#, Err("has no field `url`"));
        check(r#"{"type":"text","txt":"a"}"#, Err("unknown field `txt`"));
        check(r#"{"type":"fax"}"#, Err("unknown variant `fax`"));
        let menu = r#"{"type":"interactive","text":"Which?","buttons":[{"id":"a","title":"A"}]}"#;
        check(menu, Ok(menu));
        check(r#"{"type":"interactive","text":"Which?","buttons":[{"id":"a"}]}"#, Err("missing field `title`"));
        check(r#"{"type":"text","text":"a","buttons":[]}"#, Err("has no field `buttons`"));
        check(r#"["text","hi"]"#, Err("expected an object with a `type`"));
    }

    #[test]
    fn raw_keeps_its_bytes() {
        check(r#"{"type":"raw","body":{"b": 1.10, "a":[ 1]}}"#, Ok(r#"{"type":"raw","body":{"b": 1.10, "a":[ 1]}}"#));
    }
}
