//! The header map of one callback, as the host hands it over. Values are bytes, because HTTP allows
//! any and a credential must be hashed as it came.

/// Lower-case names (Envoy's form, pseudo-headers such as `:path` included) and raw values.
#[derive(Clone, Copy, Debug)]
pub struct Headers<'a> {
    entries: &'a [(String, Vec<u8>)],
}

impl<'a> Headers<'a> {
    pub fn new(entries: &'a [(String, Vec<u8>)]) -> Headers<'a> {
        Headers { entries }
    }

    /// The first value of a header.
    pub fn first(&self, name: &str) -> Option<&'a [u8]> {
        self.all(name).next()
    }

    /// The first value of a header, if it is visible ASCII text or UTF-8.
    pub fn text(&self, name: &str) -> Option<&'a str> {
        self.first(name)
            .and_then(|value| std::str::from_utf8(value).ok())
    }

    /// Every value of a header that may be repeated.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.entries
            .iter()
            .filter(move |(entry_name, _)| entry_name == name)
            .map(|(_, value)| value.as_slice())
    }

    pub fn names(&self) -> impl Iterator<Item = &'a str> {
        self.entries.iter().map(|(name, _)| name.as_str())
    }
}
