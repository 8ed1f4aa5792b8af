//! The cache cannot serve the wrong thing: a million changed requests have other keys, a million
//! spellings have the same, a million look-ups of other tenants find nothing.

mod golden;
mod keys;
pub mod random;
mod requests;
mod spelling;
mod tenants;
mod ways_in;
