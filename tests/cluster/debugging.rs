//! `/api/debug`: everything at once, for operators only, without secrets, from the first moment.

use serde_json::Value;

use crate::support::cluster::client;
use crate::support::process::{Launch, bare_env};

/// What must not be told.
const PLANTED: [(&str, &str); 6] = [
    ("BATON_POSTGRES__URL", "postgres://baton:planted-postgres@127.0.0.1:1/baton"),
    ("BATON_REDIS__URL", "redis://:planted-redis@127.0.0.1:1/0"),
    ("BATON_BROKER__URL", "http://me:planted-bridge@127.0.0.1:1"),
    ("BATON_BROKER__API_KEY", "planted-key"),
    ("BATON_SIGNALS__TOKEN", "planted-sender"),
    ("BATON_OPERATOR__TOKEN", "planted-operator"),
];

// R: K1, K2
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_debug_document_is_for_operators_and_holds_no_secret_even_while_nothing_answers() {
    let folder = tempfile::tempdir().unwrap();
    let mut env = bare_env();
    let plain = [
        ("BATON_CLUSTER__MEMBER", "b1"),
        ("BATON_HTTP__LISTEN", "127.0.0.1:0"),
        ("BATON_TRADING__CAPITAL", "1000000"),
    ];
    env.extend(plain.into_iter().chain(PLANTED).map(|(key, value)| (key.to_owned(), value.to_owned())));
    let arguments = ["run", "-o", "json"].map(str::to_owned).to_vec();
    let log = folder.path().join("b1.log");
    let (_process, announced) =
        Launch { arguments, env, folder: folder.path().to_owned(), log }.announced().await;
    let url = format!("{}/api/debug", announced["address"].as_str().expect("it says where it listens"));
    let client = client();
    for token in [None, Some("planted-sender"), Some("wrong")] {
        let request = client.get(&url);
        let request =
            token.map_or(request.try_clone().expect("it has no body"), |token| request.bearer_auth(token));
        let refused = request.send().await.unwrap();
        assert_eq!(refused.status(), 401, "{token:?}");
        assert!(!refused.text().await.unwrap().contains("fingerprint"), "{token:?}");
    }
    let answer = client.get(&url).bearer_auth("planted-operator").send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let text = answer.text().await.unwrap();
    assert!(!text.contains("planted"), "{text}");
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["version"], env!("CARGO_PKG_VERSION"), "{document}");
    assert!(document["process"]["resident_kib"].as_u64() > Some(0), "{document}");
    assert!(document["operational"]["state"].is_string() && document["checks"].is_object(), "{document}");
    let entries = document["configuration"]["entries"].as_array().expect("every setting");
    let of = |key: &str| &entries.iter().find(|entry| entry["key"] == key).expect("it is a setting")["value"];
    assert_eq!((of("signals.token"), of("cluster.member")), (&"***".into(), &"b1".into()));
    assert_eq!(document["leadership"], Value::Null, "it has not joined");
}
