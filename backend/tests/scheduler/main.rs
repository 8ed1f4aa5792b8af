//! The scheduler, the block pool and the estimates that they count on, without a model: each by
//! itself, and all together in a simulation.

mod admission;
mod blocks;
mod chunks;
mod drafts;
mod estimates;
mod leaving;
mod simulation;
mod simulator;
