//! Vocabulary files as hostile input, and the same vocabulary from its own file.

use super::{file, vocabulary};
use farthing_core::bpe::{Bpe, PreTokenizer, Scratch, SpecialKind, SpecialToken, Specials};
use farthing_core::store::seal;
use farthing_core::vocabulary::{Framing, TemplateFraming, Vocabulary, VocabularyError};
use proptest::prelude::*;

const MAGIC: [u8; 4] = *b"FVO1";

/// All bytes and a few merges.
fn small() -> Vocabulary {
    let mut tokens: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
    tokens.extend(["th", "the", " the", "__", "____"].map(|token| token.as_bytes().to_vec()));
    let special = |text: &str, kind| SpecialToken {
        text: text.to_owned(),
        id: 0,
        kind,
    };
    let specials = vec![
        special("<|end|>", SpecialKind::Control),
        special("<tool>", SpecialKind::UserDefined),
    ];
    let bytes = tokens.iter().map(Vec::as_slice);
    let bpe = Bpe::from_ranks(bytes, specials, PreTokenizer::Qwen2).unwrap();
    let framing = TemplateFraming {
        starts: [const { None }; 4].map(|_: Option<String>| Some("\u{fdd0}user\n".to_owned())),
        ..TemplateFraming::default()
    };
    Vocabulary::new(bpe, true, Some(Framing::Template(Box::new(framing))))
}

fn read(bytes: Vec<u8>) -> Result<Vocabulary, VocabularyError> {
    Vocabulary::from_file(bytes.into())
}

/// Uses what was read as far as counting does.
fn use_it(vocabulary: &Vocabulary) {
    let mut scratch = Scratch::default();
    for text in [
        "",
        "the the ____",
        "<|end|><tool>",
        "\u{fdd0}é 你好 😀",
        &"_".repeat(300),
    ] {
        let bpe = vocabulary.bpe();
        let count = bpe.count(text, Specials::Parse, &mut scratch);
        assert_eq!(count, bpe.encode(text, Specials::Parse).len());
    }
}

#[test]
fn a_file_holds_its_vocabulary() {
    let made = small();
    let read = read(made.to_file()).unwrap();
    assert_eq!(read.framing(), made.framing());
    assert_eq!(read.bpe().specials().len(), 2);
    assert_eq!(read.to_file(), made.to_file());
    let text = "the <tool> of the ____ <|end|> é";
    for specials in [Specials::Parse, Specials::Plain] {
        assert_eq!(
            read.bpe().encode(text, specials),
            made.bpe().encode(text, specials)
        );
    }
    use_it(&read);
    let o200k = vocabulary("o200k_base");
    assert_eq!(o200k.to_file(), file("o200k_base"));
}

#[test]
fn what_is_no_file_is_refused() {
    let check = |bytes: Vec<u8>, expected: &str| {
        let error = read(bytes).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    let whole = small().to_file();
    check(Vec::new(), "damaged");
    check(whole[..whole.len() - 1].to_vec(), "damaged");
    check(seal(*b"FVO2", b""), "damaged");
    check(seal(MAGIC, b""), "header");
    check(seal(MAGIC, b"\xa1\x61x\x01"), "header");
    check(vec![0; 9 << 20], "more than 8388608");
    let payload = &whole[4..whole.len() - 8];
    check(seal(MAGIC, &payload[..payload.len() - 1]), "tokens");
    check(seal(MAGIC, &[payload, b"x"].concat()), "end");
    // A length that promises more than there is.
    let at = payload
        .windows(2)
        .position(|bytes| bytes == [0x5a, 0])
        .unwrap();
    let mut promising = payload.to_vec();
    promising[at + 1] = 0xff;
    check(seal(MAGIC, &promising), "lengths");
    // One token longer than its bytes.
    let mut longer = payload.to_vec();
    longer[at + 5] += 1;
    check(seal(MAGIC, &longer), "by their lengths");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    /// Whoever writes the checksum last may write anything before it.
    #[test]
    fn no_bytes_bring_it_down(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        let whole = small().to_file();
        let mut payload = whole[4..whole.len() - 8].to_vec();
        for (at, byte) in changes {
            let at = at.index(payload.len());
            payload[at] = byte;
        }
        if is_cut {
            payload.truncate(cut.index(payload.len()));
        }
        if let Ok(vocabulary) = read(seal(MAGIC, &payload)) {
            use_it(&vocabulary);
        }
    }

    #[test]
    fn no_payload_brings_it_down(payload in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(vocabulary) = read(seal(MAGIC, &payload)) {
            use_it(&vocabulary);
        }
    }
}
