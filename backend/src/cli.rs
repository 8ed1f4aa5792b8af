//! The command line: what a person types, before it is checked against the configuration file.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// `farthing`: the backend of Farthing.
#[derive(Debug, Parser)]
#[command(
    name = "farthing",
    about = "Serves quantized models behind an OpenAI-compatible API"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands of `farthing`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Load the models and answer requests until SIGINT or SIGTERM.
    Serve(ServeArgs),
}

/// Flags of `farthing serve`; each one given wins over the same field of the configuration file.
#[derive(Debug, Default, Args)]
pub struct ServeArgs {
    /// Folder with the models: every *.gguf, and every folder that holds a model.safetensors.
    #[arg(long, value_name = "DIR")]
    pub models: Option<PathBuf>,
    /// Address to listen on; port 0 takes a free one, printed in the `ready` line.
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    /// Configuration file (YAML).
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Threads that compute.
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// Print the configuration in force, every default included, and exit.
    #[arg(long)]
    pub print_config: bool,
}
