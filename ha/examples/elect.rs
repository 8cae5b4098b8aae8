//! Elects a leader among three processes.
//!
//! `cargo run -p ha --example elect -- postgres://… redis://…` becomes three processes, b1 to b3, and each
//! tells when it leads. Kill the leader (`kill -9 PID`): another one leads at once. Ctrl-C ends them all.

use std::error::Error;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::Duration;

use ha::{BootClock, Config, Handle, Member, OnHang, PgTls, Role, Status, Timing};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    match args.as_slice() {
        [_, postgres, redis] => three_processes(postgres, redis).await,
        [_, postgres, redis, name] => member(postgres, redis, name).await,
        _ => Err("usage: elect POSTGRES_URL REDIS_URL".into()),
    }
}

async fn three_processes(postgres: &str, redis: &str) -> Result<(), Box<dyn Error>> {
    let (client, connection) = tokio_postgres::connect(postgres, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    client.batch_execute(ha::SCHEMA).await.ok(); // it may be there already
    let me = std::env::current_exe()?;
    let start = |name: &str| Command::new(&me).args([postgres, redis, name]).spawn();
    let members: Vec<Child> = ["b1", "b2", "b3"].into_iter().map(start).collect::<Result<_, _>>()?;
    Ok(members.into_iter().try_for_each(|mut member| member.wait().map(drop))?)
}

async fn member(postgres: &str, redis: &str, name: &str) -> Result<(), Box<dyn Error>> {
    let config = Config {
        cluster: "example".to_owned(),
        member: Member::new(name)?,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        build: 0,
        address: String::new(),
        priority: 1,
        timing: Timing::for_ttl(Duration::from_secs(3)),
        postgres: postgres.parse()?,
        tls: PgTls::None,
        redis: ha::Redis::at(redis),
        on_hang: OnHang::Abort,
    };
    let handle = Handle::join(config, Arc::new(BootClock)).await?;
    handle.set_status(Status::Active).await; // ready to lead
    let (mut role, pulse) = (handle.role(), handle.pulse());
    loop {
        pulse.beat(); // without it this process would be replaced
        if let Role::Leader(fence) = &*role.borrow_and_update() {
            println!("{name} (pid {}) leads under epoch {}", std::process::id(), fence.epoch());
        }
        let _ = tokio::time::timeout(Duration::from_millis(100), role.changed()).await;
    }
}
