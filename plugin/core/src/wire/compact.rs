//! Where the texts of a request stand in its JSON, and a request without some of them.

use super::chat::Role;
use super::completions::Prompt;
use super::endpoint::Endpoint;
use super::json::Json;
use super::request::{Request, from_json};

/// The field by which a client marks the end of what its provider is to cache.
const CACHE_MARK: &str = "cache_control";

/// A text: an item of a list, or one part of its content; without an item the field itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    field: &'static str,
    item: Option<usize>,
    part: Option<usize>,
}

/// A text and where it stands.
#[derive(Debug, Clone, Copy)]
pub struct Text<'a> {
    place: Place,
    text: &'a str,
}

impl<'a> Text<'a> {
    pub fn place(&self) -> Place {
        self.place
    }

    pub fn text(&self) -> &'a str {
        self.text
    }
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    place: Place,
    /// What to put there; none: the item goes.
    text: Option<String>,
}

impl Edit {
    pub fn remove(place: Place) -> Self {
        Self { place, text: None }
    }

    pub fn replace(place: Place, text: String) -> Self {
        let text = Some(text);
        Self { place, text }
    }
}

/// The parts of a request that lie behind its provider's cached prefix.
#[derive(Debug)]
pub struct Parts<'a> {
    request: &'a Request,
    /// The field of the conversation, and how many of its items are before.
    messages: (&'static str, usize),
    /// The same for Anthropic's list of system blocks.
    system: Option<(&'static str, usize)>,
}

impl<'a> Parts<'a> {
    /// Everything behind the last mark; nothing if the request as a whole is marked.
    pub fn after_cached_prefix(request: &'a Request) -> Self {
        let field = request.endpoint.prompt_field();
        let all = match request.json.get(CACHE_MARK) {
            None | Some(Json::Null) => 0,
            Some(_) => usize::MAX,
        };
        let cached = |field: &str| {
            let last = items(request, field).iter().rposition(has_mark);
            last.map_or(0, |last| last.saturating_add(1)).max(all)
        };
        let messages = cached(field);
        // The system text comes before the conversation.
        let system = match (request.endpoint, messages) {
            (Endpoint::Messages, 0) => Some(("system", cached("system"))),
            _ => None,
        };
        Self {
            request,
            messages: (field, messages),
            system,
        }
    }

    /// Items of system text that are the same, to the last byte, as one before them.
    pub fn repeated_system_text(&self) -> Vec<Text<'a>> {
        let (field, cached) = self.system.unwrap_or(self.messages);
        let items = items(self.request, field);
        let is_system = |item: &Json| match field {
            "system" => true,
            _ => matches!(role_of(item), Some("system" | "developer")),
        };
        let texts = items.iter().enumerate().filter_map(|(index, item)| {
            let text = [item.get("content"), item.get("text")];
            let text = text.into_iter().flatten().find_map(Json::as_str)?;
            is_system(item).then_some((text, index, item))
        });
        // Sorted, so that a hostile list costs no square of its length.
        let mut texts: Vec<(&str, usize, &Json)> = texts.collect();
        texts.sort_by_key(|(text, _, _)| *text);
        let mut repeated: Vec<Text<'a>> = texts
            .windows(2)
            .filter_map(|pair| match pair {
                [(_, _, first), (text, index, item)] if first == item && *index >= cached => {
                    let place = Place {
                        field,
                        item: Some(*index),
                        part: None,
                    };
                    Some(Text { place, text })
                }
                _ => None,
            })
            .collect();
        repeated.sort_by_key(|text| text.place.item);
        repeated
    }

    /// The texts of every message of this role.
    pub fn texts_of(&self, role: Role) -> Vec<Text<'a>> {
        let (field, cached) = self.messages;
        let Prompt::Messages(_) = self.request.prompt else {
            return Vec::new();
        };
        let mut texts = Vec::new();
        if let (Some(Json::String(text)), 0, Role::User) =
            (self.request.json.get(field), cached, role)
        {
            let place = Place {
                field,
                item: None,
                part: None,
            };
            texts.push(Text { place, text });
        }
        let items = items(self.request, field).iter().enumerate().skip(cached);
        for (index, item) in items.filter(|(_, item)| role_of(item) == Some(role.as_str())) {
            let place = |part| Place {
                field,
                item: Some(index),
                part,
            };
            match item.get("content") {
                Some(Json::String(text)) => texts.push(Text {
                    place: place(None),
                    text,
                }),
                Some(Json::Array(parts)) => {
                    let texts_of_parts = parts.iter().enumerate().filter_map(|(number, part)| {
                        let place = place(Some(number));
                        let plain = matches!(
                            part.get("type").and_then(Json::as_str),
                            Some("text" | "input_text")
                        );
                        let text = part.get("text").and_then(Json::as_str).filter(|_| plain)?;
                        Some(Text { place, text })
                    });
                    texts.extend(texts_of_parts);
                }
                _ => {}
            }
        }
        texts
    }
}

/// A request with these changes and without null fields at its top. `None` should it not be a
/// request any more, which would be a defect: it then travels as it came.
pub fn edited(request: &Request, edits: &[Edit]) -> Option<Request> {
    let mut json = request.json.clone();
    if let Json::Object(entries) = &mut json {
        entries.retain(|(_, value)| !value.is_null());
    }
    for edit in edits {
        if let Some(text) = &edit.text {
            *text_at(&mut json, edit.place)? = text.clone();
        }
    }
    // From the last on, so that the others stay where they are.
    for edit in edits.iter().rev().filter(|edit| edit.text.is_none()) {
        let Json::Array(items) = field_of(&mut json, edit.place.field)? else {
            return None;
        };
        let item = edit.place.item.filter(|item| *item < items.len())?;
        items.remove(item);
    }
    let edited = from_json(request.endpoint, json).ok()?;
    Some(Request {
        is_compacted: true,
        ..edited
    })
}

/// Is there a mark for the provider's cache anywhere in this request?
pub fn has_cache_mark(request: &Request) -> bool {
    has_mark(&request.json)
}

fn items<'a>(request: &'a Request, field: &str) -> &'a [Json] {
    let items = request.json.get(field).and_then(Json::as_array);
    items.unwrap_or_default()
}

fn role_of(item: &Json) -> Option<&str> {
    item.get("role").and_then(Json::as_str)
}

/// Is there a mark anywhere in it? Recursion is bounded by the depth that the parser admits.
fn has_mark(json: &Json) -> bool {
    match json {
        Json::Array(items) => items.iter().any(has_mark),
        Json::Object(entries) => entries
            .iter()
            .any(|(key, value)| (key == CACHE_MARK && !value.is_null()) || has_mark(value)),
        _ => false,
    }
}

fn field_of<'a>(json: &'a mut Json, key: &str) -> Option<&'a mut Json> {
    let Json::Object(entries) = json else {
        return None;
    };
    let entry = entries.iter_mut().find(|(name, _)| name == key)?;
    Some(&mut entry.1)
}

fn text_at(json: &mut Json, place: Place) -> Option<&mut String> {
    let mut at = field_of(json, place.field)?;
    for (index, key) in [(place.item, "content"), (place.part, "text")] {
        let Some(index) = index else { break };
        let Json::Array(items) = at else { return None };
        at = field_of(items.get_mut(index)?, key)?;
    }
    match at {
        Json::String(text) => Some(text),
        _ => None,
    }
}
