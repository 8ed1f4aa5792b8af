//! `cargo xtask kernels`: compiles the CUDA kernels for every card, on a machine that needs none,
//! into one file that the backend is built with, and says what each kernel takes of a card.

mod resources;

use crate::error::XtaskError;
use crate::fetch::{self, CudaToolkit};
use crate::signals::Interrupt;
use crate::subprocess;
use farthing_host_tests::paths;
use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

/// Where the kernels lie, and the one that includes all.
const SOURCES: &str = "kernels/src/cuda";
const ROOT: &str = "all.cu";
const STANDARD: &str = "-std=c++17";

/// The intermediate language for an architecture, and the machine code that is made of it.
struct Family {
    ptx: &'static str,
    cubins: &'static [&'static str],
    /// Whether the intermediate language is kept too, for cards that there is no machine code for.
    kept: bool,
}

/// Both compile at the same time. What is for one kind of card only, such as the products of
/// warpgroups, is behind macros that are set for `compute_90a` alone, so that the others share.
const FAMILIES: [Family; 2] = [
    Family {
        ptx: "compute_80",
        cubins: &["sm_80", "sm_89"],
        kept: true,
    },
    Family {
        ptx: "compute_90a",
        cubins: &["sm_90a"],
        kept: false,
    },
];

/// Compiles the kernels, unless they are compiled, and prints what each takes.
pub fn run(interrupt: &Interrupt) -> Result<(), XtaskError> {
    make(interrupt)?;
    let table = resources_file();
    let text = fs::read_to_string(&table).map_err(XtaskError::file("read", &table))?;
    print!("{text}");
    println!("{}", file().display());
    Ok(())
}

/// Compiles the kernels, unless these sources were compiled by this compiler before.
pub fn make(interrupt: &Interrupt) -> Result<(), XtaskError> {
    let toolkit = fetch::cuda_toolkit(interrupt)?;
    if current().is_some() {
        return Ok(());
    }
    let made_from = made_from()?;
    let folder = paths::cuda_dir().join("build");
    fs::create_dir_all(&folder).map_err(XtaskError::file("make", &folder))?;
    let compiled = thread::scope(|scope| {
        let families = FAMILIES.each_ref().map(|family| {
            let (toolkit, folder) = (&toolkit, &folder);
            scope.spawn(move || compile(family, toolkit, folder, interrupt))
        });
        families.map(|family| {
            family.join().unwrap_or_else(|_| {
                let panicked = "a thread of ours panicked".to_string();
                Err(XtaskError::Unexpected(panicked))
            })
        })
    });
    let mut table = String::new();
    for family in compiled {
        table.push_str(&family?);
    }
    pack(&toolkit, &folder, interrupt)?;
    let texts = [(resources_file(), table), (stamp(), made_from)];
    for (path, text) in texts {
        fs::write(&path, text).map_err(XtaskError::file("write", &path))?;
    }
    Ok(())
}

/// The compiled kernels, if they are those of the sources as they are now.
pub fn current() -> Option<PathBuf> {
    let found = fs::read_to_string(stamp()).ok()?;
    let current = made_from().is_ok_and(|now| now == found) && file().exists();
    current.then(file)
}

fn file() -> PathBuf {
    paths::cuda_dir().join("farthing.fatbin")
}

fn stamp() -> PathBuf {
    paths::cuda_dir().join("farthing.fatbin.made-from")
}

fn resources_file() -> PathBuf {
    paths::cuda_dir().join("resources.txt")
}

/// The hash of everything that the compiled kernels depend on.
fn made_from() -> Result<String, XtaskError> {
    let mut files = sources(&paths::workspace_root().join(SOURCES))?;
    files.push(fetch::cuda_requirements());
    let mut hasher = Sha256::new();
    for family in &FAMILIES {
        hasher.update(format!(
            "{} {:?} {}\n",
            family.ptx, family.cubins, family.kept
        ));
    }
    hasher.update(STANDARD);
    for file in &files {
        let bytes = fs::read(file).map_err(XtaskError::file("read", file))?;
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        hasher.update(format!("\n{name} {}\n", bytes.len()));
        hasher.update(bytes);
    }
    Ok(fetch::hexadecimal(&hasher.finalize()))
}

/// Every CUDA source, in the order of their names.
fn sources(folder: &Path) -> Result<Vec<PathBuf>, XtaskError> {
    let failed = || XtaskError::file("read", folder);
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed())? {
        let path = entry.map_err(failed())?.path();
        if path
            .extension()
            .is_some_and(|end| end == "cu" || end == "cuh")
        {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Compiles for one family; answers the table of what its kernels take.
fn compile(
    family: &Family,
    toolkit: &CudaToolkit,
    folder: &Path,
    interrupt: &Interrupt,
) -> Result<String, XtaskError> {
    eprintln!("kernels: compiling for {}", family.ptx);
    let source = paths::workspace_root().join(SOURCES).join(ROOT);
    let ptx = folder.join(format!("{}.ptx", family.ptx));
    let mut nvcc = tool(toolkit, "nvcc")?;
    nvcc.args(["-ptx", STANDARD]);
    nvcc.arg(format!("-arch={}", family.ptx));
    nvcc.arg(source).arg("-o").arg(&ptx);
    say_warnings(step(&mut nvcc, family.ptx, interrupt)?.iter());
    let mut table = String::new();
    for architecture in family.cubins {
        eprintln!("kernels: assembling for {architecture}");
        let mut ptxas = tool(toolkit, "ptxas")?;
        ptxas.args(["-v", &format!("-arch={architecture}")]);
        ptxas.arg(&ptx).arg("-o").arg(cubin(folder, architecture));
        let output = step(&mut ptxas, architecture, interrupt)?;
        say_warnings(output.iter());
        table.push_str(&resources::table(architecture, &output)?);
    }
    Ok(table)
}

/// Puts what was compiled into one file, of which a driver takes what fits its card.
fn pack(toolkit: &CudaToolkit, folder: &Path, interrupt: &Interrupt) -> Result<(), XtaskError> {
    // Renamed when it is whole, and the stamp is written after it.
    let unfinished = folder.join("farthing.fatbin");
    let mut fatbinary = tool(toolkit, "fatbinary")?;
    let mut create = OsString::from("--create=");
    create.push(&unfinished);
    fatbinary.arg(create).arg("-64");
    for family in &FAMILIES {
        for architecture in family.cubins {
            let path = cubin(folder, architecture);
            fatbinary.arg(image("elf", architecture, &path));
        }
        if family.kept {
            let path = folder.join(format!("{}.ptx", family.ptx));
            fatbinary.arg(image("ptx", family.ptx, &path));
        }
    }
    step(&mut fatbinary, "one file", interrupt)?;
    fs::rename(&unfinished, file()).map_err(XtaskError::file("write", &file()))
}

fn image(kind: &str, architecture: &str, path: &Path) -> OsString {
    let number = architecture.trim_start_matches(|c: char| !c.is_ascii_digit());
    let mut image = OsString::from(format!("--image3=kind={kind},sm={number},file="));
    image.push(path);
    image
}

fn cubin(folder: &Path, architecture: &str) -> PathBuf {
    folder.join(format!("{architecture}.cubin"))
}

/// One of the compiler's programs; they find each other by the search path.
fn tool(toolkit: &CudaToolkit, name: &str) -> Result<Command, XtaskError> {
    let mut folders = vec![toolkit.programs()];
    if let Some(path) = std::env::var_os("PATH") {
        folders.extend(std::env::split_paths(&path));
    }
    let path = std::env::join_paths(folders)
        .map_err(|error| XtaskError::Unexpected(format!("the search path: {error}")))?;
    let mut command = Command::new(toolkit.program(name));
    command.env("PATH", path);
    Ok(command)
}

fn step(
    command: &mut Command,
    what: &str,
    interrupt: &Interrupt,
) -> Result<Vec<String>, XtaskError> {
    let finished = subprocess::run(command, interrupt, |_| {})?;
    finished.require_success(&format!("compiling the CUDA kernels for {what}"))
}

fn say_warnings<'a>(output: impl Iterator<Item = &'a String>) {
    for line in output.filter(|line| line.contains("warning")) {
        eprintln!("kernels: {line}");
    }
}

#[cfg(test)]
mod tests {
    use super::{FAMILIES, SOURCES, image};
    use farthing_host_tests::paths;
    use std::fs;
    use std::path::Path;

    /// What is compiled here and what is compiled at start are for the same cards.
    #[test]
    fn the_targets_are_those_of_the_loader() {
        let path = paths::workspace_root().join(SOURCES).join("sources.rs");
        let text = fs::read_to_string(path).expect("the loader's targets");
        let kept = FAMILIES.iter().filter(|family| family.kept);
        let made: Vec<&str> = FAMILIES
            .iter()
            .flat_map(|family| family.cubins.iter().copied())
            .chain(kept.map(|family| family.ptx))
            .collect();
        let of_loader = text.split("Target::").filter_map(|part| {
            let (_, rest) = part.split_once("=> \"")?;
            rest.split_once('"').map(|(name, _)| name)
        });
        let mut of_loader: Vec<&str> = of_loader.collect();
        of_loader.sort_unstable();
        let mut sorted = made.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, of_loader);
    }

    #[test]
    fn images_are_named_by_their_numbers() {
        let image = image("elf", "sm_90a", Path::new("a/b"));
        assert_eq!(image, "--image3=kind=elf,sm=90a,file=a/b");
    }
}
