//! Folds white space that carries no meaning in prose: spaces in a row become one, spaces at the
//! end of a line go, and blank lines in a row become one. Where white space may carry meaning it
//! stays, in doubt always:
//!
//! * in fenced code (CommonMark 0.31, section 4.5; an unclosed fence reaches to the end), and in a
//!   text that has HTML or TeX for preformatted text;
//! * in indented code, and every line's own indentation;
//! * inside a line that holds a quotation, inline code, a tab or a `|`;
//! * in lines one after the other that both have gaps, as columns of a table do;
//! * at the end of the text.

/// Where these are, all of the text may be laid out by hand.
const PREFORMATTED: [&str; 5] = ["<pre", "<code", "<textarea", "<script", "\\begin{"];

/// Indentation from which a line is code.
const CODE_INDENT: usize = 4;
/// Indentation up to which a fence is one.
const FENCE_INDENT_MAX: usize = 3;
const FENCE_LENGTH_MIN: usize = 3;

/// The text with its white space folded; `None` if there is nothing to fold.
pub fn fold_whitespace(text: &str) -> Option<String> {
    if !has_runs(text) || PREFORMATTED.iter().any(|mark| contains(text, mark)) {
        return None;
    }
    let lines = lines(text);
    let mut folded = String::with_capacity(text.len());
    let mut before: Option<&Line<'_>> = None;
    for (index, line) in lines.iter().enumerate() {
        let after = lines.get(index.saturating_add(1));
        let next_text = lines
            .iter()
            .skip(index)
            .find(|line| line.kind != Kind::Blank);
        match line.kind {
            Kind::Blank => {
                let second = before.is_some_and(|before| before.kind == Kind::Blank);
                let in_code = is_code(last_text(&lines, index)) || is_code(next_text);
                if second && !in_code {
                    continue;
                }
                // White space on a blank line is its end.
                folded.push_str(if in_code { line.text } else { "" });
            }
            Kind::Verbatim => folded.push_str(line.text),
            Kind::Prose => {
                let table = [before, after].into_iter().flatten().any(|it| it.has_gaps);
                line.fold_into(table, &mut folded);
            }
        }
        folded.push_str(line.end);
        before = Some(line);
    }
    (folded.len() < text.len()).then_some(folded)
}

/// What may be done to a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Blank,
    /// Code, or the marks around it.
    Verbatim,
    Prose,
}

struct Line<'a> {
    text: &'a str,
    /// Its line break; empty at the end of the text.
    end: &'a str,
    kind: Kind,
    /// Are there several spaces in a row between its words?
    has_gaps: bool,
}

impl Line<'_> {
    fn fold_into(&self, table: bool, out: &mut String) {
        let kept = match self.end {
            "" => self.text,
            _ => self.text.trim_end_matches([' ', '\t']),
        };
        if table || !self.has_gaps || is_delicate(kept) {
            out.push_str(kept);
            return;
        }
        let (indent, words) = kept
            .split_at_checked(indent_bytes(kept))
            .unwrap_or(("", kept));
        out.push_str(indent);
        // At the very end of the text the spaces stay.
        let said = words.trim_end_matches(' ');
        let mut was_space = false;
        for character in said.chars() {
            let space = character == ' ';
            if !(space && was_space) {
                out.push(character);
            }
            was_space = space;
        }
        out.push_str(words.get(said.len()..).unwrap_or_default());
    }
}

/// The last line before this one that is not blank.
fn last_text<'a, 'b>(lines: &'b [Line<'a>], index: usize) -> Option<&'b Line<'a>> {
    let before = lines.get(..index).unwrap_or_default();
    before.iter().rev().find(|line| line.kind != Kind::Blank)
}

fn is_code(line: Option<&Line<'_>>) -> bool {
    line.is_some_and(|line| line.kind == Kind::Verbatim)
}

fn lines(text: &str) -> Vec<Line<'_>> {
    let mut fence: Option<Fence> = None;
    let line = |whole| {
        let (text, end) = split_end(whole);
        let kind = match (fence, Fence::at(text)) {
            (Some(open), mark) => {
                if mark.is_some_and(|mark| mark.closes(open, text)) {
                    fence = None;
                }
                Kind::Verbatim
            }
            (None, Some(mark)) => {
                fence = Some(mark);
                Kind::Verbatim
            }
            (None, None) => kind(text),
        };
        Line {
            text,
            end,
            kind,
            has_gaps: kind == Kind::Prose && has_gaps(text),
        }
    };
    text.split_inclusive('\n').map(line).collect()
}

fn kind(text: &str) -> Kind {
    let indent = text.get(..indent_bytes(text)).unwrap_or_default();
    if text.trim_matches([' ', '\t']).is_empty() {
        Kind::Blank
    } else if indent.len() >= CODE_INDENT || indent.contains('\t') {
        Kind::Verbatim
    } else {
        Kind::Prose
    }
}

/// A line and its break, which is LF or CRLF.
fn split_end(line: &str) -> (&str, &str) {
    let text = line.strip_suffix('\n').unwrap_or(line);
    let text = text.strip_suffix('\r').unwrap_or(text);
    line.split_at_checked(text.len()).unwrap_or((line, ""))
}

/// The line that opens or closes fenced code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fence {
    mark: char,
    length: usize,
}

impl Fence {
    fn at(line: &str) -> Option<Fence> {
        // A tab indents as far as code is.
        let marks = line.trim_start_matches(' ');
        let indent = line.len().saturating_sub(marks.len());
        let mark = marks
            .chars()
            .next()
            .filter(|mark| matches!(mark, '`' | '~'))?;
        let length = marks.chars().take_while(|other| *other == mark).count();
        (indent <= FENCE_INDENT_MAX && length >= FENCE_LENGTH_MIN).then_some(Fence { mark, length })
    }

    fn closes(self, open: Fence, line: &str) -> bool {
        let rest = line.trim_matches([' ', '\t']).trim_matches(self.mark);
        self.mark == open.mark && self.length >= open.length && rest.is_empty()
    }
}

fn indent_bytes(line: &str) -> usize {
    let text = line.trim_start_matches([' ', '\t']);
    line.len().saturating_sub(text.len())
}

fn has_gaps(line: &str) -> bool {
    line.trim_matches([' ', '\t']).contains("  ")
}

/// May the spaces of this line be part of what is quoted, or part columns?
fn is_delicate(line: &str) -> bool {
    let quote = |character: char| {
        "\"`\u{ab}\u{bb}\u{2018}\u{201a}\u{201c}\u{201d}\u{201e}\u{300c}\u{300e}|\t"
            .contains(character)
    };
    line.contains(quote) || has_single_quotation(line)
}

/// An apostrophe stands between letters, or after one; a quotation begins with one that does not.
fn has_single_quotation(line: &str) -> bool {
    let mut before = ' ';
    line.chars().any(|character| {
        let opens = character == '\'' && !before.is_alphanumeric();
        before = character;
        opens
    })
}

/// A cheap look: most texts have nothing to fold.
fn has_runs(text: &str) -> bool {
    [
        "  ",
        "\n\n\n",
        "\n\r\n\r\n",
        " \n",
        "\t\n",
        " \r\n",
        "\t\r\n",
    ]
    .iter()
    .any(|run| text.contains(run))
}

fn contains(text: &str, mark: &str) -> bool {
    text.as_bytes()
        .windows(mark.len())
        .any(|window| window.eq_ignore_ascii_case(mark.as_bytes()))
}
