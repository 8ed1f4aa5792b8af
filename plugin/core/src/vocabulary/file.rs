//! A vocabulary file: what it takes to count, in one piece of bytes.
//!
//! `FVO1`, a CBOR sequence (RFC 8742) and a checksum. The sequence is a map with everything small
//! ([`Header`]), then two byte strings: one length for each token, and the tokens' bytes, in order
//! of rank. Merges and ids are not in it: neither makes a difference to a count. The byte strings
//! are used where they lie, so that a filter holds them once.

use super::{Framing, Vocabulary, VocabularyError};
use crate::bpe::{Bpe, PreTokenizer, SpecialKind, SpecialToken, Table};
use crate::limits::{VOCABULARY_FILE_BYTES_MAX, VOCABULARY_SPECIALS_MAX};
use crate::store;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::ops::Range;

const MAGIC: [u8; 4] = *b"FVO1";
/// A CBOR byte string whose length has four bytes.
const BYTES_WITH_LENGTH: u8 = 0x5a;

/// Everything of a file but the tokens.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    pre_tokenizer: String,
    /// Tokens that merges lead to; the rest are whole pieces only.
    ranks: u32,
    control: Vec<String>,
    user_defined: Vec<String>,
    /// Whether a bare prompt begins with a token of its own.
    begins: bool,
    framing: Option<Framing>,
}

impl Vocabulary {
    /// The bytes of its file.
    pub fn to_file(&self) -> Vec<u8> {
        let texts = |kind: SpecialKind| {
            let of_kind = self
                .bpe
                .specials()
                .iter()
                .filter(|token| token.kind == kind);
            of_kind.map(|token| token.text.clone()).collect()
        };
        let table = self.bpe.to_table();
        let header = Header {
            pre_tokenizer: self.bpe.pre_tokenizer().name().to_owned(),
            ranks: table.ranks as u32,
            control: texts(SpecialKind::Control),
            user_defined: texts(SpecialKind::UserDefined),
            begins: self.begins,
            framing: self.framing.clone(),
        };
        let mut payload = Vec::new();
        // Writing to memory cannot fail.
        let _ = ciborium::into_writer(&header, &mut payload);
        for range in [table.lengths, table.bytes] {
            let bytes = table.data.get(range).unwrap_or_default();
            payload.push(BYTES_WITH_LENGTH);
            payload.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
            payload.extend_from_slice(bytes);
        }
        store::seal(MAGIC, &payload)
    }

    /// Reads a file. It is kept: the tokens' bytes are used where they lie.
    ///
    /// # Errors
    /// [`VocabularyError`] for anything that is not such a file, is damaged, or holds what no real
    /// vocabulary does.
    pub fn from_file(file: Cow<'static, [u8]>) -> Result<Vocabulary, VocabularyError> {
        if file.len() > VOCABULARY_FILE_BYTES_MAX {
            return Err(VocabularyError::TooLarge { bytes: file.len() });
        }
        let payload = store::open(MAGIC, &file).ok_or(VocabularyError::Damaged)?;
        let mut rest = payload;
        let header: Header =
            ciborium::from_reader(&mut rest).map_err(|_| VocabularyError::Malformed("header"))?;
        let at = |rest: &[u8]| MAGIC.len() + payload.len() - rest.len();
        let lengths_size = byte_string(&mut rest).ok_or(VocabularyError::Malformed("lengths"))?;
        let lengths = range(at(rest), lengths_size);
        let mut rest = rest.get(lengths_size..).unwrap_or_default();
        let bytes_size = byte_string(&mut rest).ok_or(VocabularyError::Malformed("tokens"))?;
        let bytes = range(at(rest), bytes_size);
        if rest.len() != bytes_size {
            return Err(VocabularyError::Malformed("end"));
        }
        let specials = specials(&header)?;
        let pre_tokenizer = PreTokenizer::from_name(&header.pre_tokenizer)?;
        let table = Table {
            ranks: header.ranks as usize,
            lengths,
            bytes,
            data: file,
        };
        Ok(Vocabulary {
            bpe: Bpe::from_table(table, specials, pre_tokenizer)?,
            begins: header.begins,
            framing: header.framing,
        })
    }
}

/// Reads the head of a byte string and says how many bytes follow, if they are there.
fn byte_string(rest: &mut &[u8]) -> Option<usize> {
    let (&[kind, a, b, c, d], after) = rest.split_first_chunk::<5>()?;
    let size = u32::from_be_bytes([a, b, c, d]) as usize;
    *rest = after;
    (kind == BYTES_WITH_LENGTH && size <= after.len()).then_some(size)
}

fn range(start: usize, size: usize) -> Range<usize> {
    start..start.saturating_add(size)
}

fn specials(header: &Header) -> Result<Vec<SpecialToken>, VocabularyError> {
    let kinds = [
        (&header.control, SpecialKind::Control),
        (&header.user_defined, SpecialKind::UserDefined),
    ];
    if header.control.len() + header.user_defined.len() > VOCABULARY_SPECIALS_MAX {
        return Err(VocabularyError::Malformed("special tokens"));
    }
    let tokens = kinds.into_iter().flat_map(|(texts, kind)| {
        texts.iter().map(move |text| SpecialToken {
            text: text.clone(),
            // Which one it is makes no difference to a count.
            id: 0,
            kind,
        })
    });
    Ok(tokens.collect())
}
