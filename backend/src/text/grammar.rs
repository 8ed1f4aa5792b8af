//! Answers of a given form: llguidance says for each place of an answer which tokens keep to a JSON
//! schema, a regular expression or a grammar. This is the only place that names it.
//!
//! Whatever a client sends is bounded twice: compiling and following a grammar each have a budget
//! of steps, and what goes over it is refused, or ends the request with an error.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::thread;

use farthing_core::bpe::Specials;
use farthing_core::error::{ApiError, ErrorKind};
use farthing_core::limits;
use farthing_core::wire::{AnswerForm, Form};
use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::{
    InferenceCapabilities, SimpleVob, TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv,
};
use llguidance::{JsonCompileOptions, Matcher, ParserFactory};

use super::tokenizer::Tokenizer;

/// Compiles grammars for one model's vocabulary. The vocabulary's trie is made for the first of
/// them: most models never see one.
pub struct GrammarCompiler {
    tokenizer: Arc<Tokenizer>,
    factory: OnceLock<Result<Arc<ParserFactory>, String>>,
}

/// A form that one answer is held to, and how far it has come. A clone goes its own way from there
/// on; clones share what the lexer has found out.
#[derive(Clone)]
pub struct Grammar {
    matcher: Matcher,
    /// The field of the request that it comes from.
    param: &'static str,
}

/// The tokens that a grammar allows next; one at least.
pub struct TokenMask {
    allowed: SimpleVob,
}

/// White space between the tokens of a JSON answer: none, a space, or a new line that is indented.
/// A model that is unsure likes to go on with white space, so there is no more of it.
const JSON_WHITESPACE: &str = r"( |\n {0,32})";

/// The first byte by which the trie knows control tokens: no text has it.
const CONTROL_MARK: u8 = TokTrie::SPECIAL_TOKEN_MARKER;

/// The vocabulary as llguidance sees it.
struct Vocabulary {
    trie: TokTrie,
    tokenizer: Arc<Tokenizer>,
}

// === impl GrammarCompiler ===

impl GrammarCompiler {
    pub fn new(tokenizer: Arc<Tokenizer>) -> GrammarCompiler {
        GrammarCompiler {
            tokenizer,
            factory: OnceLock::new(),
        }
    }

    /// Compiles a form. Takes milliseconds, and up to a second for the first one of a model.
    ///
    /// # Errors
    /// `InvalidValue` with the form's field, for what is malformed, not supported or too large.
    pub fn compile(&self, form: &AnswerForm) -> Result<Grammar, ApiError> {
        let refused = |fault: String| {
            let message = format!("{} cannot be followed: {fault}", form.param);
            ApiError::new(ErrorKind::InvalidValue, message).param(form.param)
        };
        let grammar = top_level(&form.form).map_err(refused)?;
        let factory = self
            .factory
            .get_or_init(|| parser_factory(&self.tokenizer).map(Arc::new));
        let factory = factory.as_ref().map_err(|fault| {
            let message = format!("the model's vocabulary cannot be constrained: {fault}");
            ApiError::new(ErrorKind::Internal, message)
        })?;
        let matcher = compile_aside(Arc::clone(factory), grammar).map_err(refused)?;
        Ok(Grammar {
            matcher,
            param: form.param,
        })
    }
}

impl fmt::Debug for GrammarCompiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrammarCompiler").finish_non_exhaustive()
    }
}

// === impl Grammar ===

impl Grammar {
    /// The tokens that may come next. Those that end an answer are among them where the grammar is
    /// complete.
    ///
    /// # Errors
    /// The grammar has become too complex to be followed, or leads nowhere.
    pub fn mask(&mut self) -> Result<TokenMask, ApiError> {
        let allowed = self.matcher.compute_mask_or_eos().ok();
        match allowed.filter(|allowed| !allowed.is_zero()) {
            Some(allowed) => Ok(TokenMask { allowed }),
            None => Err(self.lost()),
        }
    }

    /// Goes on by one token, which the mask allowed and which does not end the answer.
    ///
    /// # Errors
    /// The grammar has become too complex to be followed.
    pub fn consume(&mut self, token: u32) -> Result<(), ApiError> {
        self.matcher.consume_token(token).map_err(|_| self.lost())
    }

    /// The tokens that come next whatever the model says, as the tokenizer would write them. None
    /// if it has a say, or at the end.
    pub fn forced(&mut self) -> Vec<u32> {
        self.matcher.compute_ff_tokens()
    }

    /// Whether nothing can follow.
    pub fn is_complete(&self) -> bool {
        self.matcher.is_stopped()
    }

    /// The reason is not told: it quotes the answer so far.
    fn lost(&self) -> ApiError {
        let message = "the form of the answer became too complex to be followed";
        ApiError::new(ErrorKind::InvalidValue, message).param(self.param)
    }
}

impl fmt::Debug for Grammar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grammar").finish_non_exhaustive()
    }
}

// === impl TokenMask ===

impl TokenMask {
    /// The token, if only one is allowed.
    pub fn only(&self) -> Option<u32> {
        let mut allowed = self.allowed.iter();
        let first = allowed.next()?;
        allowed.next().is_none().then_some(first)
    }

    /// Whether a token may come next.
    pub fn allows(&self, token: u32) -> bool {
        (token as usize) < self.allowed.len() && self.allowed.is_allowed(token)
    }

    /// The allowed token with the smallest id.
    pub fn first(&self) -> u32 {
        self.allowed.iter().next().unwrap_or(0)
    }

    /// Makes the tokens impossible that are not allowed, and those beyond the vocabulary.
    pub fn apply(&self, logits: &mut [f32]) {
        let words = self.allowed.as_slice();
        for (index, logits) in logits.chunks_mut(u32::BITS as usize).enumerate() {
            match words.get(index).copied().unwrap_or(0) {
                0 => logits.fill(f32::NEG_INFINITY),
                u32::MAX => {}
                word => {
                    for (bit, logit) in logits.iter_mut().enumerate() {
                        if (word >> bit) & 1 == 0 {
                            *logit = f32::NEG_INFINITY;
                        }
                    }
                }
            }
        }
    }
}

// === impl Vocabulary ===

impl Vocabulary {
    fn new(tokenizer: Arc<Tokenizer>) -> Result<Vocabulary, String> {
        let ends = tokenizer.end_of_generation_ids();
        let Some(&end) = ends.first() else {
            return Err("no token ends an answer".to_owned());
        };
        let size = tokenizer.vocab_size() as u32;
        let word = |id: u32| {
            let bytes = tokenizer.token_bytes(id);
            if tokenizer.is_control(id) || tokenizer.is_end_of_generation(id) {
                [&[CONTROL_MARK], bytes].concat()
            } else {
                bytes.to_vec()
            }
        };
        let words: Vec<Vec<u8>> = (0..size).map(word).collect();
        let trie = TokTrie::from(&TokRxInfo::new(size, end), &words).with_eos_tokens(ends);
        Ok(Vocabulary { trie, tokenizer })
    }
}

impl TokenizerEnv for Vocabulary {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        self.trie.tokenize_with_greedy_fallback(bytes, |text| {
            self.tokenizer.encode(text, Specials::Plain)
        })
    }
}

fn parser_factory(tokenizer: &Arc<Tokenizer>) -> Result<ParserFactory, String> {
    let vocabulary: TokEnv = Arc::new(Vocabulary::new(Arc::clone(tokenizer))?);
    let capabilities = InferenceCapabilities {
        ff_tokens: true,
        ..InferenceCapabilities::default()
    };
    let slices = SlicedBiasComputer::general_slices();
    let mut factory = ParserFactory::new(&vocabulary, capabilities, &slices)
        .map_err(|error| fault(&error.to_string()))?;
    // Its log would go to standard error, with parts of grammars and answers.
    factory.quiet();
    *factory.limits_mut() = ParserLimits {
        initial_lexer_fuel: limits::GRAMMAR_COMPILE_STEPS_MAX,
        step_lexer_fuel: limits::GRAMMAR_MASK_STEPS_MAX,
        step_max_items: limits::GRAMMAR_MASK_ITEMS_MAX,
        max_lexer_states: limits::GRAMMAR_LEXER_STATES_MAX,
        max_grammar_size: limits::GRAMMAR_SYMBOLS_MAX,
        verbose_errors: false,
        ..ParserLimits::default()
    };
    Ok(factory)
}

/// Compiles on a stack of its own: parsers of grammars descend as deep as a client nests them.
fn compile_aside(factory: Arc<ParserFactory>, grammar: TopLevelGrammar) -> Result<Matcher, String> {
    let compile = move || {
        let mut matcher = Matcher::new(factory.create_parser(grammar));
        if let Some(error) = matcher.get_error() {
            return Err(fault(&error));
        }
        // What leads nowhere from the start, as a definition does that only refers to itself.
        match matcher.compute_mask() {
            Ok(_) => Ok(matcher),
            Err(_) => Err("no answer can follow it, or it is too complex".to_owned()),
        }
    };
    let thread = thread::Builder::new()
        .name("grammar".to_owned())
        .stack_size(limits::GRAMMAR_STACK_BYTES)
        .spawn(compile);
    let gone = || "it could not be compiled".to_owned();
    thread.map_err(|_| gone())?.join().map_err(|_| gone())?
}

/// A form in llguidance's terms.
fn top_level(form: &Form) -> Result<TopLevelGrammar, String> {
    match form {
        Form::JsonObject => Ok(json_grammar(serde_json::json!({"type": "object"}))),
        Form::JsonSchema(bytes) => {
            let schema = serde_json::from_slice::<serde_json::Value>(bytes);
            let schema = schema.map_err(|error| fault(&error.to_string()))?;
            if !schema.is_object() {
                return Err("it is not an object".to_owned());
            }
            Ok(json_grammar(schema))
        }
        Form::Regex(pattern) => Ok(TopLevelGrammar::from_regex(pattern)),
        Form::OneOf(texts) => {
            // A JSON string is a string of Lark, too.
            let texts: Vec<String> = texts
                .iter()
                .map(|text| serde_json::Value::from(text.as_str()).to_string())
                .collect();
            Ok(TopLevelGrammar::from_lark(format!(
                "start: {}",
                texts.join(" | ")
            )))
        }
        Form::Grammar(text) => Ok(TopLevelGrammar::from_lark(text.clone())),
    }
}

/// The grammar of a schema, which is an object.
fn json_grammar(mut schema: serde_json::Value) -> TopLevelGrammar {
    let options = JsonCompileOptions {
        whitespace_pattern: Some(JSON_WHITESPACE.to_owned()),
        ..JsonCompileOptions::default()
    };
    // In the place of whatever options a client may have put there.
    options.apply_to(&mut schema);
    TopLevelGrammar::from_json_schema(schema)
}

/// The line of an error that says most, as a message may repeat it.
fn fault(error: &str) -> String {
    let told = error.lines().find_map(|line| line.strip_prefix("error: "));
    let line = told.or(error.lines().next()).unwrap_or_default();
    let printable = line.chars().filter(|character| !character.is_control());
    printable.take(limits::GRAMMAR_FAULT_CHARS_MAX).collect()
}
