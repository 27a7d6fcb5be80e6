//! What WhatsApp is known to refuse, found before a message is accepted.

use std::ops::RangeInclusive;

use chat4all_proto::Content;
use chat4all_proto::content::{Choice, List, Section};
use serde_json::{Map, Value};

use super::config::Templates;
use crate::links::media_url;
use crate::meta::limits::{characters, within};
use crate::meta::media::{self, Kind};
use crate::{Outgoing, Unfit};

// In characters.
const TEXT: RangeInclusive<usize> = 1..=4_096;
const CAPTION: RangeInclusive<usize> = 0..=1_024;
const INTERACTIVE_TEXT: RangeInclusive<usize> = 1..=1_024;
const BUTTON_TITLE: RangeInclusive<usize> = 1..=20;
const BUTTON_ID: RangeInclusive<usize> = 1..=256;
const SECTION_TITLE: RangeInclusive<usize> = 1..=24;
const ROW_TITLE: RangeInclusive<usize> = 1..=24;
const ROW_DESCRIPTION: RangeInclusive<usize> = 1..=72;
const ROW_ID: RangeInclusive<usize> = 1..=200;
// In pieces.
const BUTTONS: RangeInclusive<usize> = 1..=3;
const ROWS: RangeInclusive<usize> = 1..=10;

/// Whether WhatsApp would take this content. `templates` are those that the user listed.
pub(super) fn check(outgoing: &Outgoing<'_>, templates: Option<&Templates>) -> Result<(), Unfit> {
    if outgoing.reply_to == Some("") {
        return Err(Unfit::new("reply_to", "the id of the message to reply to is empty"));
    }
    match outgoing.content {
        Content::Text { text } => within("content.text", "the text", characters(text), TEXT),
        Content::Media { url, caption, mime_type } => check_media(url, caption.as_deref(), mime_type.as_deref()),
        Content::Template { name, language, variables } => check_template(name, language, variables, templates),
        Content::Interactive { text, buttons, list } => check_interactive(text, buttons, list.as_ref()),
        Content::Raw { .. } => Err(no_raw()),
    }
}

pub(super) fn no_raw() -> Unfit {
    Unfit::new("content.type", "WhatsApp takes no content of type `raw`")
}

fn check_media(url: &str, caption: Option<&str>, mime_type: Option<&str>) -> Result<(), Unfit> {
    let kind = media::kind(&media_url(url)?, mime_type);
    let caption = caption.unwrap_or_default();
    if matches!(kind, Kind::Audio | Kind::Sticker) && !caption.is_empty() {
        return Err(Unfit::new("content.caption", "audio and stickers have no caption; send it as a text of its own"));
    }
    within("content.caption", "the caption", characters(caption), CAPTION)
}

fn check_interactive(text: &str, buttons: &[Choice], list: Option<&List>) -> Result<(), Unfit> {
    within("content.text", "the text", characters(text), INTERACTIVE_TEXT)?;
    match (buttons, list) {
        ([], Some(list)) => check_list(list),
        ([_, ..], Some(_)) => Err(Unfit::new("content.list", "a message has either `buttons` or a `list`, not both")),
        (buttons, None) => check_buttons(buttons),
    }
}

fn check_buttons(buttons: &[Choice]) -> Result<(), Unfit> {
    within("content.buttons", "a message without a `list`", (buttons.len(), "buttons"), BUTTONS)?;
    buttons.iter().enumerate().try_for_each(|(index, button)| {
        let field = |name: &str| format!("content.buttons[{index}].{name}");
        within(field("title"), "the title", characters(&button.title), BUTTON_TITLE)?;
        within(field("id"), "the id", characters(&button.id), BUTTON_ID)?;
        match button.description {
            Some(_) => Err(Unfit::new(field("description"), "a button has no description; the rows of a `list` do")),
            None => Ok(()),
        }
    })
}

fn check_list(list: &List) -> Result<(), Unfit> {
    within("content.list.button", "the button's text", characters(&list.button), BUTTON_TITLE)?;
    let rows = list.sections.iter().map(|section| section.rows.len()).sum();
    within("content.list.sections", "the list", (rows, "rows in all"), ROWS)?;
    let title_is_needed = list.sections.len() > 1;
    list.sections.iter().enumerate().try_for_each(|(index, section)| check_section(index, section, title_is_needed))
}

fn check_section(index: usize, section: &Section, title_is_needed: bool) -> Result<(), Unfit> {
    let field = |name: &str| format!("content.list.sections[{index}].{name}");
    match &section.title {
        Some(title) => within(field("title"), "the title", characters(title), SECTION_TITLE)?,
        None if title_is_needed => {
            return Err(Unfit::new(field("title"), "each of several sections must have a title"));
        }
        None => {}
    }
    within(field("rows"), "the section", (section.rows.len(), "rows"), ROWS)?;
    section.rows.iter().enumerate().try_for_each(|(row_index, row)| {
        let field = |name: &str| field(&format!("rows[{row_index}].{name}"));
        within(field("title"), "the title", characters(&row.title), ROW_TITLE)?;
        within(field("id"), "the id", characters(&row.id), ROW_ID)?;
        let Some(description) = &row.description else { return Ok(()) };
        within(field("description"), "the description", characters(description), ROW_DESCRIPTION)
    })
}

fn check_template(
    name: &str,
    language: &str,
    variables: &Map<String, Value>,
    templates: Option<&Templates>,
) -> Result<(), Unfit> {
    if name.is_empty() {
        return Err(Unfit::new("content.name", "the template's name is empty"));
    }
    if language.is_empty() {
        return Err(Unfit::new("content.language", "the template's language is empty"));
    }
    if let Some(templates) = templates {
        let wanted = templates.get(name);
        check_variables(variables, wanted.ok_or_else(|| not_listed(name, templates))?)?;
    }
    parameters(variables).map(drop)
}

fn not_listed(name: &str, templates: &Templates) -> Unfit {
    let names: Vec<_> = templates.keys().map(String::as_str).collect();
    let there_are =
        if names.is_empty() { "there are none".to_owned() } else { format!("there are {}", names.join(", ")) };
    Unfit::new("content.name", format!("the configuration lists no template `{name}`; {there_are}"))
}

fn check_variables(variables: &Map<String, Value>, wanted: &[String]) -> Result<(), Unfit> {
    let field = |name: &str| format!("content.variables.{name}");
    if let Some(missing) = wanted.iter().find(|name| !variables.contains_key(*name)) {
        return Err(Unfit::new(field(missing), format!("the template needs the variable `{missing}`")));
    }
    match variables.keys().find(|name| !wanted.contains(name)) {
        Some(extra) => Err(Unfit::new(field(extra), format!("the template has no variable `{extra}`"))),
        None => Ok(()),
    }
}

/// A variable of a template, as it is sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parameter<'a> {
    /// `None`: its place alone says which it is.
    pub name: Option<&'a str>,
    pub text: String,
}

/// A template's variables in the order in which they are sent.
pub(super) fn parameters(variables: &Map<String, Value>) -> Result<Vec<Parameter<'_>>, Unfit> {
    let naming = naming(variables.keys().map(String::as_str))
        .map_err(|problem| Unfit::new("content.variables", format!("the template has variables that {problem}")))?;
    let mut parameters = Vec::with_capacity(variables.len());
    for (name, value) in variables {
        parameters.push(Parameter { name: Some(name), text: text(name, value)? });
    }
    if naming == Naming::Numbers {
        parameters.sort_by_key(|parameter| parameter.name.and_then(number));
        parameters.iter_mut().for_each(|parameter| parameter.name = None);
    }
    Ok(parameters)
}

/// How the variables of a template are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Naming {
    /// `1`, `2`, …: by their place.
    Numbers,
    Names,
}

/// Which of the two a template uses. The error goes on after "variables that".
pub(super) fn naming<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Naming, &'static str> {
    let names: Vec<_> = names.into_iter().collect();
    let mut numbers: Vec<_> = names.iter().filter_map(|name| number(name)).collect();
    numbers.sort_unstable();
    if names.contains(&"") {
        Err("are without a name")
    } else if numbers.is_empty() {
        Ok(Naming::Names)
    } else if numbers.len() < names.len() {
        Err("mix numbers and names")
    } else if numbers.into_iter().eq(1..=names.len()) {
        Ok(Naming::Numbers)
    } else {
        Err("are not numbered `1`, `2`, … without a gap")
    }
}

fn number(name: &str) -> Option<usize> {
    name.parse().ok().filter(|number: &usize| number.to_string() == name)
}

fn text(name: &str, value: &Value) -> Result<String, Unfit> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(_) | Value::Bool(_) => Ok(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => {
            Err(Unfit::new(format!("content.variables.{name}"), "a variable must be a string, number or boolean"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Config, WhatsApp};
    use super::*;
    use crate::Channel;
    use serde_json::json;

    /// `expected` is the field and some words of the refusal.
    fn check_with(templates: Value, content: &Value, expected: Result<(), (&str, &str)>) {
        let mut config = json!({"phone_number_id": "1065", "access_token": "EAAG"});
        config["templates"] = templates;
        let channel = WhatsApp::new(serde_json::from_value::<Config>(config).unwrap()).ok().unwrap();
        let content: Content = serde_json::from_value(content.clone()).unwrap();
        let outgoing = Outgoing { target: "+5562996991812", content: &content, reply_to: None };
        match (channel.check(&outgoing), expected) {
            (Ok(()), Ok(())) => {}
            (Err(unfit), Err((field, words))) => {
                assert_eq!(unfit.field, field, "{unfit}");
                assert!(unfit.detail.contains(words), "{field}: {unfit}");
            }
            (got, expected) => panic!("{got:?}, expected {expected:?}"),
        }
    }

    fn check(content: Value, expected: Result<(), (&str, &str)>) {
        check_with(Value::Null, &content, expected);
    }

    /// A text with so many characters, whose `field` may have `allowed`, is refused outside and taken at the bounds.
    fn check_bounds(field: &str, allowed: RangeInclusive<usize>, content: impl Fn(&str) -> Value) {
        let (min, max) = allowed.into_inner();
        for letter in ["a", "é", "日", "🚚"] {
            let of = |count: usize| content(&letter.repeat(count));
            check(of(min), Ok(()));
            check(of(max), Ok(()));
            check(of(max + 1), Err((field, &format!("has {} characters; {min} to {max} are allowed", max + 1))));
            if let Some(below) = min.checked_sub(1) {
                check(of(below), Err((field, &format!("has {below} characters; {min} to {max} are allowed"))));
            }
        }
    }

    fn buttons(count: usize) -> Value {
        (0..count).map(|index| json!({"id": index.to_string(), "title": "A"})).collect()
    }

    fn list(sections: &[(Option<&str>, usize)]) -> Value {
        let sections = sections.iter().map(|&(title, rows)| match title {
            Some(title) => json!({"title": title, "rows": buttons(rows)}),
            None => json!({"rows": buttons(rows)}),
        });
        json!({"type": "interactive", "text": "Which?", "list": {"button": "See", "sections": sections.collect::<Value>()}})
    }

    #[test]
    fn lengths_are_counted_in_characters() {
        check_bounds("content.text", 1..=4_096, |text| json!({"type": "text", "text": text}));
        check_bounds(
            "content.caption",
            0..=1_024,
            |caption| json!({"type": "media", "url": "https://x/a.png", "caption": caption}),
        );
        check_bounds(
            "content.text",
            1..=1_024,
            |text| json!({"type": "interactive", "text": text, "buttons": buttons(1)}),
        );
        let button = |button: Value| json!({"type": "interactive", "text": "?", "buttons": [buttons(1)[0], button]});
        check_bounds("content.buttons[1].title", 1..=20, |title| button(json!({"id": "b", "title": title})));
        check_bounds("content.buttons[1].id", 1..=256, |id| button(json!({"id": id, "title": "B"})));
        let row = |row: Value| {
            let mut content = list(&[(Some("One"), 1), (Some("Two"), 2)]);
            content["list"]["sections"][1]["rows"][1] = row;
            content
        };
        let field = |name: &str| format!("content.list.sections[1].rows[1].{name}");
        check_bounds(&field("title"), 1..=24, |title| row(json!({"id": "b", "title": title})));
        check_bounds(&field("id"), 1..=200, |id| row(json!({"id": id, "title": "B"})));
        check_bounds(&field("description"), 1..=72, |text| row(json!({"id": "b", "title": "B", "description": text})));
        check_bounds("content.list.sections[1].title", 1..=24, |title| list(&[(Some("One"), 1), (Some(title), 1)]));
        check_bounds("content.list.sections[0].title", 1..=24, |title| list(&[(Some(title), 1)]));
        check_bounds("content.list.button", 1..=20, |text| {
            let mut content = list(&[(None, 1)]);
            content["list"]["button"] = text.into();
            content
        });
    }

    #[test]
    fn a_message_has_one_to_three_buttons_or_a_list_of_one_to_ten_rows() {
        let of_buttons = |count| json!({"type": "interactive", "text": "?", "buttons": buttons(count)});
        check(of_buttons(0), Err(("content.buttons", "has 0 buttons; 1 to 3 are allowed")));
        check(of_buttons(1), Ok(()));
        check(of_buttons(3), Ok(()));
        check(of_buttons(4), Err(("content.buttons", "has 4 buttons; 1 to 3 are allowed")));
        check(list(&[]), Err(("content.list.sections", "has 0 rows in all; 1 to 10 are allowed")));
        check(list(&[(None, 10)]), Ok(()));
        check(list(&[(None, 11)]), Err(("content.list.sections", "has 11 rows in all")));
        check(list(&[(Some("One"), 5), (Some("Two"), 5)]), Ok(()));
        check(list(&[(Some("One"), 5), (Some("Two"), 6)]), Err(("content.list.sections", "has 11 rows in all")));
        check(list(&[(Some("One"), 5), (Some("Two"), 0)]), Err(("content.list.sections[1].rows", "has 0 rows")));
        check(list(&[(Some("One"), 5), (None, 5)]), Err(("content.list.sections[1].title", "must have a title")));
        let mut both = list(&[(None, 1)]);
        both["buttons"] = buttons(1);
        check(both, Err(("content.list", "not both")));
        let described =
            json!({"type": "interactive", "text": "?", "buttons": [{"id": "a", "title": "A", "description": "a"}]});
        check(described, Err(("content.buttons[0].description", "has no description")));
    }

    #[test]
    fn media_is_a_link_and_audio_and_stickers_have_no_caption() {
        let media = |url: &str, caption: &str| json!({"type": "media", "url": url, "caption": caption});
        for url in ["https://x/a.mp3", "https://x/a.webp"] {
            check(media(url, "a"), Err(("content.caption", "a text of its own")));
            check(media(url, ""), Ok(()));
        }
        let ogg = json!({"type": "media", "url": "https://x/a", "caption": "a", "mime_type": "audio/ogg"});
        check(ogg, Err(("content.caption", "a text of its own")));
        for url in ["https://x/a.mp4", "https://x/a.pdf", "http://x/a"] {
            check(media(url, "a"), Ok(()));
        }
        for url in ["", "a.png", "/a.png", "ftp://x/a.png", "https:x/a.png", "data:image/png;base64,"] {
            check(media(url, ""), Err(("content.url", "must be an absolute URL")));
        }
        check(media("https://", ""), Err(("content.url", "cannot be read")));
    }

    #[test]
    fn raw_content_and_an_empty_reply_are_refused() {
        check(json!({"type": "raw", "body": {}}), Err(("content.type", "`raw`")));
        let text = Content::Text { text: "a".into() };
        let check = |reply_to| super::check(&Outgoing { target: "", content: &text, reply_to: Some(reply_to) }, None);
        assert_eq!(check("").unwrap_err().field, "reply_to");
        assert_eq!(check("wamid.HBgL"), Ok(()));
    }

    fn template(variables: Value) -> Value {
        json!({"type": "template", "name": "parcel", "language": "pt_BR", "variables": variables})
    }

    #[test]
    fn variables_are_numbered_without_a_gap_or_named() {
        check(template(json!({})), Ok(()));
        check(template(json!({"1": "a", "2": 7, "3": true})), Ok(()));
        check(template(json!({"name": "Ana", "01": "a"})), Ok(()));
        for gap in [json!({"2": "a"}), json!({"0": "a"}), json!({"0": "a", "1": "b"}), json!({"1": "a", "3": "b"})] {
            check(template(gap), Err(("content.variables", "without a gap")));
        }
        check(template(json!({"1": "a", "name": "b"})), Err(("content.variables", "mix numbers and names")));
        check(template(json!({"": "a"})), Err(("content.variables", "without a name")));
        for value in [json!(null), json!([]), json!({})] {
            check(template(json!({"name": value})), Err(("content.variables.name", "string, number or boolean")));
        }
        let nameless = json!({"type": "template", "name": "", "language": "pt_BR"});
        check(nameless, Err(("content.name", "is empty")));
        let without_language = json!({"type": "template", "name": "parcel", "language": ""});
        check(without_language, Err(("content.language", "is empty")));
    }

    #[test]
    fn numbered_variables_are_sent_in_the_order_of_their_numbers() {
        let numbered: Map<_, _> = (1..=12).map(|number: u32| (number.to_string(), json!(number))).collect();
        let texts: Vec<_> = (1..=12).map(|number: u32| Parameter { name: None, text: number.to_string() }).collect();
        assert_eq!(parameters(&numbered), Ok(texts));
        let named = Map::from_iter([("b".to_owned(), json!("x")), ("a".to_owned(), json!(1.5))]);
        let [a, b] = [("a", "1.5"), ("b", "x")].map(|(name, text)| Parameter { name: Some(name), text: text.into() });
        assert_eq!(parameters(&named), Ok(vec![a, b]));
    }

    #[test]
    fn where_templates_are_listed_others_are_refused_and_variables_must_be_theirs() {
        let check = |variables, expected| {
            check_with(json!({"other": [], "parcel": ["name", "order"]}), &template(variables), expected);
        };
        check(json!({"order": 42, "name": "Ana"}), Ok(()));
        check(json!({"order": 42}), Err(("content.variables.name", "needs the variable `name`")));
        check(json!({"order": 42, "name": "Ana", "x": 1}), Err(("content.variables.x", "no variable `x`")));
        let unknown = Err(("content.name", "no template `parcel`; there are a, b"));
        check_with(json!({"a": [], "b": []}), &template(json!({})), unknown);
        check_with(json!({}), &template(json!({})), Err(("content.name", "there are none")));
    }
}
