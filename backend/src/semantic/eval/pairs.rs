//! Pairs: one request is in the cache, the other asks.

use std::io::{self, Write};
use std::sync::Arc;

use super::report::{Metric, Share};
use super::rows::{self, Pair};
use super::verify::ModelVerifier;
use super::{BASELINE_COSINE, embedder, questions, report};
use crate::cli::EvalCachePairsArgs;
use crate::embed::Embedder;
use crate::error::BackendError;
use crate::picture::{self, Curve};
use crate::semantic::bound::MaxWrong;
use crate::semantic::conversation::Asked;
use crate::semantic::freshness::Freshness;
use crate::semantic::lookup::{Judged, Question};
use crate::semantic::scope::Scope;
use crate::semantic::score::Level;
use crate::semantic::store::{Candidate, Record};
use crate::semantic::verifier::{PROMOTED, PROVEN, Verifier, is_grey};

/// What became of one pair.
#[derive(Debug, Clone, Copy)]
struct Outcome {
    same_answer: bool,
    cosine: f32,
    /// None if no answer could be given at all.
    level: Option<Level>,
    /// How sure the verifier was that both ask the same, if it was asked.
    verified: Option<f32>,
}

/// `farthing eval cache-pairs`
pub fn eval_pairs(args: &EvalCachePairsArgs) -> Result<(), BackendError> {
    let max_wrong = super::max_wrong(args.max_wrong)?;
    let pairs = rows::pairs(&args.file)?;
    let embedder = embedder(args.embedding_model.as_deref())?;
    let mut verifier = match &args.verifier {
        Some(path) => Some(ModelVerifier::load(path)?),
        None => None,
    };
    let verifier = verifier
        .as_mut()
        .map(|verifier| verifier as &mut dyn Verifier);
    let outcomes = outcomes(&embedder, &pairs, verifier, max_wrong)?;
    let served = |outcome: &Outcome| outcome.is_served(max_wrong);
    let baseline = |outcome: &Outcome| outcome.cosine >= BASELINE_COSINE;
    let metrics = [
        ("repeats_served_share", true),
        ("traps_served_share", false),
    ];
    let metrics = metrics.map(|(name, same_answer)| Metric {
        name,
        share: share(&outcomes, same_answer, served),
        baseline: share(&outcomes, same_answer, baseline),
    });
    if let Some(path) = &args.svg {
        picture::write(path, &curves(&outcomes, max_wrong))?;
    }
    let mut out = io::stdout().lock();
    let said = if args.json {
        report::json(&mut out, "cache-pairs", &metrics)
    } else {
        let asked = outcomes
            .iter()
            .filter(|outcome| outcome.verified.is_some())
            .count();
        let said = writeln!(
            out,
            "{} pairs, {asked} asked of the verifier",
            outcomes.len()
        );
        said.and_then(|()| report::table(&mut out, &metrics))
    };
    said.map_err(report::cannot_print)
}

impl Outcome {
    fn is_served(&self, max_wrong: MaxWrong) -> bool {
        let verified = self.verified.is_some_and(|sure| sure >= PROVEN);
        let promoted = verified.then_some(Level::of_odds(PROMOTED));
        self.level.max(promoted) >= Some(Level::calibrated(max_wrong))
    }
}

fn share(outcomes: &[Outcome], same: bool, served: impl Fn(&Outcome) -> bool) -> Share {
    let of: Vec<&Outcome> = outcomes
        .iter()
        .filter(|of| of.same_answer == same)
        .collect();
    Share {
        hits: of.iter().filter(|outcome| served(outcome)).count() as u64,
        sample: of.len() as u64,
    }
}

fn outcomes(
    embedder: &Embedder,
    pairs: &[Pair],
    mut verifier: Option<&mut dyn Verifier>,
    max_wrong: MaxWrong,
) -> Result<Vec<Outcome>, BackendError> {
    let sides = |of: fn(&Pair) -> &[farthing_core::wire::Message]| -> Vec<Option<Asked>> {
        pairs.iter().map(|pair| Asked::of(of(pair))).collect()
    };
    let (a, b) = (sides(|pair| &pair.a), sides(|pair| &pair.b));
    let fit: Vec<usize> = (0..pairs.len())
        .filter(|at| a[*at].is_some() && b[*at].is_some())
        .collect();
    let take = |side: &[Option<Asked>]| fit.iter().filter_map(|at| side[*at].clone()).collect();
    let (a, b): (Vec<Asked>, Vec<Asked>) = (take(&a), take(&b));
    let (a, b) = (questions(embedder, a)?, questions(embedder, b)?);
    let is_known = |word: &str| embedder.is_known(word);
    let mut outcomes: Vec<Outcome> = pairs.iter().map(Outcome::unanswered).collect();
    for ((at, cached), asking) in fit.iter().zip(a).zip(b) {
        let pair = &pairs[*at];
        let candidate = candidate(cached, &asking);
        let cosine = candidate.cosine;
        let lasts = [&candidate.record.asked, &asking.asked]
            .iter()
            .all(|asked| Freshness::of(&asked.question) != Freshness::Now);
        let alike = told(&pair.a) == told(&pair.b) && lasts;
        let judged = alike
            .then(|| asking.judge(&[candidate], &is_known))
            .flatten();
        let verified = match (&judged, verifier.as_deref_mut()) {
            (Some(judged), Some(verifier))
                if is_grey(judged.level, Level::calibrated(max_wrong)) =>
            {
                verifier.sure(&judged.record.asked, &asking.asked)?
            }
            _ => None,
        };
        outcomes[*at] = Outcome {
            same_answer: pair.same_answer,
            cosine,
            level: judged.map(|judged: Judged| judged.level),
            verified,
        };
    }
    Ok(outcomes)
}

impl Outcome {
    fn unanswered(pair: &Pair) -> Outcome {
        Outcome {
            same_answer: pair.same_answer,
            cosine: 0.0,
            level: None,
            verified: None,
        }
    }
}

/// What the model is told beside the conversation: part of the scope.
fn told(messages: &[farthing_core::wire::Message]) -> Vec<&str> {
    use farthing_core::wire::Role;
    let system = messages
        .iter()
        .filter(|message| message.role == Role::System);
    system.map(|message| message.content.as_str()).collect()
}

fn candidate(cached: Question, asking: &Question) -> Candidate {
    Candidate {
        cosine: cached.vector.cosine(&asking.vector),
        record: Arc::new(Record {
            scope: Scope([0; 32]),
            asked: cached.asked,
            vector: cached.vector,
            context_vector: cached.context_vector,
            answer_id: 0,
            created_unix_s: 0,
            expires_unix_s: u64::MAX,
            cost_tokens: 0,
            answer: Vec::new(),
        }),
    }
}

/// Traps that are served, against repeats that are, for every threshold.
fn curves(outcomes: &[Outcome], max_wrong: MaxWrong) -> picture::Picture {
    let point = |served: &dyn Fn(&Outcome) -> bool| {
        let at = |same| share(outcomes, same, served).value();
        (at(true), at(false))
    };
    let ours = Level::all().map(|level| point(&|outcome| outcome.level >= Some(level)));
    let cosines = (50..=100).map(|percent| percent as f32 / 100.0);
    let baseline = cosines.map(|cosine| point(&|outcome| outcome.cosine >= cosine));
    picture::Picture {
        title: "Answers from the cache that are right and that are not",
        x: "repeats served",
        y: "traps served",
        curves: vec![
            Curve {
                name: "verified",
                points: ours.collect(),
            },
            Curve {
                name: "cosine alone",
                points: baseline.collect(),
            },
        ],
        marks: vec![
            ("verified", point(&|outcome| outcome.is_served(max_wrong))),
            (
                "cosine 0.90",
                point(&|outcome| outcome.cosine >= BASELINE_COSINE),
            ),
        ],
    }
}
