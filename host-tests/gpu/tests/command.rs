//! The program for cards, where there may be none.

use std::process::{Command, Output};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_farthing-gpu"))
        .args(arguments)
        .output()
        .expect("the program starts")
}

/// No machine has so many cards. Without a driver, or with an old one, the reason is another.
#[test]
fn without_a_card_it_says_so_and_ends() {
    for command in ["limits", "check", "bench", "all"] {
        let output = run(&[command, "--device", "1000"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{command}: {said}");
        assert_eq!(said.lines().count(), 1, "{command}: {said}");
        assert!(said.contains("CUDA"), "{command}: {said}");
    }
}

#[test]
fn every_operation_is_named() {
    let output = run(&["operations"]);
    let names = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success());
    for name in ["decode_attention", "gemv", "sample"] {
        assert!(names.lines().any(|line| line == name), "{names}");
    }
}

#[test]
fn results_that_are_not_there_are_an_error() {
    let output = run(&["results", "no/such/file"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("no/such/file"), "{said}");
}
