//! The `baton` binary: reads the command line and hands over.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    // One TLS provider for every client of the process; before anything can build one.
    rustls::crypto::ring::default_provider().install_default().expect("nothing ran before this");
    baton::cli::main(baton::cli::Cli::parse())
}
