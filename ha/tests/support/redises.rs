//! Redis servers beyond the one of the private stores: with TLS, and a master, a replica and three sentinels.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, TlsCertificates};
use tempfile::TempDir;

use super::{World, eventually};

/// The password of every server here, and of every sentinel.
pub const PASSWORD: &str = "s3cret";
pub const SENTINEL_PASSWORD: &str = "s3ntinel";
/// What the sentinels call the master.
pub const MASTER: &str = "baton";

/// A server process; ends when dropped, and with the test whatever happens to it.
pub struct Server {
    child: Child,
    pub port: u16,
}

/// A master, its replica and three sentinels.
pub struct Trio {
    pub master: Server,
    pub replica: Server,
    pub sentinels: Vec<Server>,
    _folder: TempDir,
}

impl Server {
    fn start(program: &Path, folder: &Path, port: u16, arguments: &[String]) -> Self {
        let log = std::fs::File::create(folder.join(format!("{port}.log"))).unwrap();
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(program)
            .args(arguments)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(log)
            .spawn()
            .expect("`setpriv` (util-linux) starts the server");
        Self { child, port }
    }

    pub fn kill(&mut self) {
        // An error means that it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

pub fn certificate() -> (PathBuf, PathBuf) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/broker/certs");
    (folder.join("localhost.crt"), folder.join("localhost.key"))
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(|word| if word == "''" { String::new() } else { word.to_owned() }).collect()
}

/// A connection of the test's own, once the server answers.
pub async fn connected(url: &str, ca: Option<Vec<u8>>) -> MultiplexedConnection {
    let certificates = TlsCertificates { client_tls: None, root_cert: ca };
    let client = match url.starts_with("rediss") {
        true => Client::build_with_tls(url, certificates).unwrap(),
        false => Client::open(url).unwrap(),
    };
    let settings = AsyncConnectionConfig::new();
    eventually("Redis answers", async || {
        let mut connection = client.get_multiplexed_async_connection_with_config(&settings).await.ok()?;
        redis::cmd("PING").query_async::<String>(&mut connection).await.ok()?;
        Some(connection)
    })
    .await
}

/// A server that speaks TLS only.
pub async fn with_tls(world: &World, folder: &Path) -> Server {
    let port = free_port();
    let (cert, key) = certificate();
    let arguments = words(&format!(
        "--port 0 --tls-port {port} --tls-cert-file {cert} --tls-key-file {key} --tls-ca-cert-file {cert} \
         --tls-auth-clients no --bind 127.0.0.1 --save '' --requirepass {PASSWORD}",
        cert = cert.display(),
        key = key.display(),
    ));
    Server::start(world.stores.redis().program(), folder, port, &arguments)
}

impl Trio {
    /// Starts it all; returns when the sentinels know each other and the replica.
    pub async fn start(world: &World) -> Self {
        let (folder, program) = (tempfile::tempdir().unwrap(), world.stores.redis().program());
        let server = |port: u16, more: &str| {
            let text = format!(
                "--port {port} --bind 127.0.0.1 --save '' --requirepass {PASSWORD} --masterauth {PASSWORD} \
                 --repl-diskless-sync-delay 0 {more}"
            );
            Server::start(program, folder.path(), port, &words(&text))
        };
        let (first, second) = (free_port(), free_port());
        let master = server(first, "");
        let replica = server(second, &format!("--replica-read-only no --replicaof 127.0.0.1 {first}"));
        let mut sentinels = Vec::new();
        for number in 0..3 {
            let (port, path) = (free_port(), folder.path().join(format!("sentinel{number}.conf")));
            let text = format!(
                "port {port}\nbind 127.0.0.1\nrequirepass {SENTINEL_PASSWORD}\nsentinel sentinel-pass {SENTINEL_PASSWORD}\n\
                 sentinel monitor {MASTER} 127.0.0.1 {first} 2\nsentinel auth-pass {MASTER} {PASSWORD}\n\
                 sentinel down-after-milliseconds {MASTER} 500\nsentinel failover-timeout {MASTER} 3000\n"
            );
            std::fs::write(&path, text).unwrap();
            let arguments = [path.display().to_string(), "--sentinel".to_owned()];
            sentinels.push(Server::start(program, folder.path(), port, &arguments));
        }
        let trio = Self { master, replica, sentinels, _folder: folder };
        for sentinel in &trio.sentinels {
            let mut connection = connected(&trio.sentinel_url(sentinel), None).await;
            eventually("the sentinel knows the others and the replica", async || {
                let mut ask = redis::cmd("SENTINEL");
                ask.arg("MASTER").arg(MASTER);
                let state: std::collections::HashMap<String, String> =
                    ask.query_async(&mut connection).await.ok()?;
                let known = (state.get("num-other-sentinels")?.as_str(), state.get("num-slaves")?.as_str());
                (known == ("2", "1")).then_some(())
            })
            .await;
        }
        trio
    }

    pub fn sentinel_url(&self, sentinel: &Server) -> String {
        format!("redis://:{SENTINEL_PASSWORD}@127.0.0.1:{}", sentinel.port)
    }

    /// What a member is told.
    pub fn access(&self) -> ha::Redis {
        let urls = self.sentinels.iter().map(|sentinel| self.sentinel_url(sentinel)).collect();
        let sentinel = Some(ha::Sentinel { urls, master: MASTER.to_owned() });
        ha::Redis { sentinel, ..ha::Redis::at(format!("redis://:{PASSWORD}@the-sentinels-say/0")) }
    }

    pub async fn connect(&self, server: &Server) -> MultiplexedConnection {
        connected(&format!("redis://:{PASSWORD}@127.0.0.1:{}", server.port), None).await
    }
}
