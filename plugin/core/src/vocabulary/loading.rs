//! The vocabularies of one worker and how they come: embedded ones at once, the others by callouts
//! that are repeated, ever more rarely, until they succeed. Until then their models' prompts are
//! estimated.

use super::{CountScratch, Counted, Vocabulary};
use crate::config::{Config, ModelIndex, VocabularySource};
use crate::limits::{EXACT_COUNT_BYTES_MAX, VOCABULARY_FILE_BYTES_MAX, VOCABULARY_RETRY_MS_MAX};
use crate::wire::Request;
use std::borrow::Cow;

/// Where the backend serves them, by name.
pub const VOCABULARIES_PATH: &str = "/farthing/v1/vocabularies/";

const NS_PER_MS: u64 = 1_000_000;

/// A vocabulary that is part of the module: its name and its file.
pub type Embedded = (&'static str, &'static [u8]);

/// Every vocabulary that the configuration names, each once.
#[derive(Debug, Default)]
pub struct Vocabularies {
    source: Option<VocabularySource>,
    entries: Vec<Entry>,
    /// For each model the position of its vocabulary.
    of_models: Vec<Option<usize>>,
    scratch: CountScratch,
}

#[derive(Debug)]
struct Entry {
    name: String,
    state: State,
    /// Attempts that have failed.
    failures: u32,
}

#[derive(Debug)]
enum State {
    /// To be asked for at this time.
    Wanted {
        at_ns: u64,
    },
    /// Asked for; given up at this time, should the host never say what came of it.
    Asked {
        until_ns: u64,
    },
    /// A file that is still to be read.
    Here(Cow<'static, [u8]>),
    Loaded(Box<Vocabulary>),
}

/// A request that the shell is to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetch {
    /// Which vocabulary it is for.
    pub entry: usize,
    /// The Envoy cluster to ask.
    pub cluster: String,
    /// `:path` of a GET.
    pub path: String,
    /// When to give up.
    pub timeout_ms: u32,
}

/// What a look at the vocabularies found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Nothing to do now.
    Nothing,
    /// To be asked for.
    Fetch(Fetch),
    /// So many are loaded now; this one is new.
    Loaded { name: String, loaded: usize },
    /// The file of this one is of no use; it will be asked for again.
    Refused { name: String, reason: String },
}

impl Vocabularies {
    /// Those of a configuration.
    pub fn new(config: &Config, embedded: &[Embedded]) -> Vocabularies {
        let mut vocabularies = Vocabularies {
            source: config.vocabularies.clone(),
            scratch: CountScratch::remembering(&config.secret),
            ..Vocabularies::default()
        };
        for model in &config.models {
            let position =
                (model.vocabulary.as_deref()).map(|name| vocabularies.enter(name, embedded));
            vocabularies.of_models.push(position);
        }
        vocabularies
    }

    fn enter(&mut self, name: &str, embedded: &[Embedded]) -> usize {
        if let Some(known) = self.entries.iter().position(|entry| entry.name == name) {
            return known;
        }
        let file = embedded.iter().find(|(embedded, _)| *embedded == name);
        self.entries.push(Entry {
            name: name.to_owned(),
            state: match file {
                Some((_, file)) => State::Here(Cow::Borrowed(file)),
                None => State::Wanted { at_ns: 0 },
            },
            failures: 0,
        });
        self.entries.len().saturating_sub(1)
    }

    /// Is there any that is not loaded?
    pub fn are_pending(&self) -> bool {
        let loaded = |entry: &Entry| matches!(entry.state, State::Loaded(_));
        !self.entries.iter().all(loaded)
    }

    /// Reads one that needs no fetching; [`Progress::Nothing`] where there is none.
    pub fn read_embedded(&mut self, now_ns: u64) -> Progress {
        let mut entries = self.entries.iter().enumerate();
        let found = entries.find_map(|(index, entry)| match &entry.state {
            State::Here(Cow::Borrowed(file)) => Some((index, *file)),
            _ => None,
        });
        found.map_or(Progress::Nothing, |(index, file)| {
            self.read(index, Cow::Borrowed(file), now_ns)
        })
    }

    /// One step towards having all: to be called again after everything but [`Progress::Nothing`].
    pub fn step(&mut self, now_ns: u64) -> Progress {
        for index in 0..self.entries.len() {
            let Some(entry) = self.entries.get_mut(index) else {
                break;
            };
            match &mut entry.state {
                State::Loaded(_) => {}
                State::Here(file) => {
                    let file = std::mem::take(file);
                    return self.read(index, file, now_ns);
                }
                State::Asked { until_ns } if *until_ns > now_ns => {}
                State::Asked { .. } => self.failed(index, now_ns),
                State::Wanted { at_ns } if *at_ns > now_ns => {}
                State::Wanted { .. } => {
                    let Some(source) = &self.source else {
                        continue;
                    };
                    let deadline_ms = u64::from(source.timeout_ms).saturating_mul(2);
                    entry.state = State::Asked {
                        until_ns: later(now_ns, deadline_ms),
                    };
                    return Progress::Fetch(Fetch {
                        entry: index,
                        cluster: source.cluster.clone(),
                        path: format!("{VOCABULARIES_PATH}{}", entry.name),
                        timeout_ms: source.timeout_ms,
                    });
                }
            }
        }
        Progress::Nothing
    }

    /// An answer has come; `file` is its body, read only where [`Vocabularies::is_welcome`].
    pub fn arrived(&mut self, entry: usize, file: Vec<u8>) {
        if let Some(entry) = self.entries.get_mut(entry)
            && !matches!(entry.state, State::Loaded(_))
        {
            entry.state = State::Here(Cow::Owned(file));
        }
    }

    /// Is an answer of this status and size worth reading?
    pub fn is_welcome(status: &[u8], body_bytes: usize) -> bool {
        status == b"200" && (1..=VOCABULARY_FILE_BYTES_MAX).contains(&body_bytes)
    }

    /// An attempt has failed: the next is due later than the last was.
    pub fn failed(&mut self, entry: usize, now_ns: u64) {
        let first_ms = (self.source.as_ref()).map_or(0, |source| u64::from(source.retry_ms));
        let Some(entry) = self.entries.get_mut(entry) else {
            return;
        };
        if matches!(entry.state, State::Loaded(_)) {
            return;
        }
        let doubled = first_ms.checked_shl(entry.failures).unwrap_or(u64::MAX);
        entry.failures = (entry.failures + 1).min(16);
        entry.state = State::Wanted {
            at_ns: later(now_ns, doubled.min(VOCABULARY_RETRY_MS_MAX)),
        };
    }

    fn read(&mut self, index: usize, file: Cow<'static, [u8]>, now_ns: u64) -> Progress {
        let name = (self.entries.get(index)).map_or(String::new(), |entry| entry.name.clone());
        match Vocabulary::from_file(file) {
            Ok(vocabulary) => {
                if let Some(entry) = self.entries.get_mut(index) {
                    entry.state = State::Loaded(Box::new(vocabulary));
                }
                let loaded = |entry: &&Entry| matches!(entry.state, State::Loaded(_));
                Progress::Loaded {
                    name,
                    loaded: self.entries.iter().filter(loaded).count(),
                }
            }
            Err(error) => {
                self.failed(index, now_ns);
                Progress::Refused {
                    name,
                    reason: error.to_string(),
                }
            }
        }
    }

    /// The position of a model's vocabulary, if it is loaded: models with one position have the
    /// same counts.
    pub fn of_model(&self, model: ModelIndex) -> Option<usize> {
        let position = (*self.of_models.get(model.0)?)?;
        let entry = self.entries.get(position)?;
        matches!(entry.state, State::Loaded(_)).then_some(position)
    }

    /// Another request comes: of its texts that were not counted before, all vocabularies together
    /// tokenize `EXACT_COUNT_BYTES_MAX` at most.
    pub fn begin(&mut self) {
        self.scratch.allow(EXACT_COUNT_BYTES_MAX);
    }

    /// Counts a prompt with the vocabulary at this position, up to `limit` tokens.
    pub fn count(&mut self, position: usize, request: &Request, limit: u64) -> Counted {
        match self.entries.get(position).map(|entry| &entry.state) {
            Some(State::Loaded(vocabulary)) => {
                self.scratch.count_for(position);
                vocabulary.count(request, limit, &mut self.scratch)
            }
            _ => Counted::Unknown,
        }
    }
}

fn later(now_ns: u64, ms: u64) -> u64 {
    now_ns.saturating_add(ms.saturating_mul(NS_PER_MS))
}
