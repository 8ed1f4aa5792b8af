//! Strings made to break tokenizers: each of a kind, random within it, the same for one seed.

/// SplitMix64 (<https://prng.di.unimi.it/splitmix64.c>): a few lines, and reproducible for ever.
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn pick<'a, T: ?Sized>(&mut self, items: &[&'a T]) -> &'a T {
        items[self.below(items.len())]
    }
}

/// Fragments that are put together at random; several of a kind meet at every boundary.
const KINDS: &[(&str, &[&str])] = &[
    (
        "whitespace",
        &[
            " ", "  ", "\n", "\r", "\r\n", "\t", "\u{a0}", "\u{85}", "\u{3000}", "\u{b}",
            "\u{2028}", "\u{200b}", "a", "1", "!", "é",
        ],
    ),
    (
        "contractions",
        &[
            "'", "'s", "'S", "'re", "'RE", "'vE", "'ll", "'Ll", "'d", "'m", "'ſ", "''", "\u{2019}",
            "'t", "s", "don", " ", "1", "\n", "é",
        ],
    ),
    (
        "digits",
        &[
            "0", "7", "12", "345", "9999", "٣", "५", "½", "Ⅷ", "²", "①", "𝟘", "一", " ", ".", ",",
            "a", "\n",
        ],
    ),
    (
        "emoji",
        &[
            "😀",
            "👨\u{200d}👩\u{200d}👧",
            "🏽",
            "🇵🇹",
            "❤\u{fe0f}",
            "\u{1f3f4}\u{e0067}",
            "a",
            " ",
            "1\u{fe0f}\u{20e3}",
            "\n",
        ],
    ),
    (
        "scripts",
        &[
            "привет",
            "мир",
            "你好",
            "世界",
            "カメラ",
            "한국",
            "שלום",
            "مرحبا",
            "हिन्दी",
            "ไทย",
            "é",
            "e\u{301}",
            "ß",
            "ﬁ",
            "ǅ",
            " ",
            "-",
            "1",
            "'s",
        ],
    ),
    (
        "punctuation",
        &[
            "!", "?!", "...", "--", "__", "=>", "::", "(", ")", "{}", "[]", "\"", "`", "#", "/",
            "\\", "$", " ", "\n", "\r\n", "a",
        ],
    ),
    // Lone surrogates as JSON escapes them: to a tokenizer they are text like any other.
    (
        "escapes",
        &[
            "\\ud83d", "\\ude00", "\\uD800", "\\u0041", "\\n", "\\\"", "\\", "\"", "u", "d83d",
            " ", "\n", "é",
        ],
    ),
    (
        "controls",
        &[
            "\u{0}",
            "\u{1}",
            "\u{7}",
            "\u{1b}[0m",
            "\u{7f}",
            "\u{80}",
            "\u{9f}",
            "\u{ad}",
            "\u{feff}",
            "\u{fdd0}",
            "\u{fffe}",
            "\u{fffd}",
            "\u{202e}",
            "a",
            " ",
        ],
    ),
    (
        "special tokens",
        &[
            "<|im_start|>",
            "<|im_end|>",
            "<|endoftext|>",
            "<|im_end|",
            "<|",
            "|>",
            "<",
            "<tool_call>",
            "</tool_call>",
            "<repo_name>",
            "<reponame>",
            "<|im_<|im_end|>end|>",
            "a",
            " ",
            "\n",
        ],
    ),
    (
        "code",
        &[
            "fn ",
            "let ",
            "    ",
            "\t",
            "self",
            "_",
            "__init__",
            "0x1F",
            "->",
            ";",
            "\n",
            "}\n",
            "i++",
            "a.b",
            "camelCase",
            "SNAKE_CASE",
            " // ",
            "\"s\"",
        ],
    ),
    (
        "words",
        &[
            "the",
            " the",
            "The",
            " of",
            "ing",
            "un",
            "believable",
            "ly",
            " ",
            ".",
            ", ",
            "antidisestablishmentarianism",
            "qqqq",
            "zx",
        ],
    ),
];

/// `count` strings of every kind with the kind's name.
pub fn strings(seed: u64, count: usize) -> Vec<(&'static str, String)> {
    let mut random = Random(seed);
    let mut out = Vec::new();
    for _ in 0..count {
        for (kind, fragments) in KINDS {
            let length = 1 + random.below(24);
            out.push((*kind, (0..length).map(|_| random.pick(fragments)).collect()));
        }
        out.push(("one run", run(&mut random)));
        out.push((
            "any characters",
            (0..1 + random.below(40))
                .map(|_| scalar(&mut random))
                .collect(),
        ));
    }
    out
}

/// A run of one character, some longer than what the merge step scans.
fn run(random: &mut Random) -> String {
    let unit = random.pick(&[
        "_", " ", "\n", "a", "=", "-", "0", "\t", "'", "é", "你", "😀", "ab", "\r\n",
    ]);
    unit.repeat(1 + random.below(300))
}

/// A character of a random plane, the lower ones more often.
fn scalar(random: &mut Random) -> char {
    loop {
        let bits = 7 + random.below(15);
        if let Some(c) = char::from_u32(random.below(1 << bits) as u32) {
            return c;
        }
    }
}

/// So many characters of an alphabet.
#[allow(dead_code, reason = "not every test that has this module needs it")]
pub fn random_text(seed: u64, alphabet: &str, characters: usize) -> String {
    let letters: Vec<char> = alphabet.chars().collect();
    let mut random = Random(seed);
    (0..characters)
        .map(|_| letters[random.below(letters.len())])
        .collect()
}
