//! Who sends a request, and how it wants to be treated.

use super::arrival::request_id;
use super::{Env, Headers, Vm};
use crate::cache::CacheControl;
use crate::cache_key::RequestHead;
use crate::tenant::{self, Tenant};

/// What the headers said.
#[derive(Debug)]
pub(super) struct Caller {
    pub request_id: String,
    pub tenant: Tenant,
    pub control: CacheControl,
    pub head: RequestHead,
}

impl Default for Caller {
    fn default() -> Self {
        let control = CacheControl::default();
        Caller {
            request_id: String::new(),
            tenant: Tenant::Anonymous,
            control,
            head: RequestHead::default(),
        }
    }
}

impl Caller {
    pub(super) fn read(headers: &Headers<'_>, vm: &mut Vm, env: &Env<'_>) -> Caller {
        let sequence = vm.next_sequence();
        Caller {
            request_id: request_id(&vm.config.secret, headers, env.now_unix_ns, sequence),
            tenant: tenant::identify_known(&vm.config, &mut vm.credentials, headers),
            control: CacheControl::read(headers),
            head: RequestHead::read(headers),
        }
    }
}
