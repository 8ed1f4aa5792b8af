//! Reads the tree in one pass. What is no JSON is refused in serde_json's words, which say where;
//! what is JSON but could be read in two ways is refused in ours.

use super::scan::plain_bytes;
use super::{Json, Layout, Member, Number, Spacing, echo};
use crate::error::{ApiError, ErrorKind};
use crate::limits::{JSON_DEPTH_MAX, JSON_VALUES_MAX};
use serde::de::IgnoredAny;

/// Objects up to this many keys look for a duplicate by a scan, larger ones by sorting.
const KEYS_SCANNED_MAX: usize = 16;

/// [`Json::parse_laid_out`].
pub(super) fn read(bytes: &[u8]) -> Result<(Json, Layout), ApiError> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        invalid(format!(
            "the body is not valid UTF-8: the bytes at offset {at} are no character"
        ))
    })?;
    if text.starts_with('\u{feff}') {
        return Err(invalid(
            "the body starts with a byte order mark; JSON must not have one",
        ));
    }
    if text.trim_ascii().is_empty() {
        return Err(invalid("the body is empty"));
    }
    let mut reader = Reader::of(text);
    let tree = reader.document().map_err(|stop| match stop {
        Stop::Syntax => invalid(format!("the body is not valid JSON: {}", complaint(text))),
        Stop::Refused(fault) => fault.into_api_error(),
    })?;
    Ok((tree, reader.layout))
}

/// What stands between the quotes of a string, escapes resolved.
pub(super) fn unescaped(text: &str) -> Option<String> {
    let quoted = ["\"", text, "\""].concat();
    let mut reader = Reader::of(&quoted);
    let said = reader.string().ok()?;
    reader.rest.is_empty().then_some(said)
}

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::new(ErrorKind::InvalidJson, message)
}

/// What serde_json says of a text that is no JSON, with its line and column.
fn complaint(text: &str) -> String {
    match serde_json::from_str::<IgnoredAny>(text) {
        Err(error) => error.to_string(),
        Ok(_) => match serde_json::from_str::<serde_json::Value>(text) {
            Err(error) => error.to_string(),
            // Nothing that it takes comes here; the fuzz target of requests looks for it.
            Ok(_) => "it cannot be read".to_owned(),
        },
    }
}

/// Why reading stopped.
enum Stop {
    /// This is no JSON.
    Syntax,
    /// It is, and we do not take it. Boxed, as it travels through every level of the tree.
    Refused(Box<Fault>),
}

/// A refusal of ours. It collects its path while the levels are left, innermost segment first.
struct Fault {
    kind: ErrorKind,
    message: String,
    path: Vec<Segment>,
}

enum Segment {
    Key(String),
    Index(usize),
}

impl Stop {
    fn refused(kind: ErrorKind, message: String, path: Vec<Segment>) -> Stop {
        Stop::Refused(Box::new(Fault {
            kind,
            message,
            path,
        }))
    }

    /// Adds where the fault lies, seen from the container that is being left.
    fn within(mut self, segment: impl FnOnce() -> Segment) -> Stop {
        if let Stop::Refused(fault) = &mut self {
            fault.path.push(segment());
        }
        self
    }
}

impl Fault {
    fn into_api_error(self) -> ApiError {
        let mut path = String::new();
        for segment in self.path.iter().rev() {
            match segment {
                Segment::Key(key) if path.is_empty() => path.push_str(key),
                Segment::Key(key) => path.extend([".", key]),
                Segment::Index(index) => path.extend(["[", &index.to_string(), "]"]),
            }
        }
        let error = ApiError::new(self.kind, self.message);
        // A document that is too large or too deep is so as a whole: a path would only be long.
        match self.kind {
            ErrorKind::DuplicateKey | ErrorKind::InvalidJson if !path.is_empty() => {
                error.param(path)
            }
            _ => error,
        }
    }
}

/// What is still to be read, and how much was.
struct Reader<'t> {
    rest: &'t str,
    /// Bytes of the whole text.
    bytes: usize,
    depth: usize,
    values: usize,
    layout: Layout,
    /// Memory for strings with escapes.
    unescaped: Vec<u8>,
}

impl<'t> Reader<'t> {
    fn of(text: &'t str) -> Reader<'t> {
        Reader {
            rest: text,
            bytes: text.len(),
            depth: 0,
            values: 0,
            layout: Layout::default(),
            unescaped: Vec::new(),
        }
    }

    /// How far it has read.
    fn at(&self) -> usize {
        self.bytes.saturating_sub(self.rest.len())
    }

    fn document(&mut self) -> Result<Json, Stop> {
        let tree = self.value()?;
        self.skip_space();
        match self.rest.is_empty() {
            true => Ok(tree),
            false => Err(Stop::Syntax),
        }
    }

    /// Goes on behind the first `bytes`, which end at a character's end.
    fn advance(&mut self, bytes: usize) -> Result<&'t str, Stop> {
        let (taken, rest) = self.rest.split_at_checked(bytes).ok_or(Stop::Syntax)?;
        self.rest = rest;
        Ok(taken)
    }

    /// The next byte, which stays.
    fn peek(&self) -> Option<u8> {
        self.rest.as_bytes().first().copied()
    }

    fn skip_space(&mut self) {
        let space = |byte: &&u8| matches!(byte, b' ' | b'\n' | b'\r' | b'\t');
        let spaces = self.rest.as_bytes().iter().take_while(space).count();
        if spaces > 0 {
            self.layout.spacing = Spacing::Loose;
            self.rest = self.rest.get(spaces..).unwrap_or_default();
        }
    }

    /// Takes this byte, if it is the next after white space.
    fn takes(&mut self, byte: u8) -> bool {
        self.skip_space();
        match self.rest.as_bytes().split_first() {
            Some((first, _)) if *first == byte => self.advance(1).is_ok(),
            _ => false,
        }
    }

    fn expect(&mut self, text: &str) -> Result<(), Stop> {
        self.rest = self.rest.strip_prefix(text).ok_or(Stop::Syntax)?;
        Ok(())
    }

    /// Recursion is bounded by `JSON_DEPTH_MAX`.
    fn value(&mut self) -> Result<Json, Stop> {
        self.skip_space();
        let first = self.peek().ok_or(Stop::Syntax)?;
        self.values += 1;
        if self.values > JSON_VALUES_MAX {
            let message = format!("the JSON holds more than {JSON_VALUES_MAX} values");
            return Err(Stop::refused(ErrorKind::InvalidValue, message, Vec::new()));
        }
        match first {
            b'"' => Ok(Json::String(self.string()?)),
            b'{' => self.object(),
            b'[' => self.array(),
            b'-' | b'0'..=b'9' => self.number(),
            b't' => self.expect("true").map(|()| Json::Bool(true)),
            b'f' => self.expect("false").map(|()| Json::Bool(false)),
            b'n' => self.expect("null").map(|()| Json::Null),
            _ => Err(Stop::Syntax),
        }
    }

    /// Called on `[` and `{`, before anything inside is read: a flood of brackets stops here.
    fn descend(&mut self) -> Result<(), Stop> {
        self.advance(1)?;
        self.depth += 1;
        if self.depth > JSON_DEPTH_MAX {
            let message = format!("the JSON is nested deeper than {JSON_DEPTH_MAX} levels");
            return Err(Stop::refused(ErrorKind::TooDeep, message, Vec::new()));
        }
        Ok(())
    }

    fn array(&mut self) -> Result<Json, Stop> {
        self.descend()?;
        let mut items = Vec::new();
        if !self.takes(b']') {
            loop {
                let item = self.value();
                items.push(item.map_err(|stop| stop.within(|| Segment::Index(items.len())))?);
                if self.takes(b',') {
                    continue;
                }
                if self.takes(b']') {
                    break;
                }
                return Err(Stop::Syntax);
            }
        }
        self.depth -= 1;
        Ok(Json::Array(items))
    }

    fn object(&mut self) -> Result<Json, Stop> {
        self.descend()?;
        let mut entries: Vec<(String, Json)> = Vec::new();
        if !self.takes(b'}') {
            loop {
                self.skip_space();
                let key_from = self.at();
                let key = self.string()?;
                let scanned = entries.len() <= KEYS_SCANNED_MAX;
                if scanned && entries.iter().any(|(known, _)| *known == key) {
                    return Err(duplicate(&key));
                }
                if !self.takes(b':') {
                    return Err(Stop::Syntax);
                }
                self.skip_space();
                let value_from = self.at();
                match self.value() {
                    Ok(value) if self.depth == 1 => {
                        let member = Member {
                            key_from,
                            value_from,
                            to: self.at(),
                        };
                        self.layout.members.push(member);
                        entries.push((key, value));
                    }
                    Ok(value) => entries.push((key, value)),
                    Err(stop) => return Err(stop.within(|| Segment::Key(echo(&key)))),
                }
                if self.takes(b',') {
                    continue;
                }
                if self.takes(b'}') {
                    break;
                }
                return Err(Stop::Syntax);
            }
        }
        if let Some(key) = repeated_key(&entries) {
            return Err(duplicate(key));
        }
        self.depth -= 1;
        Ok(Json::Object(entries))
    }

    /// A string without its quotes, escapes resolved. Most have none and are copied whole.
    fn string(&mut self) -> Result<String, Stop> {
        self.expect("\"")?;
        let plain = self.advance(plain_bytes(self.rest.as_bytes()))?;
        if self.peek() == Some(b'"') {
            self.advance(1)?;
            return Ok(plain.to_owned());
        }
        // Put together elsewhere, so that it takes what it needs and is moved once.
        let mut text = std::mem::take(&mut self.unescaped);
        text.clear();
        text.extend_from_slice(plain.as_bytes());
        self.string_with_escapes(&mut text)?;
        // All that was put in were whole characters.
        let whole = std::str::from_utf8(&text)
            .map_err(|_| Stop::Syntax)?
            .to_owned();
        self.unescaped = text;
        Ok(whole)
    }

    /// Appends the rest of a string, which goes on with an escape, and takes its quote.
    fn string_with_escapes(&mut self, text: &mut Vec<u8>) -> Result<(), Stop> {
        loop {
            match self.rest.as_bytes() {
                [b'"', ..] => return self.advance(1).map(|_| ()),
                [b'\\', b'u', ..] => {
                    self.advance(2)?;
                    let character = self.escaped_unit()?;
                    text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                }
                [b'\\', mark, ..] => {
                    text.push(escaped(*mark).ok_or(Stop::Syntax)?);
                    self.advance(2)?;
                }
                // A control character, or the end.
                _ => return Err(Stop::Syntax),
            }
            let plain = self.advance(plain_bytes(self.rest.as_bytes()))?;
            text.extend_from_slice(plain.as_bytes());
        }
    }

    /// Four digits of `\u`, or twice four of a pair: a surrogate without its other is no character.
    fn escaped_unit(&mut self) -> Result<char, Stop> {
        let first = self.four_digits()?;
        let scalar = match first {
            0xd800..=0xdbff => {
                self.expect("\\u")?;
                let second = self.four_digits()?;
                let low = second.checked_sub(0xdc00).filter(|low| *low < 0x400);
                0x1_0000 + ((first - 0xd800) << 10) + low.ok_or(Stop::Syntax)?
            }
            alone => alone,
        };
        char::from_u32(scalar).ok_or(Stop::Syntax)
    }

    fn four_digits(&mut self) -> Result<u32, Stop> {
        let mut value = 0;
        for digit in self.advance(4)?.chars() {
            value = value * 16 + digit.to_digit(16).ok_or(Stop::Syntax)?;
        }
        Ok(value)
    }

    fn number(&mut self) -> Result<Json, Stop> {
        let (bytes, spelling) = number_bytes(self.rest.as_bytes()).ok_or(Stop::Syntax)?;
        let text = self.advance(bytes)?;
        let integer = match spelling {
            // -0 is not 0 to everybody.
            Spelling::Integer if text == "-0" => None,
            Spelling::Integer if text.starts_with('-') => text.parse().ok().map(Number::Negative),
            Spelling::Integer => text.parse().ok().map(Number::Unsigned),
            Spelling::Fraction => None,
        };
        match integer {
            Some(number) => Ok(Json::Number(number)),
            None => double(text),
        }
    }
}

/// What a backslash before this stands for; all but `\u`.
fn escaped(mark: u8) -> Option<u8> {
    match mark {
        b'"' | b'\\' | b'/' => Some(mark),
        b'b' => Some(0x08),
        b'f' => Some(0x0c),
        b'n' => Some(b'\n'),
        b'r' => Some(b'\r'),
        b't' => Some(b'\t'),
        _ => None,
    }
}

/// How a number is written.
enum Spelling {
    Integer,
    /// With a fraction or an exponent.
    Fraction,
}

/// How many bytes the number at the beginning of this text has (RFC 8259, section 6).
fn number_bytes(text: &[u8]) -> Option<(usize, Spelling)> {
    let digits = |rest: &[u8]| rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let behind = |at: usize| text.get(at..).unwrap_or_default();
    let mut at = usize::from(text.first() == Some(&b'-'));
    let whole = digits(behind(at));
    if whole == 0 || (whole > 1 && behind(at).first() == Some(&b'0')) {
        return None;
    }
    at += whole;
    let mut spelling = Spelling::Integer;
    if behind(at).first() == Some(&b'.') {
        let fraction = digits(behind(at + 1));
        if fraction == 0 {
            return None;
        }
        at += 1 + fraction;
        spelling = Spelling::Fraction;
    }
    if matches!(behind(at).first(), Some(b'e' | b'E')) {
        at += 1;
        at += usize::from(matches!(behind(at).first(), Some(b'+' | b'-')));
        let exponent = digits(behind(at));
        if exponent == 0 {
            return None;
        }
        at += exponent;
        spelling = Spelling::Fraction;
    }
    Some((at, spelling))
}

/// A number that is no 64-bit integer. Every double of 2^64 and more is an integer, and so rounded:
/// refused, as another parser may keep it.
fn double(text: &str) -> Result<Json, Stop> {
    const BELOW: f64 = 18_446_744_073_709_551_616.0; // 2^64
    const ABOVE: f64 = -9_223_372_036_854_775_808.0; // -2^63
    let value: f64 = text.parse().map_err(|_| Stop::Syntax)?;
    if !value.is_finite() {
        return Err(Stop::Syntax);
    }
    if value >= BELOW || value <= ABOVE {
        let message = "the JSON holds a number beyond 64 bits, which parsers read differently";
        return Err(Stop::refused(
            ErrorKind::InvalidJson,
            message.to_owned(),
            Vec::new(),
        ));
    }
    Ok(Json::Number(Number::Float(value)))
}

fn duplicate(key: &str) -> Stop {
    let key = echo(key);
    let message = format!("duplicate key \"{key}\" in a JSON object");
    Stop::refused(ErrorKind::DuplicateKey, message, vec![Segment::Key(key)])
}

/// A key that a large object holds twice. Sorting keeps a hostile object of 100,000 keys from
/// costing the square of that.
fn repeated_key(entries: &[(String, Json)]) -> Option<&str> {
    if entries.len() <= KEYS_SCANNED_MAX {
        return None;
    }
    let mut keys: Vec<&str> = entries.iter().map(|(key, _)| key.as_str()).collect();
    keys.sort_unstable();
    keys.windows(2).find_map(|pair| match pair {
        [first, second] if first == second => Some(*first),
        _ => None,
    })
}
