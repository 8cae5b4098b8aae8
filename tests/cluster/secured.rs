//! PostgreSQL over TLS: every session of a member, and what it says when the certificate is not to be trusted.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use rust_decimal::dec;

use crate::signals::{GOLD, GOLD_SYMBOL, base};
use crate::support::cluster::{Cluster, Options, PATIENCE};
use crate::support::member::Member;
use crate::support::{database, wait};

fn certificate(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broker/certs").join(name)
}

/// Gives the private server a certificate for `localhost`.
async fn secure(url: &str) {
    let sql = database::connect(url).await;
    let data: String = sql.query_one("SHOW data_directory", &[]).await.unwrap().get(0);
    let owner = std::fs::metadata(&data).unwrap();
    for name in ["localhost.crt", "localhost.key"] {
        let place = Path::new(&data).join(name);
        std::fs::copy(certificate(name), &place).unwrap();
        std::fs::set_permissions(&place, PermissionsExt::from_mode(0o600)).unwrap();
        chown(&place, Some(owner.uid()), Some(owner.gid())).unwrap();
    }
    for set in [
        "ALTER SYSTEM SET ssl_cert_file = 'localhost.crt'",
        "ALTER SYSTEM SET ssl_key_file = 'localhost.key'",
        "ALTER SYSTEM SET ssl = on",
        "SELECT pg_reload_conf()",
    ] {
        sql.batch_execute(set).await.unwrap();
    }
    wait::until("PostgreSQL offers TLS", PATIENCE, async || {
        let on: String = sql.query_one("SHOW ssl", &[]).await.unwrap().get(0);
        if on == "on" { Ok(()) } else { Err(on) }
    })
    .await;
}

// R: H3
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_session_to_postgresql_is_encrypted_and_verified() {
    let mut secured = false;
    let cluster = Cluster::wired(Options { members: 2, ..Options::default() }, async |launch| {
        let url = launch.env["BATON_POSTGRES__URL"].clone();
        if !secured {
            secure(&url).await;
            secured = true;
        }
        let url = format!("{}?sslmode=verify-full", url.replace("127.0.0.1", "localhost"));
        launch.env.insert("BATON_POSTGRES__URL".to_owned(), url);
        let ca = certificate("localhost.crt").display().to_string();
        launch.env.insert("BATON_POSTGRES__CA_FILE".to_owned(), ca);
    })
    .await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    let entered = cluster.play(0, &base("in", GOLD, 140_000)).await;
    assert_eq!(entered["status"], "executed", "{entered}");
    let counted =
        "SELECT count(*) FILTER (WHERE s.ssl), count(*), string_agg(DISTINCT a.application_name, ' ')
        FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) WHERE a.application_name LIKE 'baton/%'";
    let row = cluster.sql.query_one(counted, &[]).await.unwrap();
    let (encrypted, all, names): (i64, i64, String) = (row.get(0), row.get(1), row.get(2));
    println!("{encrypted} of {all} sessions are encrypted: {names}");
    assert_eq!(encrypted, all);
    for purpose in ["pin", "observer", "identity"] {
        assert!(names.contains(&format!("/{purpose}")), "{names}");
    }

    // Verbs that open the database themselves do it the same way.
    for verb in [&["recover", "--check"][..], &["audit", "verify"]] {
        let output = cluster.baton(verb).await;
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(0), "{verb:?}: {said}");
    }
    let nobody = uuid::Uuid::now_v7().to_string();
    let word =
        ["orders", "resolve", &nobody, "--as", "abandoned", "--evidence", "the desk", "--operator", "asha"];
    let output = cluster.baton(&word).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains(&format!("there is no order {nobody}")), "it reached the database: {said}");

    // A certificate that nobody vouches for, and one for another name: neither is believed.
    for (number, url, ca) in [
        (8, cluster.members[0].launch.env["BATON_POSTGRES__URL"].clone(), None),
        (
            9,
            cluster.stores.database_url().replace("127.0.0.1", "127.0.0.2") + "?sslmode=verify-full",
            Some(()),
        ),
    ] {
        let name = format!("b{number}");
        let mut launch = cluster.members[0].launch.clone();
        launch.env.insert("BATON_CLUSTER__MEMBER".to_owned(), name.clone());
        launch.env.insert("BATON_POSTGRES__URL".to_owned(), url);
        if ca.is_none() {
            launch.env.remove("BATON_POSTGRES__CA_FILE");
        }
        launch.log = cluster.folder().join(format!("{name}.log"));
        let member = Member::start(&name, launch, cluster.client.clone()).await;
        wait::until("it says why it waits", PATIENCE, async || {
            let health = member.json("/healthz").await.unwrap_or_default();
            let reason = health["operational"]["reason"].as_str().unwrap_or_default().to_lowercase();
            let fits = reason.contains("db_unavailable") && (ca.is_some() || reason.contains("certificate"));
            if fits { Ok(()) } else { Err(health) }
        })
        .await;
    }
    cluster.finish().await;
}
