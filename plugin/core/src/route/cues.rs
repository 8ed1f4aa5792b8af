//! Words that say something about how hard a request is. A table in alphabetical order with an
//! index by first letter, so that a word costs a few comparisons.

use Cue::{Code, Constraint, Filler, Reasoning, Reckoning, Simple};

/// What a word is a sign of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cue {
    /// Manners, and words that are everywhere: they count as nothing.
    Filler,
    /// Reckoning with amounts.
    Reckoning,
    /// Asking for reasons, or for something to be worked out.
    Reasoning,
    /// Narrowing what answer will do.
    Constraint,
    Code,
    /// Asking for something short.
    Simple,
}

/// Letters of the longest cue.
pub(super) const CUE_BYTES_MAX: usize = 10;

/// What this lower-case word is a sign of, if anything.
pub(super) fn cue(word: &[u8]) -> Option<Cue> {
    let letter = usize::from(word.first()?.checked_sub(b'a')?);
    let (start, end) = (*STARTS.get(letter)?, *STARTS.get(letter.checked_add(1)?)?);
    let beginning_alike = CUES.get(start..end)?;
    beginning_alike
        .iter()
        .find(|(cue, _)| cue.as_bytes() == word)
        .map(|(_, cue)| *cue)
}

#[rustfmt::skip]
const CUES: [(&str, Cue); 144] = [
    ("a", Filler), ("algorithm", Reasoning), ("altogether", Reckoning), ("always", Constraint),
    ("an", Filler), ("analyse", Reasoning), ("analyze", Reasoning), ("api", Code),
    ("argue", Reasoning), ("async", Code), ("average", Reckoning), ("await", Code),
    ("both", Constraint), ("calculate", Reasoning), ("can", Filler), ("capital", Simple),
    ("class", Code), ("color", Simple), ("colour", Simple), ("compare", Reasoning),
    ("compile", Code), ("complexity", Reasoning), ("compute", Reasoning), ("concurrent", Code),
    ("const", Code), ("constraint", Constraint), ("contrast", Reasoning), ("cost", Reckoning),
    ("costs", Reckoning), ("could", Filler), ("dear", Filler), ("debug", Reasoning),
    ("deduce", Reasoning), ("def", Code), ("define", Simple), ("derivative", Reasoning),
    ("derive", Reasoning), ("design", Reasoning), ("difference", Reckoning), ("each", Reckoning),
    ("either", Constraint), ("equation", Reasoning), ("evaluate", Reasoning),
    ("every", Reckoning), ("exactly", Constraint), ("except", Constraint), ("explain", Reasoning),
    ("fewer", Reckoning), ("fn", Code), ("function", Code), ("greeting", Simple),
    ("half", Reckoning), ("hello", Filler), ("hey", Filler), ("hi", Filler), ("how", Reasoning),
    ("i", Filler), ("if", Constraint), ("impl", Code), ("implement", Reasoning), ("import", Code),
    ("incorrect", Constraint), ("infer", Reasoning), ("integral", Reasoning),
    ("javascript", Code), ("join", Code), ("joke", Simple), ("justify", Reasoning),
    ("kindly", Filler), ("lambda", Code), ("least", Constraint), ("left", Reckoning),
    ("less", Reckoning), ("list", Simple), ("madam", Filler), ("many", Reckoning), ("me", Filler),
    ("meaning", Simple), ("more", Reckoning), ("most", Constraint), ("much", Reckoning),
    ("must", Constraint), ("mutex", Code), ("my", Filler), ("name", Simple),
    ("neither", Constraint), ("never", Constraint), ("not", Constraint), ("null", Code),
    ("of", Filler), ("only", Constraint), ("optimise", Reasoning), ("optimize", Reasoning),
    ("per", Reckoning), ("percent", Reckoning), ("please", Filler), ("proof", Reasoning),
    ("prove", Reasoning), ("python", Code), ("quarter", Reckoning), ("ratio", Reckoning),
    ("reasoning", Reasoning), ("recursive", Code), ("refactor", Reasoning), ("regex", Code),
    ("remaining", Reckoning), ("return", Code), ("rhyme", Simple), ("rust", Code),
    ("select", Code), ("sir", Filler), ("solve", Reasoning), ("spell", Simple), ("sql", Code),
    ("step", Reasoning), ("steps", Reasoning), ("strategy", Reasoning), ("struct", Code),
    ("sum", Reckoning), ("summarise", Simple), ("summarize", Simple), ("synonym", Simple),
    ("thank", Filler), ("thanks", Filler), ("the", Filler), ("then", Constraint),
    ("theorem", Reasoning), ("therefore", Reasoning), ("third", Reckoning), ("thread", Code),
    ("times", Reckoning), ("to", Filler), ("total", Reckoning), ("tradeoffs", Reasoning),
    ("translate", Simple), ("twice", Reckoning), ("unless", Constraint), ("when", Simple),
    ("where", Simple), ("who", Simple), ("why", Reasoning), ("without", Constraint),
    ("would", Filler), ("you", Filler),
];

const LETTERS: usize = 26;

/// Where the cues of each letter begin in [`CUES`], and where the last ones end.
const STARTS: [usize; LETTERS + 1] = starts();

#[allow(
    clippy::indexing_slicing,
    reason = "evaluated by the compiler, which refuses a panic"
)]
const fn starts() -> [usize; LETTERS + 1] {
    let mut starts = [0; LETTERS + 1];
    let mut letter = 0;
    let mut cue = 0;
    while letter <= LETTERS {
        while cue < CUES.len() && ((CUES[cue].0.as_bytes()[0] - b'a') as usize) < letter {
            cue += 1;
        }
        starts[letter] = cue;
        letter += 1;
    }
    starts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_can_be_searched() {
        assert!(CUES.is_sorted_by(|(a, _), (b, _)| a < b));
        assert_eq!(
            CUES.iter().map(|(word, _)| word.len()).max(),
            Some(CUE_BYTES_MAX)
        );
        assert!(
            CUES.iter()
                .all(|(word, sign)| cue(word.as_bytes()) == Some(*sign))
        );
        assert!(
            [&b""[..], b"copper", b"zz", b"{", b"A", b"prov", b"proves"]
                .iter()
                .all(|word| cue(word).is_none())
        );
    }
}
