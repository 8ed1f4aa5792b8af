//! English words that matter when two questions are compared, by what they do there. A word that is
//! in none of these lists is a word of content.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use super::words::stem;

/// Words that two questions may differ in and still ask the same: articles, auxiliaries, pronouns,
/// manners. What turns a question round is looked for before these.
const IDLE: &str = "\
    a able about actually advance ah ain all allowed already also although am an and any anyone \
    anything anyway anywhere appreciate appreciated are as ask asking at available basically be \
    because been being best both bother but by can cheers come comes concerning could currently \
    d daft dear did do does doing done during e each else ever every exactly fine for from get \
    getting give go going gonna good got great guys had happen happened happens has have having \
    hello help hey hi hiya hope how however i if in into is it its just keep keeps kind kindly \
    know let like literally ll look looking m many may maybe me method might mine much must my \
    myself necessary need needed of oh ok okay on one option options or our ours out own \
    perfect perhaps please pls possible possibly process quick re really regarding right s \
    shall should simply since so some somehow someone something somewhere sorry sort stay such \
    t take team tell than thank thanks that the their them then there these they thing things \
    this those though time times to too u uh um up us use using ve very wanna want was way ways \
    we well were what what's whats when where whether which which's while who whom whose why \
    will wish with wonder wondering work working works would yeah yep yes you your yours";

/// Words that turn a question round.
const NEGATIONS: &str = "\
    not no never none neither nor cannot without nothing nobody don doesn didn isn aren wasn \
    weren won wouldn shouldn couldn haven hasn hadn non dont doesnt didnt isnt arent wont \
    wouldnt shouldnt couldnt havent hasnt cant stop avoid except unable";

/// Words of opposite meaning, a row a line: what is on one side of a row in one question must not
/// be on the other side in the other.
const POLES: &str = "
    on | off
    my mine | your yours
    in | out
    before | after
    over above more most | under below less least fewer
    first | last
    open opening | close closed closing shut
    add adding added | remove removing removed delete drop
    allowed allow permitted permit | banned ban prohibited forbidden
    safe | unsafe dangerous
    best better | worst worse
    hot warm | cold cool
    increase increased raise higher bigger larger | decrease decreased reduce lower smaller cut
    improve | damage
    maximum max most | minimum min least
    upgrade upgrading | downgrade downgrading
    include included includes including | exclude excluded excludes
    accept accepted approve approved | decline declined reject rejected deny denied refuse
    benefits advantages pros | drawbacks disadvantages cons
    compulsory mandatory required | optional voluntary
    public | private
    busy | quiet
    join start begin | leave end quit
    buy buying purchase | sell selling
    send sending | receive receiving
    deposit | withdraw withdrawal
    push | pull
    import | export
    enable enabled activate | disable disabled deactivate
    win won | lose lost
    success successful succeed | fail failed failure unsuccessful
    left | right
    up | down
    early earliest earlier | late latest later
    full | empty part
    online | offline
    inside indoor | outside outdoor
    domestic | international
    weekday weekdays | weekend weekends
    morning | evening night afternoon
    am | pm
    today | tomorrow yesterday
    adult adults | child children kid kids baby babies junior
    landlord | tenant
    lend lending | borrow borrowing
    lock freeze | unlock unfreeze
    always | never
    with | without
    encrypt encode | decrypt decode
    ascending | descending
    big large | small
    long | short
    fast | slow
    old | new
    cheap cheapest | expensive dearest
    credit | debit
    same | next different
    next | previous last";

/// Words that say the same in everyday questions, a row a line. The first stands for the row.
const ALIKE: &str = "
    cost price charge fee pay bill
    change update edit modify alter amend switch swap
    cancel end terminate
    delete close remove erase
    buy purchase bought
    delivery shipping shipment ship
    order parcel package
    begin start
    document paperwork
    child kid children
    phone telephone
    apply application request
    register enrol enroll signup
    send submit email mail
    book reserve reservation appointment
    quotation quote
    previous earlier prior former
    offer provide supply
    broken faulty damaged
    refund reimbursement
    author wrote write
    usa america
    uk britain
    grade result mark
    find locate
    verify confirm
    picture photo image
    movie film
    doctor gp
    jab vaccine vaccination
    pharmacy chemist
    luggage baggage
    buggy pushchair stroller
    holiday vacation
    flat apartment
    car vehicle
    explain describe mean
    difference differ
    wait queue
    fix repair mend
    include contain
    create add setup make
    invite invitation
    clean cleaner
    puppy dog
    staff employee worker
    company firm business employer
    salary wage
    salon hairdresser
    rubbish trash garbage
    shop store
    road street
    allergy allergic intolerance
    select choose pick
    obtain receive
    restore recover
    track trace
    warranty guarantee
    discount reduction
    laptop notebook
    lawyer solicitor attorney
    sick ill unwell
    tv television
    fridge refrigerator
    bike bicycle
    taxi cab
    toilet bathroom restroom
    trip journey
    ticket fare
    opening open
    schedule timetable
    assist support
    error fault problem issue
    big large
    small little
    fast speedy
    illegal unlawful
    pregnant pregnancy
    house home property";

/// Numbers in words, as numbers.
const NUMBERS: &str = "\
    zero=0 one=1 single=1 two=2 couple=2 three=3 four=4 five=5 six=6 seven=7 eight=8 nine=9 \
    ten=10 eleven=11 twelve=12 dozen=12 thirteen=13 fourteen=14 fifteen=15 sixteen=16 \
    seventeen=17 eighteen=18 nineteen=19 twenty=20 thirty=30 forty=40 fifty=50 sixty=60 \
    seventy=70 eighty=80 ninety=90 hundred=100 thousand=1000 million=1000000 second=2 third=3 \
    fourth=4 fifth=5 half=0 twice=2 double=2";

/// Days, months and other points in time: as good as numbers.
const DATES: &str = "\
    monday tuesday wednesday thursday friday saturday sunday january february march april june \
    july august september october november december christmas easter today tomorrow yesterday \
    tonight daily weekly monthly yearly annual annually";

/// Units that may be written onto a number; ordinals are the number itself.
const UNITS: &str = "\
    am pm kg g mg ml l cm mm m km gb mb tb kb k h hr hrs min mins s ms x st nd rd th bn p mph";

/// The lists, ready to be asked.
pub(super) struct Lexicon {
    idle: HashSet<&'static str>,
    negations: HashSet<&'static str>,
    /// Word to its rows, with the side it is on.
    poles: HashMap<&'static str, Vec<(u8, Side)>>,
    /// Stem to the stem that stands for it.
    alike: HashMap<String, String>,
    numbers: HashMap<&'static str, &'static str>,
    dates: HashSet<&'static str>,
    units: HashSet<&'static str>,
}

/// One end of a row of opposites.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Side {
    One,
    Other,
}

static LEXICON: LazyLock<Lexicon> = LazyLock::new(Lexicon::read);

// === impl Lexicon ===

impl Lexicon {
    pub(super) fn english() -> &'static Lexicon {
        &LEXICON
    }

    fn read() -> Lexicon {
        let words = |list: &'static str| list.split_whitespace().collect();
        let mut poles: HashMap<_, Vec<(u8, Side)>> = HashMap::new();
        for (row, line) in (0_u8..).zip(rows(POLES)) {
            let (one, other) = line.split_once('|').unwrap_or((line, ""));
            for (side, list) in [(Side::One, one), (Side::Other, other)] {
                for word in list.split_whitespace() {
                    poles.entry(word).or_default().push((row, side));
                }
            }
        }
        let mut alike = HashMap::new();
        for line in rows(ALIKE) {
            let mut row = line.split_whitespace().map(stem);
            let first = row.next().unwrap_or_default();
            alike.extend(row.map(|stem| (stem, first.clone())));
        }
        let numbers = NUMBERS.split_whitespace();
        Lexicon {
            idle: words(IDLE),
            negations: words(NEGATIONS),
            poles,
            alike,
            numbers: numbers.filter_map(|entry| entry.split_once('=')).collect(),
            dates: words(DATES),
            units: words(UNITS),
        }
    }

    pub(super) fn is_idle(&self, word: &str) -> bool {
        self.idle.contains(word)
    }

    pub(super) fn negates(&self, word: &str) -> bool {
        self.negations.contains(word)
    }

    /// The rows of opposites that a word is in.
    pub(super) fn poles(&self, word: &str) -> &[(u8, Side)] {
        self.poles.get(word).map_or(&[], Vec::as_slice)
    }

    /// The stem that stands for this one and its like.
    pub(super) fn representative<'a>(&'a self, stem: &'a str) -> &'a str {
        self.alike.get(stem).map_or(stem, String::as_str)
    }

    pub(super) fn number(&self, word: &str) -> Option<&'static str> {
        self.numbers.get(word).copied()
    }

    pub(super) fn is_date(&self, word: &str) -> bool {
        self.dates.contains(word)
    }

    pub(super) fn is_unit(&self, word: &str) -> bool {
        self.units.contains(word)
    }
}

fn rows(list: &'static str) -> impl Iterator<Item = &'static str> {
    list.lines().filter(|line| !line.trim().is_empty())
}
