//! Guessing ahead changes no answer, whatever else a request asks for, and guesses that are right
//! are found.

mod running;

use std::sync::Arc;

use farthing_backend::engine::lookup::{Lookup, Pace};
use farthing_backend::engine::{
    EngineConfig, EngineHandle, GenerateRequest, LookupUse, ModelMetrics, Speculation, start,
};
use farthing_core::limits::{ENGINE_DRAFT_TOKENS_MAX, LOOKUP_INDEX_TOKENS_PER_STEP};
use farthing_core::wire::{AnswerForm, Form, Sampling};
use running::{QWEN, SMOLLM2, answer, greedy, load, together};

const OFF: Speculation = Speculation {
    tokens_max: 0,
    lookup: LookupUse::Off,
};
const LOOKUP: Speculation = Speculation {
    tokens_max: 8,
    lookup: LookupUse::On,
};
const DRAFT: Speculation = Speculation {
    tokens_max: 5,
    lookup: LookupUse::Off,
};

/// An engine of one model.
fn engine(id: &str, kv_tokens: usize, speculation: Speculation) -> EngineHandle {
    let config = EngineConfig {
        speculation,
        ..EngineConfig::default()
    };
    start(vec![load(id, kv_tokens)], config)
}

/// An engine of one model that drafts for itself.
fn self_drafting(id: &str, kv_tokens: usize) -> EngineHandle {
    let mut model = load(id, kv_tokens);
    let (info, decoder) = (Arc::clone(&model.info), Arc::clone(&model.decoder));
    model
        .set_draft(&info, decoder)
        .expect("the same vocabulary");
    let config = EngineConfig {
        speculation: DRAFT,
        ..EngineConfig::default()
    };
    start(vec![model], config)
}

fn metrics(engine: &EngineHandle) -> ModelMetrics {
    engine.snapshot().models.swap_remove(0)
}

/// Questions that are answered in one's own words, and tasks that repeat what they are given.
fn questions() -> Vec<String> {
    let open = [
        "What is the capital of France?",
        "Write a haiku about autumn rain.",
        "Why is the sky blue?",
        "Name three colours.",
        "What is 17 times 23?",
        "Explain photosynthesis to a child.",
        "Who wrote Faust?",
        "Tell me a joke about bread.",
        "List the planets in order of their distance from the sun.",
        "What does HTTP stand for?",
    ];
    let texts = [
        "The quick brown fox jumps over the lazy dog. The dog sleeps on. The fox jumps again.",
        "fn add(a: i32, b: i32) -> i32 { a + b }\nfn sub(a: i32, b: i32) -> i32 { a - b }",
        "id,name,age\n1,Ada,36\n2,Grace,85\n3,Edsger,72\n4,Barbara,83",
        "{\"name\": \"Ada\", \"city\": \"London\", \"langs\": [\"en\", \"fr\"], \"ok\": true}",
        "Dear Sir, I am writing to you to apply for the post of a clerk. Yours, Bartleby.",
        "one two three one two three one two three one two three one two three",
        "L'été est chaud, l'hiver est froid, et l'automne est doux. L'été est chaud.",
    ];
    let tasks = [
        "Repeat this word for word:",
        "Correct the spelling of:",
        "Summarise:",
        "Shout:",
        "Continue:",
    ];
    let tasks = tasks
        .iter()
        .flat_map(|task| texts.iter().map(move |text| format!("{task}\n{text}")));
    open.iter()
        .map(|&text| text.to_owned())
        .chain(tasks)
        .collect()
}

fn all_greedy(engine: &EngineHandle, model: &str, max_tokens: usize) -> Vec<GenerateRequest> {
    let questions = questions();
    let requests = questions
        .iter()
        .map(|question| greedy(engine, model, question, max_tokens));
    requests.collect()
}

#[test]
fn greedy_answers_are_the_same_with_look_up_and_with_a_draft_model() {
    let plain = engine(SMOLLM2, 8_192, OFF);
    let requests = all_greedy(&plain, SMOLLM2, 60);
    assert!(requests.len() >= 40);
    let expected = together(&plain, requests.clone());
    assert_eq!(metrics(&plain).draft_tokens, 0);
    for (name, engine) in [
        ("look-up", engine(SMOLLM2, 8_192, LOOKUP)),
        ("draft model", self_drafting(SMOLLM2, 8_192)),
    ] {
        // A few at a time: guesses are for engines that have room.
        let few = requests.chunks(3);
        let answers: Vec<_> = few
            .flat_map(|few| together(&engine, few.to_vec()))
            .collect();
        for (index, (answer, expected)) in answers.iter().zip(&expected).enumerate() {
            assert_eq!(answer.0, expected.0, "{name} {index}");
            let tokens = (answer.1.completion_tokens, expected.1.completion_tokens);
            assert_eq!(tokens.0, tokens.1, "{name} {index}");
        }
        let ModelMetrics {
            draft_tokens,
            accepted_tokens,
            blocks_used,
            steps,
            ..
        } = metrics(&engine);
        println!("{name}: {accepted_tokens} of {draft_tokens} in {steps} steps");
        assert!(accepted_tokens > 50 && blocks_used == 0, "{name}");
    }
}

#[test]
fn a_model_that_drafts_for_itself_is_always_right() {
    let engine = self_drafting(SMOLLM2, 4_096);
    for question in &questions()[..8] {
        together(&engine, vec![greedy(&engine, SMOLLM2, question, 50)]);
    }
    let metrics = metrics(&engine);
    assert_eq!(metrics.accepted_tokens, metrics.draft_tokens, "{metrics:?}");
    assert!(metrics.draft_tokens > 50, "{metrics:?}");
    assert!(metrics.steps < metrics.generated_tokens, "{metrics:?}");
}

/// Requests for everything that can be asked for.
fn demanding(engine: &EngineHandle) -> Vec<GenerateRequest> {
    let question = "Repeat three times: the cat sat on the mat and the cat sat on the hat.";
    let request = || greedy(engine, SMOLLM2, question, 70);
    let sampled = |sampling: Sampling| GenerateRequest {
        sampling,
        ..request()
    };
    let base = request().sampling;
    let words = Form::Regex("((the|cat|sat|on|mat|hat|and) ){20,40}".to_owned());
    let form = AnswerForm {
        form: words,
        param: "structured_outputs.regex",
    };
    let grammar = engine
        .model(SMOLLM2)
        .expect("loaded")
        .grammars
        .compile(&form);
    vec![
        // Long enough for few blocks to run out.
        GenerateRequest {
            min_tokens: 70,
            ..sampled(Sampling {
                n: 4,
                temperature: 0.8,
                seed: Some(5),
                ..base.clone()
            })
        },
        sampled(Sampling {
            top_k: 5,
            top_p: 0.9,
            temperature: 1.2,
            seed: Some(6),
            ..base.clone()
        }),
        sampled(Sampling {
            repetition_penalty: 1.3,
            frequency_penalty: 0.5,
            ..base.clone()
        }),
        sampled(Sampling {
            logprobs: Some(3),
            ..base.clone()
        }),
        sampled(Sampling {
            stop: vec!["hat".to_owned(), "mat and the cat".to_owned()],
            ..base.clone()
        }),
        sampled(Sampling {
            n: 2,
            logprobs: Some(0),
            seed: Some(7),
            temperature: 1.0,
            ..base
        }),
        GenerateRequest {
            grammar: Some(grammar.expect("sound")),
            ..request()
        },
        GenerateRequest {
            confidence: farthing_backend::engine::Confidence::Report,
            ..request()
        },
        request(),
    ]
}

#[test]
fn whatever_else_is_asked_for_answers_are_the_same() {
    let plain = engine(SMOLLM2, 8_192, OFF);
    let requests = demanding(&plain);
    let expected = together(&plain, requests.clone());
    for (name, engine) in [
        ("look-up", engine(SMOLLM2, 8_192, LOOKUP)),
        ("draft model", self_drafting(SMOLLM2, 8_192)),
        // Sequences are preempted, with their guesses.
        ("look-up, few blocks", engine(SMOLLM2, 160, LOOKUP)),
        ("draft model, few blocks", self_drafting(SMOLLM2, 160)),
    ] {
        let few = requests.chunks(3);
        let answers: Vec<_> = few
            .flat_map(|few| together(&engine, few.to_vec()))
            .collect();
        for (index, (answer, expected)) in answers.iter().zip(&expected).enumerate() {
            assert_eq!(answer.0, expected.0, "{name} {index}");
        }
        let metrics = metrics(&engine);
        println!("{name}: {metrics:?}");
        let scarce = name.ends_with("few blocks");
        assert!(metrics.accepted_tokens > 0 || scarce, "{name}");
        assert_eq!(
            (metrics.preemptions > 0, metrics.blocks_used),
            (scarce, 0),
            "{name}"
        );
    }
}

/// The kernels' promise, kept with and without guesses: what else is in a batch changes nothing.
#[test]
fn sixteen_together_answer_as_each_alone() {
    for (model, max_tokens) in [(SMOLLM2, 32), (QWEN, 10)] {
        let mut expected: Option<Vec<_>> = None;
        for speculation in [OFF, LOOKUP] {
            let engine = engine(model, 4_096, speculation);
            let mut requests = all_greedy(&engine, model, max_tokens);
            requests.drain(..4);
            requests.truncate(16);
            let alone = expected.get_or_insert_with(|| {
                let alone = requests
                    .iter()
                    .map(|request| together(&engine, vec![request.clone()]));
                alone.map(|mut answers| answers.swap_remove(0).0).collect()
            });
            let batch = together(&engine, requests);
            for (index, (answer, alone)) in batch.iter().zip(alone.iter()).enumerate() {
                assert_eq!(&answer.0, alone, "{model} {index} {speculation:?}");
            }
        }
    }
}

#[test]
fn only_models_of_one_vocabulary_draft_for_each_other() {
    let mut qwen = load(QWEN, 2_048);
    let smollm2 = load(SMOLLM2, 2_048);
    let error = qwen.set_draft(&smollm2.info, Arc::clone(&smollm2.decoder));
    let error = error.expect_err("the vocabularies differ").to_string();
    assert!(
        error.contains(SMOLLM2) && error.contains("vocabular"),
        "{error}"
    );
    assert!(answer_of_nothing(&engine(SMOLLM2, 2_048, LOOKUP)));
}

/// Whether an answer of one token comes at all: there is nothing to guess.
fn answer_of_nothing(engine: &EngineHandle) -> bool {
    let request = greedy(engine, SMOLLM2, "Hi", 1);
    let answer = answer(engine.submit(request).expect("accepted"));
    answer.is_ok_and(|(_, usage)| usage.completion_tokens == 1)
}

#[test]
fn look_up_goes_on_as_the_time_before() {
    let check = |tokens: &[u32], count: usize, expected: &[u32]| {
        let proposed = Lookup::default().propose(tokens, count);
        assert_eq!(proposed, expected, "{tokens:?}");
    };
    check(&[], 4, &[]);
    check(&[1, 2, 3], 4, &[]);
    check(&[1, 2, 3, 4, 1, 2, 3], 4, &[4, 1, 2, 3]);
    check(&[1, 2, 3, 4, 1, 2, 3], 2, &[4, 1]);
    // The last time counts.
    check(&[1, 2, 3, 4, 1, 2, 3, 5, 1, 2, 3], 1, &[5]);
    // What repeats itself goes on repeating itself.
    check(&[7, 7, 7, 7], 3, &[7, 7, 7]);
    check(&[1, 2, 1, 2, 1], 3, &[2, 1, 2]);
    check(&[1, 2, 3, 1, 2, 4], 3, &[]);
}

/// Token by token and all at once, a long sequence is looked up alike, and a very long one is taken
/// in over several steps.
#[test]
fn look_up_takes_in_a_bounded_number_of_tokens() {
    let tokens: Vec<u32> = (0..9_000).chain(8_000..8_003).collect();
    let mut lookup = Lookup::default();
    let mut steps = 0;
    while lookup.propose(&tokens, 1).is_empty() {
        steps += 1;
    }
    assert_eq!(lookup.propose(&tokens, 3), [8_003, 8_004, 8_005]);
    assert_eq!(steps, 8_003 / LOOKUP_INDEX_TOKENS_PER_STEP);
    let mut stepwise = Lookup::default();
    for end in 0..tokens.len() {
        assert!(stepwise.propose(&tokens[..end], 1).is_empty());
    }
    assert_eq!(stepwise.propose(&tokens, 3), [8_003, 8_004, 8_005]);
}

#[test]
fn guesses_grow_while_they_are_right_and_rest_when_they_are_not() {
    let mut pace = Pace::new(100);
    let mut lengths = Vec::new();
    for _ in 0..4 {
        lengths.push(pace.tokens());
        pace.verified(pace.tokens() + 1, pace.tokens(), pace.tokens());
    }
    assert_eq!(lengths, [3, 6, 12, ENGINE_DRAFT_TOKENS_MAX]);
    pace.verified(10, 16, 9);
    assert_eq!(pace.tokens(), 10);
    // Always wrong: what is guessed is a small share of what is generated.
    let mut pace = Pace::new(8);
    let (mut generated, mut guessed) = (0, 0);
    while generated < 2_000 {
        guessed += pace.tokens();
        generated += 1;
        let tokens = pace.tokens();
        pace.verified(1, tokens, 0);
    }
    assert!(guessed * 80 <= generated, "{guessed} of {generated}");
    let mut none = Pace::new(0);
    assert_eq!(none.tokens(), 0);
    none.verified(1, 0, 0);
    assert_eq!(none.tokens(), 0);
}
