//! The guard: what two questions must agree in before one may be given the other's answer. Vectors
//! hardly see a number, a name or a "not"; these are compared as they are written.

use std::collections::BTreeSet;

use super::lexicon::{Lexicon, Side};
use super::words::{self, Knows, Word};

/// What of a question is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    content: Vec<Word>,
    figures: Vec<String>,
    marks: Vec<String>,
    negations: usize,
    /// Opposites that it names, sorted, each once.
    poles: Vec<(u8, Side)>,
    asks: Asks,
}

/// What a question wants to know, where one word says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asks {
    Who,
    When,
    Where,
    Why,
    HowMuch,
    /// A thing, a way, yes or no: any of these may be asked in the words of another.
    Open,
}

/// Why two questions cannot have the same answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conflict {
    /// Numbers, units, days or months differ.
    Figures,
    /// Quoted strings, addresses or identifiers differ.
    Marks,
    /// One is negated.
    Negation,
    /// They name opposites.
    Opposites,
    /// One names somebody or something that the other does not, or in another order.
    Names,
    /// One asks who, the other when.
    Question,
}

/// How two questions differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Comparison {
    /// The first reason why they cannot have the same answer.
    pub conflict: Option<Conflict>,
    /// Words of content of each that the other has nothing alike for.
    pub unmatched: [usize; 2],
    /// Words of content that both have.
    pub matched: usize,
}

// === impl Signature ===

impl Signature {
    /// Reads a question.
    pub fn read(text: &str, is_known: Knows<'_>) -> Signature {
        let read = words::read(text, is_known);
        let lexicon = Lexicon::english();
        let poles = read.all.iter().flat_map(|word| lexicon.poles(word));
        let mut poles: Vec<(u8, Side)> = poles.copied().collect();
        poles.sort_unstable();
        poles.dedup();
        Signature {
            asks: Asks::read(&read.all),
            content: read.content,
            figures: read.figures,
            marks: read.marks,
            negations: read.negations,
            poles,
        }
    }

    /// Words of content.
    pub fn content(&self) -> usize {
        self.content.len()
    }

    /// Numbers with their units, days and months, sorted.
    pub fn figures(&self) -> &[String] {
        &self.figures
    }

    /// Figures and marks of each that the other has not, or not as often.
    pub fn figures_apart(&self, other: &Signature) -> [usize; 2] {
        let mut theirs: Vec<&String> = other.figures.iter().chain(&other.marks).collect();
        let mut ours = 0;
        for figure in self.figures.iter().chain(&self.marks) {
            match theirs.iter().position(|their| *their == figure) {
                Some(at) => {
                    theirs.swap_remove(at);
                }
                None => ours += 1,
            }
        }
        [ours, theirs.len()]
    }

    /// Names of each that the other has not.
    pub fn names_apart(&self, other: &Signature) -> [usize; 2] {
        let apart = |of: &[Word], other: &[Word]| {
            let names = of.iter().filter(|word| word.is_name);
            let missing = names.filter(|name| !other.iter().any(|word| word.stem == name.stem));
            missing
                .map(|name| &name.stem)
                .collect::<BTreeSet<_>>()
                .len()
        };
        [
            apart(&self.content, &other.content),
            apart(&other.content, &self.content),
        ]
    }

    /// Compares two questions; the order does not matter but for `unmatched`.
    pub fn compare(&self, other: &Signature) -> Comparison {
        let matching = Matching::of(&self.content, &other.content);
        let unmatched = [matching.left.len(), matching.right.len()];
        Comparison {
            conflict: self.conflict(other, &matching),
            unmatched,
            matched: matching.pairs.len(),
        }
    }

    fn conflict(&self, other: &Signature, matching: &Matching<'_>) -> Option<Conflict> {
        let mut left = matching.left.iter().chain(&matching.right);
        let conflicts = [
            (Conflict::Figures, self.figures != other.figures),
            (Conflict::Marks, self.marks != other.marks),
            (
                Conflict::Negation,
                self.negations % 2 != other.negations % 2,
            ),
            (
                Conflict::Opposites,
                opposed(&self.poles, &other.poles) || matching.names_opposites(),
            ),
            (
                Conflict::Names,
                left.any(|word| word.is_name) || matching.reorders_names(),
            ),
            (Conflict::Question, self.asks.differs(other.asks)),
        ];
        let first = conflicts.into_iter().find(|(_, holds)| *holds);
        first.map(|(conflict, _)| conflict)
    }
}

/// One names a side of a row and the other only its other side.
fn opposed(a: &[(u8, Side)], b: &[(u8, Side)]) -> bool {
    let only = |of: &[(u8, Side)], other: &[(u8, Side)]| -> Vec<(u8, Side)> {
        let missing = of.iter().filter(|pole| !other.contains(pole));
        missing.copied().collect()
    };
    let (a, b) = (only(a, b), only(b, a));
    a.iter()
        .any(|(row, _)| b.iter().any(|(other, _)| row == other))
}

// === impl Asks ===

impl Asks {
    fn read(all: &[String]) -> Asks {
        for (index, word) in all.iter().enumerate() {
            let next = all.get(index + 1).map(String::as_str);
            match (word.as_str(), next) {
                ("who" | "whose" | "whom", _) => return Asks::Who,
                ("where", _) => return Asks::Where,
                ("why", _) => return Asks::Why,
                ("when", _) if index == 0 => return Asks::When,
                ("what", Some("time" | "date" | "day")) => return Asks::When,
                ("how", Some("much" | "many" | "long" | "often" | "far" | "old")) => {
                    return Asks::HowMuch;
                }
                _ => {}
            }
        }
        Asks::Open
    }

    fn differs(self, other: Asks) -> bool {
        self != other && self != Asks::Open && other != Asks::Open
    }
}

/// Which words of two texts say the same.
struct Matching<'a> {
    /// Places in the one and the other text.
    pairs: Vec<(usize, usize)>,
    left: Vec<&'a Word>,
    right: Vec<&'a Word>,
    ours: &'a [Word],
}

// === impl Matching ===

impl<'a> Matching<'a> {
    /// Equal words first, then those alike, so that none is taken by a lesser match.
    fn of(ours: &'a [Word], theirs: &'a [Word]) -> Matching<'a> {
        let mut pairs: Vec<(usize, usize)> = Vec::new();
        let rules: [fn(&Word, &Word) -> bool; 3] = [|a, b| a.stem == b.stem, alike, misspelled];
        for same in rules {
            for (at, word) in ours.iter().enumerate() {
                if pairs.iter().any(|(taken, _)| *taken == at) {
                    continue;
                }
                let is_free = |index: &usize| !pairs.iter().any(|(_, taken)| taken == index);
                let mut free = (0..theirs.len()).filter(is_free);
                if let Some(found) = free.find(|index| same(word, &theirs[*index])) {
                    pairs.push((at, found));
                }
            }
        }
        // A word may be said twice in one text and once in the other.
        let missing = |words: &'a [Word], others: &'a [Word], taken: Vec<usize>| {
            let kept = words.iter().enumerate().filter(|(at, word)| {
                !taken.contains(at) && !others.iter().any(|other| other.stem == word.stem)
            });
            kept.map(|(_, word)| word).collect()
        };
        Matching {
            left: missing(ours, theirs, pairs.iter().map(|pair| pair.0).collect()),
            right: missing(theirs, ours, pairs.iter().map(|pair| pair.1).collect()),
            pairs,
            ours,
        }
    }

    /// `lock` and `unlock`.
    fn names_opposites(&self) -> bool {
        let mut both = self
            .left
            .iter()
            .flat_map(|a| self.right.iter().map(move |b| (a, b)));
        both.any(|(a, b)| negates(&a.stem, &b.stem) || negates(&b.stem, &a.stem))
    }

    /// From A to B is not from B to A.
    fn reorders_names(&self) -> bool {
        let mut names: Vec<(usize, usize)> = self.pairs.clone();
        names.retain(|(at, _)| self.ours[*at].is_name);
        names.sort_unstable();
        names.windows(2).any(|two| two[0].1 > two[1].1)
    }
}

fn alike(a: &Word, b: &Word) -> bool {
    let lexicon = Lexicon::english();
    let same = lexicon.representative(&a.stem) == lexicon.representative(&b.stem);
    !a.is_name && !b.is_name && same
}

/// One is the other with a syllable before it that turns it round.
fn negates(a: &str, b: &str) -> bool {
    const SYLLABLES: &[&str] = &["un", "in", "im", "ir", "il", "dis", "non", "de", "mis"];
    let mut rests = SYLLABLES
        .iter()
        .filter_map(|syllable| a.strip_prefix(syllable));
    rests.any(|rest| rest == b)
}

/// One is no word that the model knows, and nearly the other.
fn misspelled(a: &Word, b: &Word) -> bool {
    let turned = negates(&a.stem, &b.stem) || negates(&b.stem, &a.stem);
    if (a.is_known && b.is_known) || a.is_name || b.is_name || turned {
        return false;
    }
    let length = a.text.chars().count().min(b.text.chars().count());
    let allowed = match length {
        0..=3 => return false,
        4..=6 => 1,
        _ => 2,
    };
    distance(&a.text, &b.text, allowed) <= allowed
}

/// Letters to insert, delete, replace or swap with their neighbour (Damerau, 1964, adjacent swaps
/// only); anything above `most` once it is clear that there are more.
fn distance(a: &str, b: &str, most: usize) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len().abs_diff(b.len()) > most {
        return most + 1;
    }
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for (i, left) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, right) in b.iter().enumerate() {
            let replaced = rows[i][j] + usize::from(left != right);
            let mut least = replaced.min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *left == b[j - 1] && a[i - 1] == *right {
                least = least.min(rows[i - 1][j - 1] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}
