//! The cascade: models from cheap to dear, of which a dearer one is asked only where the answer of
//! a cheaper one is not worth keeping.
//!
//! What is decided is pure: [`signals`] says what an answer tells of itself, [`head`] turns that
//! into a probability of being wrong by a logistic regression and an [`isotonic`] map,
//! [`calibration`] holds these for all tiers of a route with what they were learned from,
//! [`policy`] puts money and risk into one currency and decides, a [`plan`] says which tiers are
//! asked, [`choose`] which plan a route is worth, [`fit`] learns it all from [`outcomes`].
//! [`collect`] asks the models, [`eval`] measures and `report` says what it found; [`judge`] lets a
//! model stand in for labels.

pub mod calibration;
pub mod choose;
mod classes;
pub mod collect;
pub mod eval;
pub mod fit;
pub mod head;
pub mod isotonic;
pub mod judge;
pub mod outcomes;
pub mod plan;
pub mod policy;
mod report;
pub mod signals;
