//! The one hash of the filter: BLAKE3 in its keyed mode (O'Connor, Aumasson, Neves, Wilcox-O'Hearn,
//! <https://github.com/BLAKE3-team/BLAKE3-specs>), keyed by the deployment's secret. In wasm it is
//! four times as fast as SHA-256, which shows in every request, if it gets its input in long runs
//! from the start: so the longest part of an input comes first.

/// What a hash is for. Each purpose has a key of its own, so that hashes for different uses never
/// meet. The texts are versions: changing what is hashed changes the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Tenant,
    ExactCache,
    RawRequest,
    Prefix,
    Conversation,
    RequestId,
    CountedText,
}

const PURPOSES: [(Purpose, &str); 7] = [
    (Purpose::Tenant, "farthing 2026 tenant id 2"),
    (Purpose::ExactCache, "farthing 2026 exact cache key 3"),
    (Purpose::RawRequest, "farthing 2026 raw request 2"),
    (Purpose::Prefix, "farthing 2026 prefix 2"),
    (Purpose::Conversation, "farthing 2026 conversation 1"),
    (Purpose::RequestId, "farthing 2026 request id 2"),
    (Purpose::CountedText, "farthing 2026 counted text 1"),
];

/// The keys of all purposes, derived once from the deployment's secret.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct HashKeys([[u8; 32]; PURPOSES.len()]);

impl HashKeys {
    pub(crate) fn derive(secret: &[u8]) -> HashKeys {
        HashKeys(PURPOSES.map(|(_, context)| blake3::derive_key(context, secret)))
    }

    fn of(&self, purpose: Purpose) -> &[u8; 32] {
        let [
            tenant,
            exact_cache,
            raw_request,
            prefix,
            conversation,
            request_id,
            counted_text,
        ] = &self.0;
        match purpose {
            Purpose::Tenant => tenant,
            Purpose::ExactCache => exact_cache,
            Purpose::RawRequest => raw_request,
            Purpose::Prefix => prefix,
            Purpose::Conversation => conversation,
            Purpose::RequestId => request_id,
            Purpose::CountedText => counted_text,
        }
    }
}

/// A hash that is being made.
pub(crate) struct KeyedHash(blake3::Hasher);

impl KeyedHash {
    /// The hash of bytes that are all there: less work than to begin with a hash in the making.
    pub(crate) fn once(keys: &HashKeys, purpose: Purpose, bytes: &[u8]) -> [u8; 32] {
        blake3::keyed_hash(keys.of(purpose), bytes).into()
    }

    pub(crate) fn new(keys: &HashKeys, purpose: Purpose) -> KeyedHash {
        KeyedHash(blake3::Hasher::new_keyed(keys.of(purpose)))
    }

    /// Bytes as they are: the caller sees to it that no two inputs give the same ones.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}
