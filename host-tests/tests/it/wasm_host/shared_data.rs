//! Envoy's shared data with its exact compare-and-swap rules (cpp-host `shared_data.cc`): the
//! number is ignored when it is 0 or the key is absent, and each write gets a new number.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// One namespace, shared by the VMs that hold a clone.
#[derive(Clone, Default)]
pub struct SharedData {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    values: HashMap<Vec<u8>, (Vec<u8>, u32)>,
    last_cas: u32,
}

impl SharedData {
    /// The value and its number.
    pub fn get(&self, key: &[u8]) -> Option<(Vec<u8>, u32)> {
        self.lock().values.get(key).cloned()
    }

    /// Writes unless another number than `cas` is stored; false when nothing was written.
    pub fn set(&self, key: &[u8], value: Vec<u8>, cas: u32) -> bool {
        let mut inner = self.lock();
        let stored = inner.values.get(key).map(|(_, stored)| *stored);
        if cas != 0 && stored.is_some_and(|stored| stored != cas) {
            return false;
        }
        inner.last_cas = inner.last_cas.wrapping_add(1).max(1);
        let new_cas = inner.last_cas;
        inner.values.insert(key.to_vec(), (value, new_cas));
        true
    }

    /// How many keys there are: they are never removed.
    pub fn key_count(&self) -> usize {
        self.lock().values.len()
    }

    /// Damages every value: what another plugin of the same namespace could do.
    pub fn corrupt(&self) {
        for (value, _) in self.lock().values.values_mut() {
            value.iter_mut().for_each(|byte| *byte ^= 0x55);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
