//! Requests as many clients send them: a few very often, most once or twice.

/// Different requests, and requests in all.
const ANSWERS: usize = 10_000;
const REQUESTS: usize = 30_000;
/// Requests after which others are popular, in a trace that drifts.
const DRIFT_AFTER: usize = 5_000;
/// A prompt of a chat, in tokens.
const PROMPT_TOKENS: u64 = 250;
/// Prices of a cheap and a dear model, in nano-dollars a thousand tokens, and how many of a hundred
/// requests go to the dear one.
const PRICES: [(u64, u64); 2] = [(20_000, 40_000), (150_000, 600_000)];
const DEAR_OF_100: usize = 30;
/// Completion lengths are about log-normal: their median, and the standard deviation of their
/// logarithm.
const COMPLETION_TOKENS_MEDIAN: f64 = 120.0;
const COMPLETION_SIGMA: f64 = 1.0;
const BYTES_PER_TOKEN: f64 = 4.5;
const ENVELOPE_BYTES: usize = 350;

/// How unevenly requests are spread.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Popularity {
    /// The n-th most popular request has a share of 1 / n^exponent.
    Zipf { exponent: f64 },
    /// The same, with other requests popular every `DRIFT_AFTER`.
    Drifting { exponent: f64 },
}

impl Popularity {
    pub const ALL: [Popularity; 4] = [
        Popularity::Zipf { exponent: 0.7 },
        Popularity::Zipf { exponent: 0.9 },
        Popularity::Zipf { exponent: 1.1 },
        Popularity::Drifting { exponent: 0.9 },
    ];

    pub fn name(self) -> String {
        match self {
            Popularity::Zipf { exponent } => format!("zipf{exponent}"),
            Popularity::Drifting { exponent } => format!("drift{exponent}"),
        }
    }

    pub fn describe(self) -> String {
        match self {
            Popularity::Zipf { exponent } => format!("by Zipf's law, exponent {exponent}"),
            Popularity::Drifting { exponent } => {
                format!("by Zipf's law, exponent {exponent}, others popular every {DRIFT_AFTER}")
            }
        }
    }
}

/// What a request is answered with.
pub struct Answer {
    pub bytes: usize,
    pub cost_nanousd: u64,
    pub completion_tokens: u64,
}

pub struct Trace {
    pub answers: Vec<Answer>,
    /// Positions in `answers`, in the order in which the requests come.
    pub requests: Vec<usize>,
}

impl Trace {
    /// The same on every machine.
    pub fn new(popularity: Popularity) -> Trace {
        let mut random = Random(0xca5e);
        let answers = (0..ANSWERS).map(|_| answer(&mut random)).collect();
        let (Popularity::Zipf { exponent } | Popularity::Drifting { exponent }) = popularity;
        let mut below = Vec::with_capacity(ANSWERS);
        let mut sum = 0.0;
        for rank in 1..=ANSWERS {
            sum += (rank as f64).powf(-exponent);
            below.push(sum);
        }
        let mut by_rank: Vec<usize> = (0..ANSWERS).collect();
        let mut requests = Vec::with_capacity(REQUESTS);
        for number in 0..REQUESTS {
            let drifts = matches!(popularity, Popularity::Drifting { .. });
            if number == 0 || (drifts && number % DRIFT_AFTER == 0) {
                random.shuffle(&mut by_rank);
            }
            let drawn = random.fraction() * sum;
            let rank = below.partition_point(|share| *share <= drawn);
            requests.push(by_rank[rank.min(ANSWERS - 1)]);
        }
        Trace { answers, requests }
    }

    /// What all of it costs without a cache.
    pub fn cost_nanousd(&self) -> u64 {
        self.requests
            .iter()
            .map(|request| self.answers[*request].cost_nanousd)
            .sum()
    }
}

fn answer(random: &mut Random) -> Answer {
    let (input, output) = PRICES[usize::from(random.below(100) < DEAR_OF_100)];
    // The sum of twelve uniform numbers is nearly normal.
    let normal: f64 = (0..12).map(|_| random.fraction()).sum::<f64>() - 6.0;
    let tokens = COMPLETION_TOKENS_MEDIAN * (COMPLETION_SIGMA * normal).exp();
    let completion_tokens = tokens.ceil() as u64;
    Answer {
        bytes: ENVELOPE_BYTES + (tokens * BYTES_PER_TOKEN) as usize,
        cost_nanousd: (PROMPT_TOKENS * input + completion_tokens * output) / 1_000,
        completion_tokens,
    }
}

/// SplitMix64 (Steele, Lea, Flood).
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    /// From 0 up to 1.
    fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn shuffle(&mut self, list: &mut [usize]) {
        for end in (1..list.len()).rev() {
            list.swap(end, self.below(end + 1));
        }
    }
}
