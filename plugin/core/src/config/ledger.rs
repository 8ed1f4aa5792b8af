//! Where the ledger's lines go.

use serde::Deserialize;

/// How a line leaves the filter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LedgerTransport {
    /// As the stream's filter state `wasm.farthing_ledger`, which access logs can print.
    #[default]
    AccessLog,
    /// As a line of Envoy's own log, `ledger {…}`.
    Log,
}
