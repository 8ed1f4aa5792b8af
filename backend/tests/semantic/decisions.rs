//! What the guard, the conversation and the calendar decide, by examples.

use farthing_backend::semantic::conversation::Asked;
use farthing_backend::semantic::freshness::Freshness;
use farthing_backend::semantic::signature::{Conflict, Signature};
use farthing_backend::yes_no;
use farthing_core::limits::SEMANTIC_QUESTION_BYTES_MAX;
use farthing_core::wire::{Message, Role};

/// Words that no vocabulary has.
fn is_known(word: &str) -> bool {
    ![
        "adress",
        "acount",
        "chnage",
        "isotretinoin",
        "sertraline",
        "unarchive",
    ]
    .contains(&word)
}

#[track_caller]
fn check(a: &str, b: &str, conflict: Option<Conflict>) {
    let read = |text| Signature::read(text, &is_known);
    for (a, b) in [(a, b), (b, a)] {
        assert_eq!(read(a).compare(&read(b)).conflict, conflict, "{a} | {b}");
    }
}

#[test]
fn the_guard_sees_what_vectors_do_not() {
    use Conflict::{Figures, Marks, Names, Negation, Opposites, Question};
    check("What's 15% of 200?", "What's 50% of 200?", Some(Figures));
    check("Remind me at 7am", "Remind me at 7pm", Some(Figures));
    check("Open on Saturday?", "Open on Sunday?", Some(Figures));
    check("Is it 2kg?", "Is it 2 lb?", Some(Figures));
    check("Say \"hello\" twice", "Say \"goodbye\" twice", Some(Marks));
    check("Mail a@b.org", "Mail a@c.org", Some(Marks));
    check("Resend INV-20419", "Resend INV-20491", Some(Figures));
    check("Cancel it", "Don't cancel it", Some(Negation));
    check("Is it safe?", "Is it unsafe?", Some(Opposites));
    check(
        "How do I archive it?",
        "How do I unarchive it?",
        Some(Opposites),
    );
    check("Can I turn it on?", "Can I turn it off?", Some(Opposites));
    check(
        "Can I pay with PayPal?",
        "Can I pay with Klarna?",
        Some(Names),
    );
    check(
        "Fly from Rome to Oslo?",
        "I fly from Oslo to Rome?",
        Some(Names),
    );
    check("Who closed it?", "When was it closed?", Some(Question));
}

#[test]
fn the_guard_lets_other_spellings_pass() {
    check(
        "Remind me at 7am",
        "Remind me at seven in the morning",
        None,
    );
    check("I'm twenty-three", "I am 23", None);
    check("It costs 1 kg", "It costs 1 kilo", None);
    check(
        "What's 15% of 200?",
        "Calculate fifteen percent of 200",
        None,
    );
    check("Which one is best?", "Which is best?", None);
    check("Do You Accept Apple Pay?", "do you accept apple pay", None);
    check("I don't see it", "I do not see it", None);
    let unmatched = |a: &str, b: &str| {
        let read = |text| Signature::read(text, &is_known);
        read(a).compare(&read(b)).unmatched
    };
    assert_eq!(
        unmatched("Change my address", "chnage my adress please"),
        [0, 0]
    );
    assert_eq!(
        unmatched("How do I end it?", "How can I cancel it?"),
        [0, 0]
    );
    assert_eq!(
        unmatched("Is sertraline safe?", "Is isotretinoin safe?"),
        [1, 1]
    );
}

fn chat(texts: &[&str]) -> Vec<Message> {
    let message = |(index, text): (usize, &&str)| Message {
        role: [Role::User, Role::Assistant][index % 2],
        content: (*text).to_owned(),
        name: None,
        tool_calls: None,
        tool_call_id: None,
    };
    texts.iter().enumerate().map(message).collect()
}

#[track_caller]
fn continues_alike(a: &[&str], b: &[&str], cosine: f32, expected: bool) {
    let asked = |texts| Asked::of(&chat(texts)).expect("a person asks last");
    let (a, b) = (asked(a), asked(b));
    let found = a.continues_alike(&b, Some(cosine), &is_known).is_some();
    assert_eq!(found, expected, "{a:?} {b:?}");
}

#[test]
fn a_message_is_understood_in_its_conversation() {
    let gym = [
        "I have a gym membership at PulseFit",
        "Would you like to end it?",
        "cancel it",
    ];
    let tv = [
        "I have a Flixora subscription",
        "Would you like to end it?",
        "cancel it",
    ];
    continues_alike(&gym, &gym, 1.0, true);
    continues_alike(&gym, &tv, 0.9, false);
    continues_alike(&gym, &["cancel it"], 1.0, false);
    // A yes answers exactly what was asked.
    let cancel = [
        "My plan renews tomorrow",
        "Shall I cancel it?",
        "yes please",
    ];
    let annual = [
        "My plan renews tomorrow",
        "Shall I make it annual?",
        "yes please",
    ];
    continues_alike(&cancel, &annual, 1.0, false);
    continues_alike(&cancel, &cancel, 1.0, true);
    // Another number in the place of one.
    let small = [
        "I want to send 4,500 to my sister",
        "You can.",
        "will it go through today?",
    ];
    let large = [
        "I want to send 6,500 to my sister",
        "You can.",
        "will it go through today?",
    ];
    continues_alike(&small, &large, 1.0, false);
    // What says all by itself is the same after any conversation.
    let standalone = "Do you accept Amex at your Soho shop?";
    continues_alike(
        &["Hi", "Hello!", standalone],
        &["I lost a scarf", "Oh!", standalone],
        0.0,
        true,
    );
    continues_alike(&["Hi", "Hello!", standalone], &[standalone], 0.0, true);
}

#[test]
fn only_what_can_be_compared_is_asked() {
    assert!(Asked::of(&[]).is_none());
    assert!(Asked::of(&chat(&[""])).is_none());
    assert!(Asked::of(&chat(&["  \n"])).is_none());
    assert!(Asked::of(&chat(&["a question", "an answer"])).is_none());
    let long = "word ".repeat(100_000);
    assert!(Asked::of(&chat(&[&long])).is_none());
    assert!(
        Asked::of(&chat(&[&long, &long, "and now?"])).is_some(),
        "its end counts"
    );
    assert!(Asked::of(&chat(&[&"x".repeat(SEMANTIC_QUESTION_BYTES_MAX)])).is_some());
    let mut tool = chat(&["what is it?", "", "so?"]);
    tool[1].role = Role::Tool;
    assert!(Asked::of(&tool).is_none());
}

#[test]
fn what_changes_with_the_moment_is_never_given_again() {
    for now in [
        "What's the weather in Oslo?",
        "Who won last night?",
        "What time is it?",
        "How is the traffic right now?",
        "Did it rain this week?",
        "Is Mary in the office today?",
    ] {
        assert_eq!(Freshness::of(now), Freshness::Now, "{now}");
    }
    assert_eq!(
        Freshness::of("What are your opening hours?"),
        Freshness::Slow
    );
    assert_eq!(Freshness::of("Who wrote Jane Eyre?"), Freshness::Lasting);
    assert_eq!(
        Freshness::of("What time do trains leave for Rome?"),
        Freshness::Lasting
    );
}

#[test]
fn the_verifiers_first_token_is_read() {
    let share = |tokens: &[(&str, f32)]| yes_no::yes_share(tokens.iter().copied());
    let even = [("Yes", -1.0), (" no", -1.0), ("Maybe", -0.1)];
    assert_eq!(share(&even), Some(0.5));
    assert_eq!(share(&[("yes", -0.5), (" Yes", -2.0)]), Some(1.0));
    assert_eq!(share(&[("Perhaps", 0.0)]), None);
}
