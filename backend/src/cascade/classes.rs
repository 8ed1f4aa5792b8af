//! Answers that come often, as where a route sorts texts into a few kinds: a model that is mostly
//! right when it says the one may be mostly wrong when it says the other. They are known by hashes,
//! so that a calibration holds nothing that was said.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::labelled::answer_span::answer_span;
use crate::labelled::check::plain;

/// How many are told apart.
pub const CLASSES: usize = 8;
/// An answer of more bytes is no name of a kind.
const CLASS_BYTES_MAX: usize = 32;
/// A rarer answer is not learned by itself: one in so many, and so many in all.
const RARITY_MAX: usize = 50;
const ANSWERS_MIN: usize = 8;

/// The commonest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Classes(Vec<u64>);

impl Classes {
    /// The answers that come often among these.
    pub fn learn<'a>(answers: impl Iterator<Item = &'a str>) -> Classes {
        let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
        let mut all = 0;
        for answer in answers {
            all += 1;
            if let Some(class) = class(answer) {
                *counts.entry(class).or_default() += 1;
            }
        }
        let least = ANSWERS_MIN.max(all / RARITY_MAX);
        let mut often: Vec<(u64, usize)> = counts
            .into_iter()
            .filter(|(_, count)| *count >= least)
            .collect();
        often.sort_by_key(|(class, count)| (std::cmp::Reverse(*count), *class));
        often.truncate(CLASSES);
        Classes(often.into_iter().map(|(class, _)| class).collect())
    }

    /// A one in the place of the class that the answer is of.
    pub fn mark(&self, answer: &str) -> [f64; CLASSES] {
        let class = class(answer);
        std::array::from_fn(|at| {
            let is_same = class.is_some() && self.0.get(at).copied() == class;
            f64::from(u8::from(is_same))
        })
    }

    /// Whether there are no more than are told apart.
    pub fn is_valid(&self) -> bool {
        self.0.len() <= CLASSES
    }
}

/// The hash of what an answer says, if that is short.
fn class(answer: &str) -> Option<u64> {
    let said = plain(answer.get(answer_span(answer)).unwrap_or_default());
    if said.is_empty() || said.len() > CLASS_BYTES_MAX {
        return None;
    }
    let hash = Sha256::digest(said.as_bytes());
    let first = hash.first_chunk::<8>()?;
    Some(u64::from_le_bytes(*first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_often_has_a_place_of_its_own() {
        let long = "x".repeat(200);
        let answers = |_| ["Up", "up.", "Answer: up", "down", "Down", "sideways", &long];
        let classes = Classes::learn((0..10).flat_map(answers));
        let place = |text: &str| classes.mark(text).iter().position(|mark| *mark == 1.0);
        assert_eq!(place("UP"), Some(0));
        assert_eq!(place("down"), Some(1));
        assert_eq!(place("sideways"), Some(2));
        assert_eq!(place("elsewhere"), None);
        assert_eq!(place(&long), None);
        assert_eq!(place(""), None);
        let rare = Classes::learn(["a"; 7].into_iter());
        assert_eq!(rare, Classes::default());
    }
}
