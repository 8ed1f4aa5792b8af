//! The program for cards, where there may be none, and where the compiler for them refuses.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::{env, fs};

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_farthing-gpu"));
    command.args(arguments);
    command
}

fn run(arguments: &[&str]) -> Output {
    command(arguments).output().expect("the program starts")
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

/// Under a sanitizer run those that call no library.
#[test]
fn operations_of_our_own_are_named() {
    let named = |arguments: &[&str]| String::from_utf8_lossy(&run(arguments).stdout).into_owned();
    let (all, own) = (named(&["operations"]), named(&["operations", "--own"]));
    let left: Vec<&str> = all
        .lines()
        .filter(|name| !own.lines().any(|own| own == *name))
        .collect();
    assert_eq!(left, ["cublaslt", "dense_product"], "{all}");
}

/// A library under NVRTC's name that compiles nothing.
const REFUSING_COMPILER: &str = r#"
#include <string.h>
static const char LOG[] = "sample.cu(7): error: expected a \";\"";
int nvrtcVersion(int *major, int *minor) { *major = 13; *minor = 0; return 0; }
int nvrtcCreateProgram(void **program, const char *source, const char *name, int headers,
                       const char *const *texts, const char *const *names) {
    (void)source, (void)name, (void)headers, (void)texts, (void)names;
    *program = program;
    return 0;
}
int nvrtcCompileProgram(void *program, int count, const char *const *options) {
    (void)program, (void)count, (void)options;
    return 6; /* NVRTC_ERROR_COMPILATION */
}
int nvrtcGetProgramLogSize(void *program, size_t *size) {
    (void)program;
    *size = sizeof LOG;
    return 0;
}
int nvrtcGetProgramLog(void *program, char *log) {
    (void)program;
    memcpy(log, LOG, sizeof LOG);
    return 0;
}
int nvrtcDestroyProgram(void **program) { *program = 0; return 0; }
"#;

#[test]
fn kernels_that_do_not_compile_are_named_with_what_the_compiler_says() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("refusing-compiler");
    fs::create_dir_all(&folder).expect("the target folder is writable");
    let source = folder.join("nvrtc.c");
    fs::write(&source, REFUSING_COMPILER).expect("the target folder is writable");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(folder.join("libnvrtc.so"))
        .arg(&source)
        .status()
        .expect("a C compiler, which the emulator needs too");
    assert!(built.success());
    let mut folders = vec![folder];
    folders.extend(env::split_paths(
        &env::var_os("LD_LIBRARY_PATH").unwrap_or_default(),
    ));
    let output = command(&["compile"])
        .env(
            "LD_LIBRARY_PATH",
            env::join_paths(folders).expect("plain paths"),
        )
        .output()
        .expect("the program starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    for target in ["sm_80", "sm_89", "sm_90a", "compute_80"] {
        let sentence = format!("FAILED {target} the kernels do not compile for {target}: ");
        assert!(said.contains(&sentence), "{said}");
    }
    assert!(said.contains("sample.cu(7): error: expected a"), "{said}");
    assert!(said.contains("0 passed, 4 failed"), "{said}");
}

#[test]
fn results_that_are_not_there_are_an_error() {
    let output = run(&["results", "no/such/file"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("no/such/file"), "{said}");
}
