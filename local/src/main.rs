//! Starts temporary stores and prints where they are, until standard input ends or Ctrl-C.
//!
//! For a developer who wants a database to look at, and for the test that kills its parent:
//! ```text
//! cargo run -p local
//! ```

use std::process::ExitCode;

use local::{Binaries, Options, Stores};

/// `baton-stores [DIR]`: kept in DIR when one is given, temporary otherwise.
#[tokio::main]
async fn main() -> ExitCode {
    let started = match std::env::args_os().nth(1) {
        Some(dir) => {
            let options = Options { dir: dir.into(), durable: true, binaries: Binaries::from_env() };
            Stores::start(options).await
        }
        None => Stores::temporary().await,
    };
    let stores = match started {
        Ok(stores) => stores,
        Err(error) => {
            report(&error);
            return ExitCode::FAILURE;
        }
    };
    println!("postgres_url={}", stores.database_url());
    println!("postgres_pid={}", stores.postgres().pid().unwrap_or_default());
    println!("postgres_log={}", stores.postgres().log().display());
    println!("redis_url={}", stores.redis_url());
    println!("redis_pid={}", stores.redis().pid().unwrap_or_default());
    println!("ready");
    let (closed, input_closed) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        // Whether input ended or broke, whoever held its other end is gone.
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        closed.send(())
    });
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = input_closed => {}
    }
    match stores.stop().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error);
            ExitCode::FAILURE
        }
    }
}

/// Prints the error and everything that led to it.
fn report(error: &dyn std::error::Error) {
    eprintln!("baton-stores: {error}");
    let mut cause = error.source();
    while let Some(source) = cause {
        eprintln!("  because: {source}");
        cause = source.source();
    }
}
