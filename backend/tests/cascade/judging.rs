//! A judge in the place of labels: it is believed as far as the labels that there are allow.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use farthing_backend::cascade::calibration::CascadeCalibration;
use farthing_backend::cascade::judge::{Judge, Judged, Question, judge};
use farthing_backend::cascade::outcomes::{self, Labels, Row};
use farthing_backend::error::BackendError;
use farthing_backend::labelled::check::Check;
use serde_json::{Value, json};

use super::commands::said;
use super::rows::{Behaviour, rows};

const MODELS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../.farthing/models");

const TIERS: [Behaviour; 2] = [
    Behaviour {
        model: "small",
        right: 0.6,
        tells: 1.0,
        completion_tokens: 20,
    },
    Behaviour {
        model: "large",
        right: 1.0,
        tells: 0.3,
        completion_tokens: 20,
    },
];

/// A judge that says what a closure says, and counts what it is asked.
struct Saying<F>(F, usize);

impl<F: FnMut(&Question<'_>) -> Option<f32>> Judge for Saying<F> {
    fn sure(&mut self, questions: &[Question<'_>]) -> Result<Vec<Option<f32>>, BackendError> {
        self.1 += questions.len();
        Ok(questions.iter().map(&mut self.0).collect())
    }
}

/// Rows of which only the first so many have a label. The dearest tier says in other words what the
/// label says, so that the judge is asked about each answer of the other one.
fn half_labelled(count: usize, labelled: usize) -> Vec<Row> {
    let mut made = rows(count, &TIERS, 31);
    for row in &mut made {
        row.tiers[1].text = "Yes.".to_owned();
    }
    for row in made.iter_mut().skip(labelled) {
        (row.answer, row.check) = (None, None);
    }
    made
}

fn judged(
    rows: &mut [Row],
    says: impl FnMut(&Question<'_>) -> Option<f32>,
) -> Result<Judged, BackendError> {
    judge(rows, ("stub", &mut Saying(says, 0)), &mut |_, _| {})
}

#[test]
fn what_a_good_judge_says_is_what_labels_would_have_said() {
    let mut made = half_labelled(400, 100);
    // It knows, but is never very sure.
    let found = judged(&mut made, |question| match question.answer {
        "yes" => Some(0.4),
        _ => Some(0.2),
    });
    let found = found.expect("a good judge");
    let on_labels = found.on_labels.expect("100 labels");
    assert_eq!((found.rows, on_labels.rows), (300, 100));
    assert_eq!(on_labels.agreed, on_labels.answers);
    assert_eq!((on_labels.answers, on_labels.reference_right), (50, 100));
    assert_eq!(on_labels.false_right_share().expect("wrong ones").0, 0.0);
    assert!((0.2..=0.4).contains(&found.threshold), "{found:?}");
    for row in &made {
        let is_yes = row.tiers[0].text == "yes";
        assert_eq!(row.is_right(&row.tiers[0]), is_yes);
        assert!(row.is_right(&row.tiers[1]));
    }
}

#[test]
fn a_judge_that_takes_wrong_for_right_is_refused_with_its_figures() {
    let mut made = half_labelled(400, 100);
    let refused = judged(&mut made, |_| Some(0.9)).expect_err("it says yes to all");
    let said = refused.to_string();
    assert!(
        said.contains("the judge stub takes") && said.contains("wrong answers for right (100.0 %"),
        "{said}"
    );
    // So is one that tosses a coin.
    let mut tossed = 0;
    let coin = judged(&mut half_labelled(400, 200), |_| {
        tossed = (tossed * 5 + 3) % 16;
        Some(tossed as f32 / 16.0)
    });
    let is_bad = coin.map_or(true, |judged| {
        let on_labels = judged.on_labels.expect("200 labels");
        on_labels.agreed * 10 < on_labels.answers * 8
    });
    assert!(is_bad, "its figures say so");
}

#[test]
fn without_enough_labels_nothing_is_claimed() {
    for labelled in [0, 49] {
        let mut made = half_labelled(200, labelled);
        let found = judged(&mut made, |_| Some(0.9)).expect("nobody knows better");
        assert_eq!((found.on_labels, found.rows), (None, 200 - labelled as u64));
    }
}

/// The dearest tier's answers to other prompts show what it takes for wrong.
#[test]
fn without_labels_a_judge_is_held_against_what_it_says_of_the_dearest_answers() {
    let mut made = half_labelled(200, 0);
    for (at, row) in made.iter_mut().enumerate() {
        row.tiers[1].text = format!("It is {at}.");
        row.tiers[0].text = format!("I say {}", if at % 3 == 0 { at + 1 } else { at });
    }
    let number = |text: &str| -> String { text.chars().filter(char::is_ascii_digit).collect() };
    let found = judged(&mut made, |question| {
        let is_same = number(question.reference) == number(question.answer);
        Some(if is_same { 0.3 } else { 0.1 })
    });
    let found = found.expect("nobody knows better");
    assert!((0.1..=0.3).contains(&found.threshold), "{found:?}");
    for (at, row) in made.iter().enumerate() {
        assert_eq!(row.is_right(&row.tiers[0]), at % 3 != 0, "{at}");
    }
}

#[test]
fn nobody_is_asked_about_what_is_known() {
    let mut made = half_labelled(200, 0);
    for row in &mut made {
        row.tiers[1].text = "yes".to_owned();
    }
    made[0].tiers[0].right = Some(true);
    made[0].tiers[1].right = Some(false);
    let differ = |row: &Row| row.tiers[0].text != row.tiers[1].text;
    let expected = made.iter().filter(|row| differ(row)).count();
    let mut stub = Saying(|_: &Question<'_>| None, 0);
    judge(&mut made, ("stub", &mut stub), &mut |_, _| {}).expect("judged");
    assert_eq!(stub.1, expected + 32, "those, and the controls");
    // One that says neither yes nor no has not found it right.
    let wrong = made.iter().filter(|row| !row.is_right(&row.tiers[0]));
    let is_first_wrong = differ(&made[0]);
    assert_eq!(wrong.count() + usize::from(is_first_wrong), expected);
    // What the file says of a row stands.
    assert!(made[0].is_right(&made[0].tiers[0]) && !made[0].is_right(&made[0].tiers[1]));
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("judging-{name}"))
}

fn calibrate(collected: &Path, out: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_farthing"))
        .args(["calibrate", "cascade"])
        .args([collected, Path::new("--out"), out])
        .args(["--price", "0.01,0.04", "--price", "0.1,0.4"])
        .args(more)
        .output()
        .expect("farthing runs")
}

/// Questions with answers of two tiers, in other words, of which the small one's are wrong in part.
fn capitals(labelled: usize) -> Vec<Row> {
    const CAPITALS: [(&str, &str); 10] = [
        ("France", "Paris"),
        ("Italy", "Rome"),
        ("Spain", "Madrid"),
        ("Japan", "Tokyo"),
        ("Egypt", "Cairo"),
        ("Germany", "Berlin"),
        ("Greece", "Athens"),
        ("Norway", "Oslo"),
        ("Poland", "Warsaw"),
        ("Austria", "Vienna"),
    ];
    let made = rows(100, &TIERS, 32);
    let rows = made.into_iter().enumerate().map(|(at, mut row)| {
        let (country, capital) = CAPITALS[at % CAPITALS.len()];
        let (_, other) = CAPITALS[(at + 1 + at / CAPITALS.len() % 8) % CAPITALS.len()];
        row.prompt = json!(format!("What is the capital of {country}? (number {at})"));
        let small = if row.tiers[0].text == "yes" {
            capital
        } else {
            other
        };
        row.tiers[0].text = format!("The answer is {small}");
        row.tiers[1].text = capital.to_owned();
        for tier in &mut row.tiers {
            tier.tokens.clear();
        }
        (row.answer, row.check) = match at < labelled {
            true => (Some(capital.to_owned()), Some(Check::Exact)),
            false => (None, None),
        };
        row
    });
    rows.collect()
}

/// A real model judges; the command says how far it can be believed, and the file holds it.
#[test]
fn a_model_of_ours_judges() {
    let qwen = format!("{MODELS}/qwen2.5-coder-0.5b-instruct.gguf");
    let (collected, made) = (file("capitals.jsonl"), file("capitals.cascade"));
    outcomes::write(&collected, &capitals(50)).expect("the rows");
    let output = calibrate(&collected, &made, &["--judge", &qwen, "--json"]);
    assert!(output.status.success(), "{}", said(&output));
    let line: Value = serde_json::from_slice(&output.stdout).expect("one line of JSON");
    let calibration = CascadeCalibration::load(&made).expect("a calibration");
    let judge = calibration.measured.judge.expect("who judged");
    assert_eq!(line["measured"]["judge"], json!(judge));
    assert_eq!(
        (judge.model.as_str(), judge.rows),
        ("qwen2.5-coder-0.5b-instruct", 50)
    );
    let on_labels = judge.on_labels.expect("50 labels");
    assert!(on_labels.agreed * 10 >= on_labels.answers * 8, "{judge:?}");
    // Without labels it says so, and needs a judge.
    let unlabelled: Vec<Row> = capitals(0).into_iter().take(60).collect();
    outcomes::write(&collected, &unlabelled).expect("the rows");
    let alone = said(&calibrate(&collected, &made, &[]));
    assert!(
        alone.contains("line 1: missing field `answer`; `--judge`"),
        "{alone}"
    );
    let judged = calibrate(&collected, &made, &["--judge", &qwen]);
    let words = said(&judged);
    assert!(judged.status.success(), "{words}");
    assert!(words.contains("relative to that judge"), "{words}");
    let kept = outcomes::read(&collected, Labels::Judged).expect("the rows");
    assert!(
        kept.iter().all(|row| !row.is_labelled()),
        "the rows stay as they were"
    );
    fs::remove_file(&collected).expect("it is there");
}
