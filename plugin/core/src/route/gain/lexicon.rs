//! Words that say something about what a request asks for, by what they are a sign of. Each is
//! found by its first letter, the set of its letters and, give or take one, their number: so two
//! letters that changed places, or one written twice, do not hide it, and a word costs one look
//! into a table that the compiler made.

/// What a word is a sign of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Cue {
    /// Denying, or asking for what does not hold.
    Negation,
    /// Saying how one thing moves with another.
    Change,
    /// Asking for reasons, or for something to be worked out.
    Reasoning,
    Code,
    /// Asking for something short.
    Simple,
    Mathematics,
    /// History, politics, religion.
    Society,
    /// Any other subject that is taught: sciences, medicine, law, economy, psychology.
    Subject,
}

/// How many kinds there are.
pub(super) const CUES: usize = 8;

#[rustfmt::skip]
const WORDS: [(Cue, &str); CUES] = [
    (Cue::Negation, "cannot except false incorrect least neither never none nor not unless \
        without"),
    (Cue::Change, "cause causes change changes constant decrease decreased decreases double \
        doubled effect fall falls faster greater greatest halved higher highest increase \
        increased increases larger largest lower lowest maximum minimum proportional raise \
        reduce reduced reduces rise rises shift slower smaller smallest"),
    (Cue::Reasoning, "analyse analyze compare cons critique debug derivation derive design \
        essay explain implement justify optimise optimize proof pros prove proves refactor \
        simplify solve tradeoffs"),
    (Cue::Code, "api async const def docker fn golang html impl javascript json kotlin \
        kubernetes mutex php postgres pytest python query recursive regex rust sql struct \
        typescript unittest yaml"),
    (Cue::Simple, "greeting hello joke rhyme summarise summarize synonym synonyms translate"),
    (Cue::Mathematics, "abelian algebra angle arithmetic axiom bounded centimeters circle \
        coefficient commutative continuous converges correlation counterexample cube cyclic \
        decimal denominator derivative determinant deviation diameter differentiable digit \
        dimension divided divisible divisor eigenvalue equation exponent factorial finite \
        formula fraction function geometry graph group hypotenuse hypothesis inequality infinite \
        integer integers integral interval isomorphism linear logarithm matrices matrix median \
        multiplication multiply nonzero null numbers perimeter permutation perpendicular plane \
        polynomial predicate prime probability propositional quadratic quotient radius random \
        ratio rational real rectangle regression residual ring rounded sample sampling sequence \
        sine slope square statistic statistics subgroup subset subtract symmetric theorem \
        translation triangle validity variable variables variance vector volume zero"),
    (Cue::Society, "agriculture american ancient archaeological army bible buddhism buddhist \
        catholic century chinese christian christianity church civilization colonial colonies \
        colony communism communist confucian conquest culture cultures democracy democratic \
        dynasty election emperor empire enlightenment european excerpt federal feudal foreign \
        gospel governments hindu immigration imperial imperialism indigenous industrial islam \
        islamic jewish judaism king kingdom kings liberty medieval migration military missionary \
        monarchy muslim nation nationalism nations nato neolithic parliament passage peasants \
        political politics pope population president presidents prophet protestant rebellion \
        reform reformation religion religions religious republic revolution ritual roman sikh \
        slave slavery slaves socialism soviet states sultan tao temple territory treaty tribes \
        union urban voters war wars worship"),
    (Cue::Subject, "abdomen abdominal abuse acceleration accounting accounts accused acid acids \
        acquitted action acute admissible adolescent adolescents aggregate agreement algorithm \
        algorithms alkali alleged allele alleles amendment amino amortization amplitude anatomy \
        anemia anode anterior antibiotic antibodies antibody anxiety appeal array arrested \
        artery asset assets asteroid asthma atmosphere atom atomic atoms attachment attitude \
        attorney attribution audit auditor bacteria bacterial battery beam behavior behavioral \
        behaviour belief beliefs binary bladder blood boiling bond bonds boolean brain breach \
        breast budget buffer burglary buyer byte bytes cache calculate cancer capacitance \
        capacitor capital carbohydrate carbon cardiac cash catalyst cathode cell cells cellular \
        cerebral charge charged chemical chest chlorine cholesterol chromosome chromosomes \
        chronic cipher circuit civil claim clause client cognition cognitive collision \
        competitive compile compiler complaint compound compute concentration conditioning \
        conductor conformity congress consent consequentialism constitution constitutional \
        consumer consumers consumption contract contracts contrast convicted conviction copper \
        corporate cortex costs counseling court courts covalent crime criminal cryptography \
        current curve damages database deadlock debt deduce deed defamation defendant defense \
        deficiency deficit demand density deontology depreciation depression determine devise \
        diabetes diagnosis diet dietary digestion diode disease diseases disorder disorders \
        dividend dna dollar dominant dose drug duties duty easement economic economies economy \
        ecosystem elastic elasticity electric electrical electromagnetic electron electrons \
        embryo emotion emotional emotions employment encryption energy enforce enthalpy entropy \
        enzyme enzymes equilibrium estate estimate ethical ethics euthanasia evidence evolution \
        examination expansionary expenditure expense exports externality fallacies fallacy fatty \
        felony fetus fever financial find firm firms fiscal flux force fracture fraud frequency \
        freud friction galaxy gas gdp gender gene generator genes genetic genome genotype gland \
        glucose goods grantee gravitational gravity gross guilty habitat happiness harm hash \
        hashing heap hearsay heart heat held helium hemoglobin hepatitis hiv homicide hormone \
        hormones hydrogen hypertension identify identity immune imports inadmissible income \
        inductance industry inelastic inertia infection infer inflammation inflation injunction \
        injured injury insulin intake intelligence interest intestine inventory invest \
        investment investor ion ionization ions isotope java judge judgment judicial \
        jurisdiction jury justice kant kernel kidney kinetic labor larceny lawsuit lawyer \
        learning lease legal legislature lens lesion liabilities liability liable license light \
        linux liquid litigation liver loan loop lung lymph macroeconomic magnet magnetic \
        magnitude malware marginal marketing markets mass medication meiosis membrane memory \
        menstrual mental metabolism metal mirror mitochondria mitosis molar mole molecule \
        molecules momentum monetary money monopolist monopoly moon moral morality morally \
        mortgage motion motivation motor murder muscle muscles mutation nausea negligence \
        negligent nerves net network neuron neurons neutron neutrons nitrogen node nodes nominal \
        norms notice nuclear nucleus nutrient nutrition obesity objection obligation offense \
        offspring oligopoly organism organisms oscillation output ovary overflow owner ownership \
        oxygen packet pain palsy parol particle parties patient patients payable pendulum \
        perception permissible personality phenotype philosopher philosophers philosophy photon \
        photons photosynthesis physician physics piaget plaintiff planet planets plasma pleaded \
        pleasure pneumonia pointer police polymer possession posterior pregnancy premise \
        premises pressure price prices pricing privilege processor producer product production \
        profit profits programming prosecution prosecutor protein proteins protocol proton \
        protons psychological psychologist psychologists psychology pulmonary pulse punishment \
        purchase quantity quantum queue radiation radioactive rate rates reaction receivable \
        receptor receptors recession recessive recommend recover recursion refraction \
        reinforcement remedy renal resistance resistor resonance respiratory respondents \
        retrieval revenue ribosome rna robbery rotation rotor router salary sales savings \
        scenario scenarios schizophrenia securities self seller semiconductor sensory sentence \
        serum server shareholder signal skin skull social socialization sociologists sodium \
        solubility solution solvent sound species spectrum speed spending sperm spinal spine \
        stack standard standards star statute statutory stellar stereotype stimuli stimulus \
        stock strategy stress string subsidy sued suffering suit supply suppose surgery surplus \
        syllogism symptom symptoms syndrome tariff tax taxes tcp temperature testified testify \
        testimony therapist therapy thermal thread threads tissue title torque tort toxin trade \
        transformer transistor treasury treatment tree trial tumor tuple unemployment urinary \
        urine uterus utilitarian utilitarianism utility vaccine vacuum vein velocity ventricle \
        verdict verify viral virtue virus viruses vitamin vitamins voltage vulnerability wage \
        wages warrant warranty wave wavelength waves will wire witness workers wrong"),
];

/// A word of the table: its kind, and its place among all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub cue: Cue,
    pub id: u16,
}

/// What a word is looked up by, gathered letter by letter; upper and lower case are the same.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spelling {
    first: u8,
    letters: u32,
    len: u8,
}

impl Spelling {
    const NONE: Spelling = Spelling {
        first: 0,
        letters: 0,
        len: 0,
    };

    /// The letters at the start of a text, and what follows.
    pub(super) fn read(text: &[u8]) -> (Spelling, &[u8]) {
        let (mut letters, mut rest) = (0, text);
        while let Some((&byte, after)) = rest.split_first()
            && byte.is_ascii_alphabetic()
        {
            letters |= 1 << (byte & 31);
            rest = after;
        }
        let len = text.len().saturating_sub(rest.len());
        let spelling = Spelling {
            first: text.first().map_or(0, |letter| letter & 31),
            letters,
            len: u8::try_from(len).unwrap_or(u8::MAX),
        };
        (spelling, rest)
    }

    pub(super) const fn push(&mut self, letter: u8) {
        // `A` and `a` are 1, `Z` and `z` are 26.
        let letter = letter & 31;
        if self.len == 0 {
            self.first = letter;
        }
        self.letters |= 1 << letter;
        self.len = self.len.saturating_add(1);
    }

    const fn key(&self) -> u32 {
        // The letters take bits 1 to 26, so the first one has the five above.
        self.letters | (self.first as u32) << 27
    }
}

/// Shorter words must have the right length: `has` is no `hash`.
const TOLERANT_LEN_MIN: u8 = 6;

/// What this word is a sign of, if anything.
pub(super) fn look_up(word: &Spelling) -> Option<Known> {
    let key = word.key();
    // The table is never full, so there is an end to every run of entries.
    (0..SLOTS)
        .map_while(|step| {
            let slot = (home(key) + step) % SLOTS;
            TABLE.get(slot).filter(|entry| entry.key != 0)
        })
        .find(|entry| entry.is(word))
        .map(|entry| Known {
            cue: entry.cue,
            id: entry.id,
        })
}

#[derive(Clone, Copy)]
struct Entry {
    key: u32,
    id: u16,
    len: u8,
    cue: Cue,
}

impl Entry {
    const NONE: Entry = Entry {
        key: 0,
        id: 0,
        len: 0,
        cue: Cue::Subject,
    };

    fn is(&self, word: &Spelling) -> bool {
        let slack = u8::from(self.len >= TOLERANT_LEN_MIN);
        self.key == word.key() && self.len.abs_diff(word.len) <= slack
    }
}

/// A quarter of them is taken.
const SLOTS: usize = 4_096;

/// Words of the table, with room for more.
pub(super) const WORDS_MAX: usize = 1_024;

static TABLE: [Entry; SLOTS] = table();

const fn home(key: u32) -> usize {
    (key.wrapping_mul(0x9e37_79b1) >> 20) as usize % SLOTS
}

const fn table() -> [Entry; SLOTS] {
    let mut table = [Entry::NONE; SLOTS];
    let mut id = 0;
    let mut kind = 0;
    while kind < CUES {
        id = insert_words(&mut table, kind, id);
        kind += 1;
    }
    assert!(id as usize <= WORDS_MAX);
    table
}

/// Returns the id after the last of the kind.
#[allow(
    clippy::indexing_slicing,
    reason = "evaluated by the compiler, which refuses a panic"
)]
const fn insert_words(table: &mut [Entry; SLOTS], kind: usize, mut id: u16) -> u16 {
    let (cue, words) = WORDS[kind];
    let words = words.as_bytes();
    let mut word = Spelling::NONE;
    let mut at = 0;
    while at <= words.len() {
        if at < words.len() && words[at] != b' ' {
            word.push(words[at]);
        } else if word.len > 0 {
            let (key, len) = (word.key(), word.len);
            let mut slot = home(key);
            while table[slot].key != 0 {
                slot = (slot + 1) % SLOTS;
            }
            table[slot] = Entry { key, id, len, cue };
            id += 1;
            word = Spelling::NONE;
        }
        at += 1;
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(word: &str) -> Option<Cue> {
        let mut spelling = Spelling::NONE;
        word.bytes().for_each(|letter| spelling.push(letter));
        look_up(&spelling).map(|known| known.cue)
    }

    #[test]
    fn every_word_is_of_its_kind() {
        for (cue, words) in WORDS {
            for word in words.split_ascii_whitespace() {
                assert_eq!(find(word), Some(cue), "{word}");
                assert_eq!(find(&word.to_ascii_uppercase()), Some(cue), "{word}");
            }
        }
    }

    #[test]
    fn a_slip_of_the_pen_hides_no_long_word() {
        for word in ["derivatoin", "deriivation", "drivation", "drivate"] {
            assert_eq!(find(word).is_some(), word.starts_with("deri"), "{word}");
        }
        for word in ["", "the", "has", "lorem", "ipsum", "please", "weather"] {
            assert_eq!(find(word), None, "{word}");
        }
    }
}
