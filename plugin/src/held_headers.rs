//! The headers of a message that the host holds, and what is to change in them. A call into the
//! host costs about as much for one header as for a few, so many changes are made by one call.

use crate::host::{self, Message};

/// Up to so many changes are made one by one: all headers together cost about as much.
const ONE_BY_ONE_MAX: usize = 3;

/// The headers as they are at the host, and changes that it has not been told of.
pub struct HeldHeaders {
    message: Message,
    entries: Vec<(String, Vec<u8>)>,
    changes: Vec<Change>,
}

enum Change {
    Set(&'static str, String),
    Remove(String),
}

impl HeldHeaders {
    /// Reads them from the host. Only in the callbacks of that message, once its headers are there.
    pub fn read(message: Message) -> HeldHeaders {
        HeldHeaders {
            message,
            entries: host::headers(message),
            changes: Vec::new(),
        }
    }

    /// What the host holds, but for the changes that it does not know of.
    pub fn entries(&self) -> &[(String, Vec<u8>)] {
        &self.entries
    }

    /// Replaces every value of a header.
    pub fn set(&mut self, name: &'static str, value: String) {
        self.changes.push(Change::Set(name, value));
    }

    /// Removes a header, if it is there.
    pub fn remove(&mut self, name: String) {
        let is_there = self.entries.iter().any(|(there, _)| *there == name);
        let is_set = |change: &Change| matches!(change, Change::Set(set, _) if *set == name);
        if is_there || self.changes.iter().any(is_set) {
            self.changes.push(Change::Remove(name));
        }
    }

    /// Tells the host of the changes. Only while it holds the headers.
    pub fn write(&mut self) {
        let changes = std::mem::take(&mut self.changes);
        let one_by_one = changes.len() <= ONE_BY_ONE_MAX;
        for change in changes {
            match change {
                Change::Set(name, value) => {
                    if one_by_one {
                        host::set_header(self.message, name, &value);
                    }
                    self.put(name, value);
                }
                Change::Remove(name) => {
                    if one_by_one {
                        host::remove_header(self.message, &name);
                    }
                    self.entries.retain(|(there, _)| *there != name);
                }
            }
        }
        if !one_by_one {
            host::set_headers(self.message, &self.entries);
        }
    }

    /// One value in the place of all, as the host has it then.
    fn put(&mut self, name: &str, value: String) {
        let mut value = Some(value.into_bytes());
        self.entries.retain_mut(|(there, old)| {
            if there != name {
                return true;
            }
            match value.take() {
                Some(new) => {
                    *old = new;
                    true
                }
                None => false,
            }
        });
        if let Some(value) = value {
            self.entries.push((name.to_owned(), value));
        }
    }
}
