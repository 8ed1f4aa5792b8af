//! The verified semantic cache: a question that was asked before in other words gets the answer
//! that was given then, where that is the right one.
//!
//! What must be equal is compared first ([`scope`]), then the meaning by vectors ([`index`]), the
//! words by a guard ([`signature`]) and the conversation before them ([`conversation`]). What is
//! left is scored ([`score`]), and a bound on the share of wrong answers moves the threshold of
//! each route ([`bound`]), which begins where a [`calibration`] says. All of this is pure; what is
//! known is kept by a [`store`], and the server asks through [`cache`].

pub mod answer;
pub mod bound;
pub mod cache;
pub mod calibration;
pub mod conversation;
pub mod eval;
pub mod freshness;
pub mod index;
pub mod interval;
mod lexicon;
pub mod lookup;
pub mod scope;
pub mod score;
pub mod signature;
pub mod store;
pub mod verifier;
mod words;
