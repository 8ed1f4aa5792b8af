//! The exact cache's key: a keyed hash over everything that can change the answer, in an encoding
//! where no two different requests give the same bytes. Every part is preceded by a type tag and
//! its length; object keys are sorted; numbers are values, not spellings.
//!
//! In: the deployment's secret, a version, the tenant, the endpoint, the model actually served, the
//! `max_tokens` actually sent, every other field of the request, those we do not know included, and
//! of its head what travels upstream and may change the answer ([`RequestHead`]). Out: `model` (the
//! served one stands for it), `stream` and `stream_options`, which change only how an answer is
//! replayed. A top-level null equals an absent field, as in the OpenAI API; nested ones are kept,
//! because there we do not know.

use crate::config::{Model, Secret};
use crate::exchange::Headers;
use crate::keyed_hash::{HashKeys, KeyedHash, Purpose};
use crate::limits::CACHE_KEY_RUN_BYTES;
use crate::tenant::TenantId;
use crate::wire::{Endpoint, Json, Number, Request};

/// All 256 bits; entries are stored and compared under the whole of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CacheKey(pub [u8; 32]);

impl CacheKey {
    /// The key of a request that `tenant` sent and that `model` answers in at most `max_tokens`.
    pub fn new(
        secret: &Secret,
        tenant: TenantId,
        model: &Model,
        max_tokens: u32,
        head: &RequestHead,
        request: &Request,
    ) -> CacheKey {
        let model = (model.id.as_str(), model.upstream_model.as_str());
        CacheKey::answered_by(secret, tenant, model, max_tokens, head, request)
    }

    /// The same for whoever knows the model by its id and by what stands behind that: the
    /// upstream's name for it, or the revision of its file.
    pub fn answered_by(
        secret: &Secret,
        tenant: TenantId,
        (id, behind): (&str, &str),
        max_tokens: u32,
        head: &RequestHead,
        request: &Request,
    ) -> CacheKey {
        let mut encoder = Encoder::new(secret.hash_keys());
        encoder.bytes(b't', &tenant.0);
        encoder.bytes(b'e', endpoint_name(request.endpoint));
        encoder.bytes(b'm', id.as_bytes());
        encoder.bytes(b'u', behind.as_bytes());
        encoder.tagged(b'x', u64::from(max_tokens));
        head.encode(&mut encoder.encoded);
        encoder.object(request.answer_fields());
        CacheKey(encoder.finish())
    }
}

/// Request headers that the APIs read: a version, beta features, and on whose account they work.
const NAMED: [&str; 5] = [
    "openai-beta",
    "openai-organization",
    "openai-project",
    "anthropic-version",
    "anthropic-beta",
];

/// What of a request's head travels upstream and may change the answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestHead {
    /// The raw query string, from its `?` on; empty without one.
    query: Vec<u8>,
    /// Every value of each of [`NAMED`], in order.
    named: [Vec<Vec<u8>>; NAMED.len()],
}

impl RequestHead {
    pub fn read(headers: &Headers<'_>) -> RequestHead {
        let path = headers.first(":path").unwrap_or_default();
        let query_at = path.iter().position(|byte| *byte == b'?');
        RequestHead {
            query: query_at
                .and_then(|at| path.get(at..))
                .unwrap_or_default()
                .to_vec(),
            named: NAMED.map(|name| headers.all(name).map(<[u8]>::to_vec).collect()),
        }
    }

    /// Bytes that differ for any two different heads.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        tagged(b'q', self.query.len() as u64, out);
        out.extend_from_slice(&self.query);
        for values in &self.named {
            tagged(b'h', values.len() as u64, out);
            for value in values {
                tagged(b'w', value.len() as u64, out);
                out.extend_from_slice(value);
            }
        }
    }
}

fn endpoint_name(endpoint: Endpoint) -> &'static [u8] {
    endpoint.path().as_bytes()
}

/// A type tag with a number: a value, or the length of what follows.
fn tagged(tag: u8, number: u64, out: &mut Vec<u8>) {
    out.push(tag);
    out.extend_from_slice(&number.to_le_bytes());
}

/// Encoded bytes are hashed in long runs: the hash takes several blocks at once.
struct Encoder<'a> {
    keys: &'a HashKeys,
    /// Of the runs before; most requests are one.
    hash: Option<KeyedHash>,
    encoded: Vec<u8>,
}

impl Encoder<'_> {
    fn new(keys: &HashKeys) -> Encoder<'_> {
        Encoder {
            keys,
            hash: None,
            encoded: Vec::with_capacity(CACHE_KEY_RUN_BYTES),
        }
    }

    fn finish(mut self) -> [u8; 32] {
        match self.hash.take() {
            None => KeyedHash::once(self.keys, Purpose::ExactCache, &self.encoded),
            Some(mut hash) => {
                hash.raw(&self.encoded);
                hash.finish()
            }
        }
    }

    /// The hash of what comes before.
    fn begun(&mut self) -> &mut KeyedHash {
        (self.hash).get_or_insert_with(|| KeyedHash::new(self.keys, Purpose::ExactCache))
    }

    /// Hashes whole runs and keeps what is beyond them: the hash takes
    /// several of its blocks at once where a run begins and ends with them.
    fn flush(&mut self) {
        let mut encoded = std::mem::take(&mut self.encoded);
        let whole = encoded.len() - encoded.len() % CACHE_KEY_RUN_BYTES;
        self.begun().raw(encoded.get(..whole).unwrap_or_default());
        encoded.drain(..whole);
        self.encoded = encoded;
    }

    fn raw(&mut self, mut bytes: &[u8]) {
        let room = |encoded: &[u8]| CACHE_KEY_RUN_BYTES.saturating_sub(encoded.len());
        while let Some((now, later)) = bytes.split_at_checked(room(&self.encoded)) {
            self.encoded.extend_from_slice(now);
            self.flush();
            bytes = later;
        }
        self.encoded.extend_from_slice(bytes);
    }

    fn tag(&mut self, tag: u8) {
        self.encoded.push(tag);
    }

    fn tagged(&mut self, tag: u8, number: u64) {
        tagged(tag, number, &mut self.encoded);
    }

    fn bytes(&mut self, tag: u8, bytes: &[u8]) {
        self.tagged(tag, bytes.len() as u64);
        self.raw(bytes);
    }

    /// Recursion is bounded by the depth that the parser admits.
    fn value(&mut self, value: &Json) {
        match value {
            Json::Null => self.tag(b'n'),
            Json::Bool(false) => self.tag(b'F'),
            Json::Bool(true) => self.tag(b'T'),
            Json::Number(number) => self.number(*number),
            Json::String(text) => self.bytes(b's', text.as_bytes()),
            Json::Array(items) => {
                self.tagged(b'a', items.len() as u64);
                for item in items {
                    self.value(item);
                }
            }
            Json::Object(fields) => self.object(fields.iter()),
        }
    }

    fn object<'a>(&mut self, fields: impl Iterator<Item = &'a (String, Json)>) {
        let mut fields: Vec<&(String, Json)> = fields.collect();
        if !fields.is_sorted_by_key(|(name, _)| name) {
            fields.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        }
        self.tagged(b'o', fields.len() as u64);
        for (name, value) in fields {
            self.bytes(b'k', name.as_bytes());
            self.value(value);
        }
    }

    /// `1`, `1.0` and `1e0` are one number, and so are `0` and `-0`.
    fn number(&mut self, number: Number) {
        match number {
            Number::Unsigned(value) => self.tagged(b'+', value),
            Number::Negative(value) => self.tagged(b'-', value.unsigned_abs()),
            Number::Float(value) => {
                let size = value.abs();
                // A double without a fraction below 2^64 is exactly that integer.
                if size.fract() == 0.0 && size < 18_446_744_073_709_551_616.0 {
                    let tag = if value < 0.0 { b'-' } else { b'+' };
                    self.tagged(tag, size as u64);
                } else {
                    self.tagged(b'f', value.to_bits());
                }
            }
        }
    }
}
