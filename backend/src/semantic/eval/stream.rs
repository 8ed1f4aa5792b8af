//! A stream: every request asks the cache first, and what it does not know is answered by the
//! model and kept. Those of one label have the same answer, so that a hit on another label is
//! wrong.

use std::collections::HashMap;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::sync::Arc;

use farthing_core::wire::{Message, Role};

use super::report::{Metric, Share};
use super::rows::{self, Labelled};
use super::{BASELINE_COSINE, embedder, questions, report};
use crate::cli::EvalCacheStreamArgs;
use crate::embed::Embedder;
use crate::error::BackendError;
use crate::picture;
use crate::semantic::bound::{MaxWrong, RouteBound, Sample, Verdict};
use crate::semantic::calibration::CacheCalibration;
use crate::semantic::conversation::Asked;
use crate::semantic::freshness::Freshness;
use crate::semantic::index::VectorIndex;
use crate::semantic::lookup::{Judged, NEIGHBOURS, Question};
use crate::semantic::scope::Scope;
use crate::semantic::signature::Signature;
use crate::semantic::store::{Candidate, Record};

/// Requests of a window, in each of which wrong answers are counted.
const WINDOW: usize = 500;

/// Bounds and cosines that the picture shows.
const BOUNDS: [f64; 5] = [0.002, 0.005, 0.01, 0.02, 0.05];
const COSINES: [f32; 6] = [0.75, 0.80, 0.85, 0.90, 0.95, 0.98];

/// A request as it is compared, and the number of its label.
pub(super) struct Item {
    record: Option<Arc<Record>>,
    question: Option<Question>,
    /// Of the question, which is compared with very many others.
    signature: Option<Signature>,
    label: u64,
    lasts: bool,
}

/// What a cache did.
#[derive(Debug, Clone, Default)]
struct Tally {
    requests: u64,
    hits: u64,
    wrong: u64,
    /// Hits that the model was asked for as well.
    resampled: u64,
    worst_window: u64,
    in_window: u64,
    /// Wrong answers that a window may have.
    allowed: u64,
    windows: u64,
    /// Windows in which more was wrong than is allowed on the whole.
    windows_over: u64,
}

/// `farthing eval cache-stream`
pub fn eval_stream(args: &EvalCacheStreamArgs) -> Result<(), BackendError> {
    let max_wrong = super::max_wrong(args.max_wrong)?;
    let calibration = args.calibration.as_deref().map(CacheCalibration::load);
    let calibration = calibration.transpose()?;
    let rows = rows::stream(&args.file)?;
    let embedder = embedder(args.embedding_model.as_deref())?;
    let items = items(&embedder, &rows)?;
    let orders = orders(items.len(), args.shuffles, args.seed);
    let run = |max_wrong: MaxWrong, order: &[usize]| {
        let begun = match &calibration {
            None => RouteBound::new(max_wrong),
            Some(learned) => RouteBound::begun_at(max_wrong, learned.threshold(max_wrong)),
        };
        verified(&items, order, max_wrong, begun)
    };
    let ours = each(&orders, &|order| run(max_wrong, order));
    let theirs = each(&orders, &|order| {
        by_cosine(&items, order, BASELINE_COSINE, max_wrong)
    });
    if let (Some(path), Some(order)) = (&args.svg, orders.first()) {
        let bounds = BOUNDS.map(|share| MaxWrong::new(share).unwrap_or(max_wrong));
        let ours = bounds.map(|bound| run(bound, order).point());
        let theirs = COSINES.map(|cosine| by_cosine(&items, order, cosine, max_wrong).point());
        picture::write(path, &picture_of(&ours, &theirs))?;
    }
    let metrics = metrics(&ours, &theirs, max_wrong);
    let mut out = io::stdout().lock();
    let said = if args.json {
        report::json(&mut out, "cache-stream", &metrics)
    } else {
        let runs = orders.len();
        let said = writeln!(
            out,
            "{} requests, {runs} times, at most {} wrong",
            items.len(),
            args.max_wrong
        );
        said.and_then(|()| report::table(&mut out, &metrics))
    };
    said.map_err(report::cannot_print)
}

/// What becomes of each order, on all cores.
fn each(orders: &[Vec<usize>], run: &(dyn Fn(&[usize]) -> Tally + Sync)) -> Vec<Tally> {
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let share = orders.len().div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        let runs: Vec<_> = orders
            .chunks(share)
            .map(|orders| {
                let run = move || orders.iter().map(|order| run(order)).collect::<Vec<_>>();
                scope.spawn(run)
            })
            .collect();
        let join = |run: std::thread::ScopedJoinHandle<'_, Vec<Tally>>| match run.join() {
            Ok(tallies) => tallies,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        runs.into_iter().flat_map(join).collect()
    })
}

pub(super) fn items(embedder: &Embedder, rows: &[Labelled]) -> Result<Vec<Item>, BackendError> {
    let mut labels: HashMap<&str, u64> = HashMap::new();
    let mut items = Vec::with_capacity(rows.len());
    let mut asked = Vec::new();
    for row in rows {
        let next = labels.len() as u64;
        let label = *labels.entry(&row.label).or_insert(next);
        let message = Message {
            role: Role::User,
            content: row.text.clone(),
            name: None,
            tool_calls: None,
            tool_call_id: None,
        };
        let question = Asked::of(&[message]);
        items.push((label, question.is_some()));
        asked.extend(question);
    }
    let mut questions = questions(embedder, asked)?.into_iter();
    let is_known = |word: &str| embedder.is_known(word);
    let item = |(label, is_fit): (u64, bool)| {
        let question = if is_fit { questions.next() } else { None };
        Item {
            record: question
                .as_ref()
                .map(|question| Arc::new(record(question, label))),
            signature: (question.as_ref())
                .map(|question| Signature::read(&question.asked.question, &is_known)),
            lasts: question
                .as_ref()
                .is_some_and(|question| Freshness::of(&question.asked.question) != Freshness::Now),
            question,
            label,
        }
    };
    Ok(items.into_iter().map(item).collect())
}

fn record(question: &Question, label: u64) -> Record {
    Record {
        scope: Scope([0; 32]),
        asked: question.asked.clone(),
        vector: question.vector.clone(),
        context_vector: None,
        answer_id: label,
        created_unix_s: 0,
        expires_unix_s: u64::MAX,
        cost_tokens: 0,
        answer: Vec::new(),
    }
}

/// The order of the file, or so many random ones.
fn orders(items: usize, shuffles: u32, seed: u64) -> Vec<Vec<usize>> {
    let order: Vec<usize> = (0..items).collect();
    if shuffles == 0 {
        return vec![order];
    }
    let shuffled = |shuffle: u32| {
        let mut state = seed.wrapping_add(u64::from(shuffle));
        let mut order = order.clone();
        for last in (1..order.len()).rev() {
            order.swap(last, (next(&mut state) % (last as u64 + 1)) as usize);
        }
        order
    };
    (0..shuffles).map(shuffled).collect()
}

/// Our cache: look up, serve or ask the model, sample, learn.
fn verified(items: &[Item], order: &[usize], max_wrong: MaxWrong, mut bound: RouteBound) -> Tally {
    let mut cache = Cache::default();
    let mut state = 1;
    let mut tally = Tally::of(max_wrong);
    for (at, item) in order.iter().map(|at| (*at, &items[*at])) {
        if !item.is_fit() {
            tally.miss();
            continue;
        }
        let judged = cache.judge(items, item);
        bound.looked_up(judged.as_ref().map(|judged| judged.level));
        let verdict = |label| item.verdict(label);
        let served = judged.as_ref().filter(|judged| bound.serves(judged.level));
        let resampled = next(&mut state) % 1_000 < u64::from(bound.resampled_per_mille());
        if let Some(judged) = &judged
            && (served.is_none() || resampled)
        {
            let verdict = verdict(judged.record.answer_id);
            tally.resampled += u64::from(served.is_some());
            bound.learn(Sample {
                level: judged.level,
                verdict,
            });
        }
        match served.map(|judged| verdict(judged.record.answer_id)) {
            Some(verdict) => {
                tally.hit(verdict);
                if verdict == Verdict::Wrong && resampled {
                    cache.push(at, item);
                }
            }
            None => {
                tally.miss();
                cache.push(at, item);
            }
        }
    }
    tally
}

/// The cache that ours is compared with.
fn by_cosine(items: &[Item], order: &[usize], threshold: f32, max_wrong: MaxWrong) -> Tally {
    let mut cache = Cache::default();
    let mut tally = Tally::of(max_wrong);
    for (at, item) in order.iter().map(|at| (*at, &items[*at])) {
        let near = item.question.as_ref().map(|question| cache.near(question));
        let nearest = near.iter().flatten().map(|(_, candidate)| candidate).next();
        match nearest.filter(|candidate| candidate.cosine >= threshold) {
            Some(found) if found.record.answer_id == item.label => tally.hit(Verdict::Right),
            Some(_) => tally.hit(Verdict::Wrong),
            None => {
                tally.miss();
                cache.push(at, item);
            }
        }
    }
    tally
}

impl Item {
    /// Whether the cache has to do with it at all.
    pub(super) fn is_fit(&self) -> bool {
        self.question.is_some() && self.signature.is_some() && self.lasts
    }

    /// What the answer of this label is for it.
    pub(super) fn verdict(&self, label: u64) -> Verdict {
        match label == self.label {
            true => Verdict::Right,
            false => Verdict::Wrong,
        }
    }
}

/// What was answered by the model so far.
#[derive(Default)]
pub(super) struct Cache {
    index: Option<VectorIndex>,
    /// Each with the place of its item.
    records: Vec<(usize, Arc<Record>)>,
}

impl Cache {
    /// What is near, with the places of its items.
    fn near(&self, question: &Question) -> Vec<(usize, Candidate)> {
        let near = self
            .index
            .as_ref()
            .map(|index| index.nearest(&question.vector, NEIGHBOURS));
        let candidate = |neighbour: crate::semantic::index::Neighbour| {
            let (at, record) = &self.records[neighbour.slot];
            let candidate = Candidate {
                cosine: neighbour.cosine,
                record: Arc::clone(record),
            };
            (*at, candidate)
        };
        near.into_iter().flatten().map(candidate).collect()
    }

    /// The likeliest answer to one of the items.
    pub(super) fn judge(&self, items: &[Item], item: &Item) -> Option<Judged> {
        let (question, signature) = (item.question.as_ref()?, item.signature.as_ref()?);
        let near = self.near(question);
        let known = near.iter().filter_map(|(at, candidate)| {
            let signature = items[*at].signature.as_ref()?;
            Some((candidate, signature))
        });
        // Nothing was said before these questions, so that no word of it is asked for.
        question.judge_read(signature, known, &|_| true)
    }

    pub(super) fn push(&mut self, at: usize, item: &Item) {
        let Some(record) = &item.record else {
            return;
        };
        let width = record.vector.numbers.len();
        let index = self.index.get_or_insert_with(|| VectorIndex::new(width));
        if index.push(&record.vector).is_some() {
            self.records.push((at, Arc::clone(record)));
        }
    }
}

impl Tally {
    fn of(max_wrong: MaxWrong) -> Tally {
        Tally {
            allowed: (max_wrong.share() * WINDOW as f64) as u64,
            ..Tally::default()
        }
    }

    fn miss(&mut self) {
        self.request(0);
    }

    fn hit(&mut self, verdict: Verdict) {
        let wrong = u64::from(verdict == Verdict::Wrong);
        self.hits += 1;
        self.wrong += wrong;
        self.request(wrong);
    }

    fn request(&mut self, wrong: u64) {
        if (self.requests as usize).is_multiple_of(WINDOW) {
            self.in_window = 0;
            self.windows += 1;
        }
        self.requests += 1;
        self.in_window += wrong;
        self.windows_over += u64::from(wrong > 0 && self.in_window == self.allowed + 1);
        self.worst_window = self.worst_window.max(self.in_window);
    }

    /// Requests that the model answers, and answers that are wrong, as shares of all requests.
    fn point(&self) -> (f64, f64) {
        let asked = self.requests - self.hits + self.resampled;
        let share = |count: u64| count as f64 / self.requests.max(1) as f64;
        (share(asked), share(self.wrong))
    }
}

fn metrics(ours: &[Tally], theirs: &[Tally], max_wrong: MaxWrong) -> Vec<Metric> {
    let sum = |tallies: &[Tally], of: fn(&Tally) -> u64| tallies.iter().map(of).sum::<u64>();
    let share = |tallies: &[Tally], of, sample| Share {
        hits: sum(tallies, of),
        sample: sum(tallies, sample),
    };
    let broken = |tallies: &[Tally]| Share {
        hits: tallies
            .iter()
            .filter(|tally| tally.wrong as f64 > max_wrong.share() * tally.requests as f64)
            .count() as u64,
        sample: tallies.len() as u64,
    };
    let worst = |tallies: &[Tally]| Share {
        hits: tallies
            .iter()
            .map(|tally| tally.worst_window)
            .max()
            .unwrap_or(0),
        sample: WINDOW as u64,
    };
    let metric = |name, of: fn(&Tally) -> u64, sample: fn(&Tally) -> u64| Metric {
        name,
        share: share(ours, of, sample),
        baseline: share(theirs, of, sample),
    };
    vec![
        metric("hit_share", |tally| tally.hits, |tally| tally.requests),
        metric("wrong_share", |tally| tally.wrong, |tally| tally.requests),
        metric(
            "wrong_of_hits_share",
            |tally| tally.wrong,
            |tally| tally.hits,
        ),
        metric(
            "resampled_share",
            |tally| tally.resampled,
            |tally| tally.requests,
        ),
        Metric {
            name: "worst_window_wrong_share",
            share: worst(ours),
            baseline: worst(theirs),
        },
        metric(
            "windows_over_share",
            |tally| tally.windows_over,
            |tally| tally.windows,
        ),
        Metric {
            name: "bound_broken_share",
            share: broken(ours),
            baseline: broken(theirs),
        },
    ]
}

fn picture_of(ours: &[(f64, f64)], theirs: &[(f64, f64)]) -> picture::Picture {
    let curve = |name, points: &[(f64, f64)]| picture::Curve {
        name,
        points: points.to_vec(),
    };
    picture::Picture {
        title: "Requests that the model answers, and wrong answers",
        x: "requests to the model",
        y: "wrong",
        curves: vec![curve("verified", ours), curve("cosine alone", theirs)],
        marks: vec![
            ("at most 1 %", ours.get(2).copied().unwrap_or_default()),
            ("cosine 0.90", theirs.get(3).copied().unwrap_or_default()),
        ],
    }
}

/// SplitMix64 (Steele, Lea, Flood, 2014).
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
