//! The picture of cost against quality: what share of the gap between two models is closed when a
//! share of the prompts goes to the strong one.

use super::measure::recovered;
use super::quality::Scores;
use super::rows::Row;
use crate::picture::{Curve, Picture};

/// Points of a curve.
const POINTS: usize = 100;

pub(super) fn picture(rows: &[&Row], scores: &Scores) -> Picture {
    let lengths: Vec<f64> = rows.iter().map(|row| row.prompt.len() as f64).collect();
    let curve = |name, order: &[f64]| Curve {
        name,
        points: recovered(rows, order, POINTS),
    };
    Picture {
        title: "Prompts that the strong model answers, and the gap that is closed",
        x: "prompts to the strong model",
        y: "gap closed",
        curves: vec![
            curve("router", &scores.order),
            curve("length of the prompt", &lengths),
            curve("chance", &vec![0.0; rows.len()]),
        ],
        marks: Vec::new(),
    }
}
