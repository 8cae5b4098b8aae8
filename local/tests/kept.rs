//! Kept stores: the same data at the next start, a password, one process at a time, clear refusals.

#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use local::{Binaries, Error, Options, Stores};
use tempfile::TempDir;
use tokio_postgres::NoTls;

/// A directory the servers' account may enter.
fn place() -> TempDir {
    let place = tempfile::tempdir().unwrap();
    std::fs::set_permissions(place.path(), PermissionsExt::from_mode(0o711)).unwrap();
    place
}

fn options(dir: &Path) -> Options {
    Options { dir: dir.join("stores"), durable: true, binaries: Binaries::from_env() }
}

async fn sql(url: &str, statement: &str) -> Option<i32> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client.query_opt(statement, &[]).await.unwrap().map(|row| row.get(0))
}

async fn redis_connection(url: &str) -> redis::RedisResult<redis::aio::MultiplexedConnection> {
    redis::Client::open(url)?.get_multiplexed_async_connection().await
}

#[tokio::test]
async fn data_are_there_at_the_next_start_and_commits_are_synced() {
    let place = place();
    let stores = Stores::start(options(place.path())).await.unwrap();
    sql(&stores.database_url(), "create table t as select 7 as x").await;
    assert_eq!(sql(&stores.database_url(), "select 1 where current_setting('fsync') = 'on'").await, Some(1));
    let mut connection = redis_connection(&stores.redis_url()).await.unwrap();
    let () = redis::cmd("SET").arg("k").arg("v").query_async(&mut connection).await.unwrap();
    stores.stop().await.unwrap();

    let stores = Stores::start(options(place.path())).await.unwrap();
    assert_eq!(sql(&stores.database_url(), "select x from t").await, Some(7));
    let mut connection = redis_connection(&stores.redis_url()).await.unwrap();
    let value: String = redis::cmd("GET").arg("k").query_async(&mut connection).await.unwrap();
    assert_eq!(value, "v");
}

#[tokio::test]
async fn both_servers_demand_the_password_of_a_private_file() {
    let place = place();
    let stores = Stores::start(options(place.path())).await.unwrap();
    let file = place.path().join("stores/password");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let password = std::fs::read_to_string(file).unwrap();
    assert_eq!(password.len(), 48);

    let wrong = stores.database_url().replace(&password, "wrong");
    let refused = tokio_postgres::connect(&wrong, NoTls).await.err().unwrap();
    assert_eq!(refused.code(), Some(&tokio_postgres::error::SqlState::INVALID_PASSWORD));
    let anonymous = format!("redis://127.0.0.1:{}/", stores.redis().port());
    let mut connection = redis_connection(&anonymous).await.unwrap();
    let refused: redis::RedisResult<String> = redis::cmd("PING").query_async(&mut connection).await;
    assert_eq!(refused.unwrap_err().code(), Some("NOAUTH"));
}

#[tokio::test]
async fn a_second_holder_is_refused_by_name() {
    let place = place();
    let _stores = Stores::start(options(place.path())).await.unwrap();
    let refused = Stores::start(options(place.path())).await.unwrap_err();
    assert!(matches!(&refused, Error::InUse { .. }), "{refused:?}");
    assert!(refused.to_string().contains(&std::process::id().to_string()), "{refused}");
}

#[tokio::test]
async fn a_first_start_cut_short_is_repeated() {
    let place = place();
    let half_made = place.path().join("stores/postgres.new");
    std::fs::create_dir_all(&half_made).unwrap();
    std::fs::set_permissions(place.path().join("stores"), PermissionsExt::from_mode(0o711)).unwrap();
    std::fs::write(half_made.join("PG_VERSION"), "15").unwrap();
    let stores = Stores::start(options(place.path())).await.unwrap();
    assert_eq!(sql(&stores.database_url(), "select 1").await, Some(1));
}

#[tokio::test]
async fn a_failed_start_shows_the_servers_last_words() {
    let place = place();
    let stores = Stores::start(options(place.path())).await.unwrap();
    stores.stop().await.unwrap();
    let version = place.path().join("stores/postgres/PG_VERSION");
    std::fs::write(version, "7\n").unwrap();
    let failed = Stores::start(options(place.path())).await.unwrap_err();
    let Error::Postgres(cause) = failed else { panic!("{failed:?}") };
    assert!(cause.to_string().contains("database files are incompatible"), "{cause}");
}

#[tokio::test]
async fn a_missing_program_is_named_with_what_to_do() {
    let place = place();
    let mut wrong = options(place.path());
    wrong.binaries.redis = Some(place.path().join("no-redis"));
    let Error::Binaries(cause) = Stores::start(wrong).await.unwrap_err() else { panic!("started") };
    assert!(cause.to_string().contains("correct or unset it"), "{cause}");
}

#[tokio::test]
async fn a_lost_password_file_is_named_before_anything_starts() {
    let place = place();
    let stores = Stores::start(options(place.path())).await.unwrap();
    stores.stop().await.unwrap();
    let file = place.path().join("stores/password");
    std::fs::remove_file(&file).unwrap();
    let refused = Stores::start(options(place.path())).await.unwrap_err();
    assert!(matches!(&refused, Error::PasswordLost(named) if *named == file), "{refused:?}");
    assert!(!file.exists(), "a new password would not open the old data");
}
