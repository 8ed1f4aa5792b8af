//! The run on a card.

fn main() {}
