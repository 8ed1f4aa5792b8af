//! Brings a vocabulary with a list of merges into the form of [`super::token_table`]: its tokens in
//! the order in which merges make them, without those that no text ever reaches.

use super::BpeError;
use super::merge::{Merge, MergeScratch};
use super::token_table::TokenTable;
use std::collections::HashMap;

/// Ids of a vocabulary in order of rank.
pub(super) struct Ranking {
    /// Single bytes, then what the merges make of them.
    pub(super) merged: Vec<u32>,
    /// Tokens that text may be looked up as, but no merges lead to.
    pub(super) out_of_reach: Vec<u32>,
}

/// A merge: two parts, by id.
pub(super) type Pair = (u32, u32);

/// Ranks the tokens. `tokens` are all of the vocabulary by id; `is_text` says which ones text may
/// become, and of two such with the same bytes the first counts. All merges of one token must stand
/// together, as they do in real files: tiktoken vocabularies that were converted list every way to
/// cut a token in two, others list one.
///
/// # Errors
/// [`BpeError::Merge`] when a merge's parts or its result are not in the vocabulary, or are made
/// only after it.
pub(super) fn rank(
    tokens: &[&[u8]],
    is_text: impl Fn(u32) -> bool,
    merges: &[Pair],
) -> Result<Ranking, BpeError> {
    let mut ids: HashMap<&[u8], u32> = HashMap::with_capacity(tokens.len());
    let mut texts = Vec::new();
    for (id, bytes) in (0..).zip(tokens) {
        if is_text(id) && !bytes.is_empty() && !ids.contains_key(bytes) {
            ids.insert(bytes, id);
            texts.push(id);
        }
    }
    let bytes_of = |id: u32| tokens.get(id as usize).copied().unwrap_or_default();
    let mut merged: Vec<u32> = texts
        .iter()
        .copied()
        .filter(|id| bytes_of(*id).len() == 1)
        .collect();
    let mut ranks: HashMap<u32, u32> = (0..).zip(&merged).map(|(rank, id)| (*id, rank)).collect();
    let mut splits: Vec<(u32, usize)> = Vec::with_capacity(merges.len());
    let mut waiting: HashMap<u32, usize> = HashMap::new();
    for (index, (left, right)) in merges.iter().enumerate() {
        let left_bytes = bytes_of(*left);
        let whole = [left_bytes, bytes_of(*right)].concat();
        let Some(&id) = ids.get(whole.as_slice()) else {
            return Err(BpeError::merge(index, *left, *right));
        };
        if ranks.contains_key(left) && ranks.contains_key(right) {
            splits.push((id, left_bytes.len()));
            ranks.entry(id).or_insert_with(|| {
                merged.push(id);
                merged.len() as u32 - 1
            });
        } else {
            waiting.entry(id).or_insert(index);
        }
    }
    if let Some((_, &index)) = waiting.iter().find(|(id, _)| !ranks.contains_key(id)) {
        let (left, right) = merges.get(index).copied().unwrap_or_default();
        return Err(BpeError::merge(index, left, right));
    }
    splits.sort_unstable();
    let unreached = drop_unreached(&mut merged, &bytes_of, &splits)?;
    let unmade = texts.into_iter().filter(|id| !ranks.contains_key(id));
    let mut out_of_reach: Vec<u32> = unmade.chain(unreached).collect();
    out_of_reach.sort_unstable();
    Ok(Ranking {
        merged,
        out_of_reach,
    })
}

/// Keeps the tokens that their own bytes become when they are merged by the list: those of lower
/// rank leave two parts, and the list joins just these.
fn drop_unreached<'a>(
    merged: &mut Vec<u32>,
    bytes_of: &impl Fn(u32) -> &'a [u8],
    splits: &[(u32, usize)],
) -> Result<Vec<u32>, BpeError> {
    let mut table = TokenTable::of_tokens(merged.iter().map(|id| bytes_of(*id)), merged.len())?;
    let mut scratch = MergeScratch::default();
    let mut unreached = Vec::new();
    for (rank, &id) in (0..).zip(merged.iter()) {
        let text = bytes_of(id);
        if text.len() == 1 {
            continue;
        }
        let merge = Merge {
            table: &table,
            text,
            ranks: rank,
        };
        let reached = match *merge.ends(0, text.len(), usize::MAX, &mut scratch) {
            [middle, _] => splits.binary_search(&(id, middle)).is_ok(),
            _ => false,
        };
        if !reached {
            table.forget(rank);
            unreached.push(id);
        }
    }
    unreached.sort_unstable();
    merged.retain(|id| unreached.binary_search(id).is_err());
    Ok(unreached)
}
