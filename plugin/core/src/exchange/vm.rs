//! What one worker's VM keeps between requests. All of it is bounded, and all of it may be lost:
//! what must not be lost is in the shared store.

use super::Env;
use super::repeats::Repeats;
use super::self_check::SelfCheck;
use crate::cache::PerVm;
use crate::cache::flight::Flights;
use crate::config::{Config, ModelIndex};
use crate::limits::{
    CACHE_PER_VM_BYTES_MAX, FLIGHT_TICK_MS, FLIGHT_WAKE_MS, SELF_CHECK_TICK_MS, VOCABULARY_TICK_MS,
};
use crate::tenant::KnownCredentials;
use crate::tokens::{Calibration, Count};
use crate::vocabulary::loading::{Embedded, Vocabularies};

/// The state of one VM: the configuration and what the worker remembers.
#[derive(Debug)]
pub struct Vm {
    pub config: Config,
    pub(super) per_vm: PerVm,
    /// Requests that wait for an identical one.
    pub(super) flights: Flights,
    pub(super) self_check: SelfCheck,
    /// For each model what was learned when this worker last looked.
    calibrations: Vec<Option<Calibration>>,
    pub(super) repeats: Repeats,
    pub(super) credentials: KnownCredentials,
    /// What prompts are counted with.
    pub vocabularies: Vocabularies,
    /// Requests so far, to tell those without an id apart.
    sequence: u64,
}

impl Vm {
    /// A worker whose build holds no vocabulary.
    pub fn new(config: Config) -> Vm {
        Vm::with_embedded(config, &[])
    }

    /// A worker whose build holds these vocabularies.
    pub fn with_embedded(config: Config, embedded: &[Embedded]) -> Vm {
        let vocabularies = Vocabularies::new(&config, embedded);
        let (entries_max, slots) =
            (config.cache.as_ref()).map_or((0, 0), |cache| (cache.per_vm_entries, cache.slots));
        let calibrations = vec![None; config.models.len()];
        let per_vm = PerVm::new(entries_max, CACHE_PER_VM_BYTES_MAX, slots);
        Vm {
            config,
            per_vm,
            flights: Flights::default(),
            self_check: SelfCheck::default(),
            calibrations,
            repeats: Repeats::default(),
            credentials: KnownCredentials::default(),
            vocabularies,
            sequence: 0,
        }
    }

    /// Must the shell let the worker's tick look after a stream that holds its headers? True until
    /// this worker knows that request bodies arrive meanwhile; also when it believes that they do
    /// not, because what it holds then is a probe.
    pub fn self_check_pending(&self) -> bool {
        self.self_check != SelfCheck::Verified
    }

    /// How often the worker's tick must look after the streams that are held, in milliseconds. It
    /// matters only while there are such streams.
    pub fn tick_ms(&self) -> u64 {
        if self.flights.has_verdicts() {
            FLIGHT_WAKE_MS
        } else if self.flights.is_idle() {
            SELF_CHECK_TICK_MS
        } else {
            FLIGHT_TICK_MS
        }
    }

    /// The same while no stream is held: there may be vocabularies to look after; 0 is never.
    pub fn idle_tick_ms(&self) -> u64 {
        if self.vocabularies.are_pending() {
            VOCABULARY_TICK_MS
        } else {
            0
        }
    }

    pub(super) fn next_sequence(&mut self) -> u64 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    /// What is known about counting tokens for one model. Asks the shared store once; after that
    /// the worker's own observations bring the others' along.
    pub(super) fn calibration(&mut self, env: &Env<'_>, index: ModelIndex) -> Calibration {
        match (
            self.config.models.get(index.0),
            self.calibrations.get_mut(index.0),
        ) {
            (Some(model), Some(known)) => {
                *known.get_or_insert_with(|| Calibration::load(env.store, &model.id))
            }
            _ => Calibration::default(),
        }
    }

    /// Learns from the usage that an upstream reported.
    pub(super) fn learn(
        &mut self,
        env: &Env<'_>,
        index: ModelIndex,
        count: &Count,
        prompt_tokens: u64,
    ) {
        let Some(model) = self.config.models.get(index.0) else {
            return;
        };
        if let Some(known) = self.calibrations.get_mut(index.0)
            && !known.is_some_and(|known| known.is_close(count, prompt_tokens))
        {
            *known = Some(Calibration::learn(
                env.store,
                &model.id,
                count,
                prompt_tokens,
            ));
        }
    }
}
