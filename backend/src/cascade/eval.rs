//! `farthing calibrate cascade` and `farthing eval cascade`: what a cascade costs and how often it
//! is right, on rows that it was not learned from, beside its dearest tier alone, its cheapest
//! alone, and a toss between the two.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use farthing_core::money::Nanousd;
use farthing_core::price::{Price, Rates};

use super::calibration::{CascadeCalibration, Known};
use super::choose::{Aim, Chosen, Worth, choose, scaled};
use super::collect::collect;
use super::fit::{self, ece, fit};
use super::judge::{self, Judged, ModelJudge};
use super::outcomes::{self, Labels, Row};
use super::plan::{Outcome, Plan, run_all};
use super::policy::Money;
use super::report;
use crate::cli::{CalibrateCascadeArgs, EvalCascadeArgs, TierArgs};
use crate::engine::random::SplitMix64;
use crate::error::BackendError;
use crate::model::ModelFile;

/// The models that `cargo xtask fetch --large` brings.
const TIERS: [(&str, &str); 3] = [
    (
        "smollm2-135m-instruct",
        ".farthing/models/smollm2-135m-instruct.gguf",
    ),
    (
        "qwen2.5-coder-0.5b-instruct",
        ".farthing/models/qwen2.5-coder-0.5b-instruct.gguf",
    ),
    (
        "qwen2.5-coder-1.5b-instruct",
        ".farthing/large-models/qwen2.5-coder-1.5b-instruct.gguf",
    ),
];

/// Where no price is given, the dearest tier's million tokens cost so many nano-dollars, ten cents,
/// and each other one's in proportion to its weights, all of which are multiplied for each token.
const DEAREST_NANOUSD_PER_MTOK: f64 = 100_000_000.0;
/// The points of the curve: what a right answer is taken to be worth, in answers of the dearest
/// tier.
const CURVE: [f64; 14] = [
    0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 10.0, 20.0, 40.0, 160.0, 640.0,
];

/// What was measured on rows that were not learned from.
pub struct Measurement {
    /// Names of the tiers.
    pub models: Vec<String>,
    pub learned_rows: usize,
    pub rows: usize,
    pub chosen: Chosen,
    pub cascade: Summary,
    /// Each tier alone.
    pub alone: Vec<Summary>,
    pub ece: f64,
    /// Cost share and accuracy for other worths of a right answer.
    pub curve: Vec<(f64, f64)>,
    /// The least cost share of that curve at which it is as often right as the dearest tier.
    pub frugal_cost_share: Option<f64>,
    /// AutoMix's lift of the incremental benefit per cost over a toss between the cheapest and the
    /// dearest tier.
    pub ibc_lift: Option<f64>,
    /// Who said what is right, where labels did not.
    pub judge: Option<Judged>,
}

/// One way to answer all rows.
#[derive(Debug, Clone, Copy)]
pub struct Summary {
    pub right: u64,
    pub rows: u64,
    /// In answers of the dearest tier alone.
    pub cost_share: f64,
}

impl Summary {
    pub fn accuracy(&self) -> f64 {
        self.right as f64 / self.rows.max(1) as f64
    }

    fn of(outcomes: &[Outcome], dearest_nanousd: f64) -> Summary {
        let cost: f64 = outcomes.iter().map(|outcome| outcome.cost_nanousd).sum();
        Summary {
            right: outcomes.iter().filter(|outcome| outcome.is_right).count() as u64,
            rows: outcomes.len() as u64,
            cost_share: cost / dearest_nanousd.max(f64::MIN_POSITIVE),
        }
    }
}

/// `farthing calibrate cascade`
///
/// # Errors
/// The rows cannot be used, a model cannot be run, or the file cannot be written.
pub fn calibrate_cascade(args: &CalibrateCascadeArgs) -> Result<(), BackendError> {
    let (rows, judged) = outcomes_of(&args.tiers)?;
    let mut calibration = fit(&rows)?;
    calibration.measured.judge = judged;
    let money = money(&args.tiers, &rows, &calibration)?;
    let chosen = choose(&calibration, &money.prices, aim(&args.tiers, &money));
    fs::write(&args.out, calibration.encode()).map_err(|source| BackendError::Io {
        what: args.out.display().to_string(),
        source,
    })?;
    let mut out = io::stdout().lock();
    let said = match args.json {
        true => report::calibration_json(&mut out, &calibration, &chosen),
        false => report::calibration(&mut out, &calibration, &chosen),
    };
    said.map_err(report::cannot_print)
}

/// `farthing eval cascade`
///
/// # Errors
/// The rows cannot be used, a model cannot be run, or a file cannot be written.
pub fn eval_cascade(args: &EvalCascadeArgs) -> Result<(), BackendError> {
    let (mut rows, judged) = outcomes_of(&args.tiers)?;
    shuffle(&mut rows, args.seed);
    let half = rows.len() / 2;
    let (learned, held) = rows.split_at(half);
    let calibration = fit(learned)?;
    let money = money(&args.tiers, &rows, &calibration)?;
    let chosen = choose(&calibration, &money.prices, aim(&args.tiers, &money));
    let known = fit::judge(&calibration, held);
    let measured = Measurement {
        judge: judged,
        ..measure(&calibration, &known, &money, chosen)
    };
    if let Some(path) = &args.svg {
        report::picture(path, &measured)?;
    }
    let mut out = io::stdout().lock();
    let said = match args.json {
        true => report::json(&mut out, &measured),
        false => report::table(&mut out, &measured),
    };
    said.map_err(report::cannot_print)
}

fn measure(
    calibration: &CascadeCalibration,
    known: &[Known],
    money: &Money,
    chosen: Chosen,
) -> Measurement {
    let last = calibration.tiers.len() - 1;
    let outcomes = |plan: &Plan, money: &Money| run_all(calibration, known, money, plan);
    let dearest = outcomes(&Plan::only(last), money);
    let dearest_nanousd: f64 = dearest.iter().map(|outcome| outcome.cost_nanousd).sum();
    let alone: Vec<Summary> = (0..=last)
        .map(|tier| Summary::of(&outcomes(&Plan::only(tier), money), dearest_nanousd))
        .collect();
    let own = Money {
        prices: money.prices.clone(),
        worth: chosen.worth,
    };
    let cascade = Summary::of(&outcomes(&chosen.plan, &own), dearest_nanousd);
    let curve: Vec<Summary> = CURVE
        .iter()
        .map(|factor| {
            let money = scaled(money, *factor);
            let aim = Aim {
                worth: Worth::Given(money.worth),
                max_loss: None,
            };
            let plan = choose(calibration, &money.prices, aim).plan;
            Summary::of(&outcomes(&plan, &money), dearest_nanousd)
        })
        .collect();
    let reached = curve
        .iter()
        .filter(|point| point.right >= alone[last].right);
    let judged: Vec<(f64, bool)> = known
        .iter()
        .flat_map(|row| {
            let tiers = row.done.iter().zip(&row.right);
            tiers.map(|(done, right)| (f64::from(done[0]), !right))
        })
        .collect();
    Measurement {
        models: calibration
            .tiers
            .iter()
            .map(|tier| tier.model.clone())
            .collect(),
        learned_rows: calibration.rows.len(),
        rows: known.len(),
        frugal_cost_share: reached.map(|point| point.cost_share).min_by(f64::total_cmp),
        ibc_lift: ibc_lift(&cascade, &alone[0], &alone[last]),
        curve: curve
            .iter()
            .map(|point| (point.cost_share, point.accuracy()))
            .collect(),
        ece: ece(&judged),
        judge: None,
        chosen,
        cascade,
        alone,
    }
}

/// `(IBC_mix - IBC_base) / IBC_base` with `IBC = (P - P_small) / (C - C_small)` (Madaan et al.,
/// "AutoMix", 2023); none where the dearest tier is no better.
fn ibc_lift(mix: &Summary, small: &Summary, dearest: &Summary) -> Option<f64> {
    let ibc = |of: &Summary| {
        let cost = of.cost_share - small.cost_share;
        (cost > 0.0).then(|| (of.accuracy() - small.accuracy()) / cost)
    };
    let base = ibc(dearest).filter(|base| *base > 0.0)?;
    Some((ibc(mix)? - base) / base)
}

/// The rows with the answers of all tiers, and who judged them, if no label did.
fn outcomes_of(args: &TierArgs) -> Result<(Vec<Row>, Option<Judged>), BackendError> {
    let mut rows = answered(args)?;
    let Some(path) = &args.judge else {
        return Ok((rows, None));
    };
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let mut model = ModelJudge::load(&name, path)?;
    let mut say = |done, count| progress(&format!("the judge {name}"), count)(done);
    let judged = judge::judge(&mut rows, (&name, &mut model), &mut say)?;
    Ok((rows, Some(judged)))
}

/// The rows with the answers of all tiers: read, or asked for.
fn answered(args: &TierArgs) -> Result<Vec<Row>, BackendError> {
    let labels = match args.judge {
        Some(_) => Labels::Judged,
        None => Labels::Needed,
    };
    if let Some(path) = args.outcomes.as_ref().filter(|path| path.exists()) {
        return outcomes::read(path, labels);
    }
    let mut rows = outcomes::read(&args.file, labels)?;
    if rows.iter().any(|row| !row.tiers.is_empty()) {
        return Ok(rows);
    }
    let count = rows.len();
    for (name, path) in tiers(args) {
        let mut say = progress(&name, count);
        collect(&mut rows, (&name, &path), args.max_tokens.get(), &mut say)?;
    }
    if let Some(path) = &args.outcomes {
        outcomes::write(path, &rows)?;
    }
    Ok(rows)
}

fn tiers(args: &TierArgs) -> Vec<(String, PathBuf)> {
    match args.tiers.is_empty() {
        true => TIERS
            .iter()
            .map(|(name, path)| ((*name).to_owned(), PathBuf::from(path)))
            .collect(),
        false => args.tiers.clone(),
    }
}

/// What the cascade is for, where `money` has what an answer of the dearest tier costs.
fn aim(args: &TierArgs, money: &Money) -> Aim {
    let given = |value| Worth::Given(scaled(money, value).worth);
    Aim {
        worth: args.value.map_or(Worth::AsOftenRight, given),
        max_loss: args.max_loss,
    }
}

/// What the tiers cost; a right answer is worth one of the dearest tier's answers.
fn money(
    args: &TierArgs,
    rows: &[Row],
    calibration: &CascadeCalibration,
) -> Result<Money, BackendError> {
    let names: Vec<&str> = calibration
        .tiers
        .iter()
        .map(|tier| tier.model.as_str())
        .collect();
    let flat = |input: f64, output: f64| {
        let rate = |rate: f64| (rate * 1e9).round().min(i64::MAX as f64) as u64;
        Price::flat(Rates::plain(rate(input), rate(output)))
    };
    let prices: Vec<Price> = match args.prices.is_empty() {
        false if args.prices.len() == names.len() => args
            .prices
            .iter()
            .map(|(input, output)| flat(*input, *output))
            .collect(),
        false => {
            let (given, needed) = (args.prices.len(), names.len());
            let problem = format!("{given} prices are given for {needed} tiers");
            return Err(BackendError::Cascade(problem));
        }
        true => {
            let sizes = weights(args, &names)?;
            let most = sizes.iter().copied().fold(1.0, f64::max);
            let dollars = |weights: &f64| DEAREST_NANOUSD_PER_MTOK * weights / most / 1e9;
            sizes
                .iter()
                .map(|weights| flat(dollars(weights), dollars(weights)))
                .collect()
        }
    };
    let mut money = Money {
        prices,
        worth: Nanousd::ZERO,
    };
    let last = names.len() - 1;
    let costs = rows
        .iter()
        .filter_map(|row| row.tiers.get(last))
        .map(|answer| {
            money
                .cost(last, answer.prompt_tokens, answer.completion_tokens)
                .0 as f64
        });
    let mean = costs.sum::<f64>() / rows.len().max(1) as f64;
    money.worth = Nanousd(mean.min(i64::MAX as f64) as u64);
    Ok(money)
}

/// How many weights each tier has.
fn weights(args: &TierArgs, names: &[&str]) -> Result<Vec<f64>, BackendError> {
    let files = tiers(args);
    let count = |name: &&str| {
        let file = files.iter().find(|(known, _)| known == name);
        let file = file.filter(|(_, path)| path.exists());
        let Some((_, path)) = file else {
            let problem = format!("what {name} costs is not known: give --price for each tier");
            return Err(BackendError::Cascade(problem));
        };
        let weights = ModelFile::open(path).and_then(|file| file.weights());
        weights.map_err(|error| error.in_file(path))
    };
    names.iter().map(count).collect()
}

fn shuffle(rows: &mut [Row], seed: u64) {
    let mut random = SplitMix64::new(seed);
    for at in (1..rows.len()).rev() {
        rows.swap(at, (random.next_u64() % (at as u64 + 1)) as usize);
    }
}

fn progress(name: &str, count: usize) -> impl FnMut(usize) {
    let shows = io::stderr().is_terminal();
    move |done| {
        if shows || done == count {
            let end = if done == count { "\n" } else { "" };
            let _ = write!(io::stderr(), "\r{name}: {done} of {count}{end}");
        }
    }
}
