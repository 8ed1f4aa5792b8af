//! What `farthing serve` says of a CUDA card: where there is no driver, one that is too old, a card
//! that is, or one that would do. A library of ours stands in for the driver.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use farthing_kernels::cuda::FoundCard;

/// What the stand-in answers.
struct FakeDriver {
    name: &'static str,
    driver: u32,
    init: u32,
    devices: u32,
    capability: (u32, u32),
}

const GOOD: FakeDriver = FakeDriver {
    name: "good",
    driver: 13_000,
    init: 0,
    devices: 1,
    capability: (9, 0),
};

fn scratch(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("device");
    fs::create_dir_all(&folder).expect("the target folder is writable");
    folder.join(name)
}

impl FakeDriver {
    /// Compiles it and answers what to put before other folders of libraries.
    fn build(&self) -> PathBuf {
        let folder = scratch(self.name);
        fs::create_dir_all(&folder).expect("the target folder is writable");
        let (major, minor) = self.capability;
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-Wall", "-Werror"])
            .arg(format!("-DDRIVER={}", self.driver))
            .arg(format!("-DINIT={}", self.init))
            .arg(format!("-DDEVICES={}", self.devices))
            .arg(format!("-DMAJOR={major}"))
            .arg(format!("-DMINOR={minor}"))
            .arg("-o")
            .arg(folder.join("libcuda.so"))
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fake_driver.c"))
            .status()
            .expect("a C compiler, which other crates of ours need too");
        assert!(built.success());
        folder
    }
}

/// A configuration with a model that is none.
fn config() -> &'static PathBuf {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    FILE.get_or_init(|| {
        let (model, config) = (scratch("none.gguf"), scratch("none.yaml"));
        let yaml = format!("models: [{{id: bad, path: {}}}]", model.display());
        for (file, text) in [(&model, "not a model"), (&config, &yaml)] {
            fs::write(file, text).expect("the target folder is writable");
        }
        config
    })
}

/// `farthing serve` to its end, which comes after it has said what it found.
fn serve(driver: Option<PathBuf>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_farthing"));
    command.arg("serve").arg("--config").arg(config());
    if let Some(folder) = driver {
        command.env("LD_LIBRARY_PATH", before_others(folder));
    }
    let ended = command.stdin(Stdio::null()).output();
    ended.expect("the binary starts")
}

fn before_others(folder: PathBuf) -> OsString {
    let others = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let folders = std::iter::once(folder).chain(env::split_paths(&others));
    env::join_paths(folders).expect("plain paths")
}

/// The one line about the device, which comes before the models are looked at.
#[track_caller]
fn device_line(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    let mut lines = said.lines();
    let first = lines.next().unwrap_or_default().to_owned();
    assert!(first.starts_with("event=device device=cpu "), "{said}");
    assert!(first.ends_with("; models run on the CPU\""), "{said}");
    assert!(!lines.any(|line| line.contains("event=device")), "{said}");
    // It went on to the models, and nothing panicked on the way.
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("none.gguf") && !said.contains("panicked"),
        "{said}"
    );
    first
}

#[track_caller]
fn check(driver: &FakeDriver, expected: &str) {
    let line = device_line(&serve(Some(driver.build())));
    assert!(line.contains(expected), "{line:?} lacks {expected:?}");
}

/// On any machine: one sentence, which without a driver is that there is none.
#[test]
fn the_machine_as_it_is_gets_one_line() {
    let line = device_line(&serve(None));
    let expected = match FoundCard::find(0) {
        Ok(found) => found.properties.name,
        Err(error) => error.to_string(),
    };
    assert!(line.contains(&expected), "{line:?} lacks {expected:?}");
}

/// Whatever is wrong with the driver, models are served.
#[test]
fn it_serves_beside_a_driver_that_is_too_old() {
    let old = FakeDriver {
        name: "old-beside",
        driver: 12_040,
        ..GOOD
    };
    let models = concat!(env!("CARGO_MANIFEST_DIR"), "/../.farthing/models");
    let config = scratch("small.yaml");
    let path = format!("{models}/smollm2-135m-instruct.gguf");
    let yaml = format!("listen: 127.0.0.1:0\nmodels: [{{id: smollm2, path: {path}}}]\n");
    fs::write(&config, yaml).expect("the target folder is writable");
    let mut child = Command::new(env!("CARGO_BIN_EXE_farthing"))
        .arg("serve")
        .arg("--config")
        .arg(&config)
        .env("LD_LIBRARY_PATH", before_others(old.build()))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary starts");
    let mut line = String::new();
    let stdout = child.stdout.take().expect("it is piped");
    let read = BufReader::new(stdout).read_line(&mut line);
    // Ended before anything can fail.
    let _ = child.kill();
    let _ = child.wait();
    read.expect("it prints a line");
    assert!(line.starts_with("ready http://127.0.0.1:"), "{line:?}");
}

#[test]
fn a_driver_that_is_too_old_is_named_with_what_is_needed() {
    let old = FakeDriver {
        name: "old",
        driver: 12_040,
        // It is asked no further.
        init: 999,
        ..GOOD
    };
    check(
        &old,
        "reason=\"the CUDA driver is too old: it speaks CUDA 12.4, 13.0 is needed;",
    );
}

#[test]
fn a_card_that_is_too_old_is_named_with_what_is_needed() {
    let turing = FakeDriver {
        name: "turing",
        capability: (7, 5),
        ..GOOD
    };
    let expected = "reason=\"Fake card 3000 has compute capability 7.5; the kernels need 8.0 or \
        later;";
    check(&turing, expected);
}

#[test]
fn a_driver_without_a_card_says_so() {
    let empty = FakeDriver {
        name: "empty",
        devices: 0,
        ..GOOD
    };
    check(
        &empty,
        "reason=\"no CUDA device: the driver sees 0 devices,",
    );
    let hidden = FakeDriver {
        name: "hidden",
        init: 100, // CUDA_ERROR_NO_DEVICE
        ..GOOD
    };
    check(
        &hidden,
        "reason=\"no CUDA device: the driver sees 0 devices,",
    );
}

#[test]
fn a_driver_that_does_not_start_says_why() {
    let broken = FakeDriver {
        name: "broken",
        init: 999, // CUDA_ERROR_UNKNOWN
        ..GOOD
    };
    check(
        &broken,
        "reason=\"CUDA cannot start the driver: unknown error (CUDA_ERROR_UNKNOWN);",
    );
}

#[test]
fn a_card_that_would_do_is_named_and_not_used_yet() {
    let line = device_line(&serve(Some(GOOD.build())));
    for expected in [
        " card=\"Fake card 3000\" capability=9.0 cuda=13.0 ",
        " reason=\"the engine does not use cards yet;",
    ] {
        assert!(line.contains(expected), "{line:?} lacks {expected:?}");
    }
}
