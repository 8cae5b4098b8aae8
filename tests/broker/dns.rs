//! Name resolution against a DNS server that refuses, denies, hangs and lies.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use baton::broker::dns::{DnsSettings, Resolver};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::names::{Double, Manner};

const HOST: &str = "bridge.example";
const ONE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1));
const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

fn settings(servers: &[&Double]) -> DnsSettings {
    DnsSettings {
        servers: servers.iter().map(|server| server.address).collect(),
        timeout: Duration::from_secs(5),
        head_start: Duration::from_millis(50),
        negative_ttl: Duration::from_millis(50),
    }
}

#[tokio::test]
async fn whatever_the_system_does_wrong_a_configured_server_is_used_at_the_first_try() {
    for wrong in [Manner::Refuses, Manner::Denies, Manner::LiesEmpty, Manner::Hangs] {
        let system = Double::start(wrong).await;
        let server = Double::start(Manner::Answers(ONE, 60)).await;
        let resolver = Resolver::instead_of_system(system.address, settings(&[&server]));
        let begun = Instant::now();
        assert_eq!(resolver.resolve(HOST).await.unwrap(), [ONE], "{wrong:?}");
        assert!(begun.elapsed() < Duration::from_secs(4), "{wrong:?}: waited for the system's time-out");
        assert_eq!(resolver.known()[0].via, Some("server"));
    }
}

#[tokio::test]
async fn the_system_is_asked_first_and_answers_are_kept_for_their_time() {
    let system = Double::start(Manner::Answers(ONE, 60)).await;
    let server = Double::start(Manner::Answers(OTHER, 60)).await;
    let resolver = Resolver::instead_of_system(
        system.address,
        DnsSettings { head_start: Duration::from_secs(4), ..settings(&[&server]) },
    );
    for _ in 0..20 {
        assert_eq!(resolver.resolve(HOST).await.unwrap(), [ONE]);
    }
    assert_eq!((system.asked(), server.asked()), (1, 0));
}

#[tokio::test]
async fn when_nobody_answers_the_last_good_address_is_used_at_once() {
    let system = Double::start(Manner::Answers(ONE, 60)).await;
    let server = Double::start(Manner::Hangs).await;
    let resolver = Resolver::instead_of_system(system.address, settings(&[&server]));
    assert_eq!(resolver.resolve(HOST).await.unwrap(), [ONE]);
    for wrong in [Manner::Hangs, Manner::LiesEmpty, Manner::Refuses] {
        system.now(wrong);
        resolver.doubt(HOST);
        let begun = Instant::now();
        assert_eq!(resolver.resolve(HOST).await.unwrap(), [ONE], "{wrong:?}");
        assert!(begun.elapsed() < Duration::from_secs(3), "{wrong:?}: waited for a time-out");
    }
}

// An order's connection has no time to spare: what every caller waits for in vain, an exit waits for in vain.
#[tokio::test]
async fn once_resolvers_are_known_to_be_dead_nobody_waits_for_them() {
    let system = Double::start(Manner::Answers(ONE, 60)).await;
    let brief = DnsSettings { timeout: Duration::from_secs(1), ..settings(&[]) };
    let resolver = Resolver::instead_of_system(system.address, brief);
    assert_eq!(resolver.resolve(HOST).await.unwrap(), [ONE]);
    system.now(Manner::Hangs);
    resolver.doubt(HOST);
    let failed = async {
        while !resolver.known()[0].stale {
            assert_eq!(resolver.resolve(HOST).await.unwrap(), [ONE]);
        }
    };
    timeout(Duration::from_secs(10), failed).await.expect("the question fails");
    let mut longest = Duration::ZERO;
    for _ in 0..10 {
        // Past the failure's own time: the next caller puts a new question.
        tokio::time::sleep(Duration::from_millis(60)).await;
        let begun = Instant::now();
        assert_eq!(resolver.resolve(HOST).await.unwrap(), [ONE]);
        longest = longest.max(begun.elapsed());
    }
    assert!(longest < Duration::from_millis(120), "{longest:?}");
    system.now(Manner::Answers(OTHER, 60));
    let moved = async {
        while resolver.resolve(HOST).await.unwrap() != [OTHER] {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(10), moved).await.expect("it is asked all the same");
}

#[tokio::test]
async fn a_name_that_moved_is_followed_once_its_address_is_doubted() {
    let system = Double::start(Manner::Answers(ONE, 60)).await;
    let resolver = Resolver::instead_of_system(
        system.address,
        DnsSettings { head_start: Duration::from_secs(4), ..settings(&[]) },
    );
    assert_eq!(resolver.resolve(HOST).await.unwrap(), [ONE]);
    system.now(Manner::Answers(OTHER, 60));
    assert_eq!(resolver.resolve(HOST).await.unwrap(), [ONE], "within its time");
    resolver.doubt(HOST);
    assert_eq!(resolver.resolve(HOST).await.unwrap(), [OTHER]);
}

#[tokio::test]
async fn a_failure_is_remembered_for_a_moment_only() {
    let system = Double::start(Manner::Denies).await;
    let resolver = Resolver::instead_of_system(
        system.address,
        DnsSettings { negative_ttl: Duration::from_secs(600), ..settings(&[]) },
    );
    let error = resolver.resolve(HOST).await.unwrap_err();
    assert!(error.to_string().starts_with("cannot resolve bridge.example"), "{error}");
    let asked = system.asked();
    assert!(resolver.resolve(HOST).await.is_err());
    assert_eq!(system.asked(), asked, "the failure was not remembered");

    let system = Double::start(Manner::Denies).await;
    let resolver = Resolver::instead_of_system(system.address, settings(&[]));
    assert!(resolver.resolve(HOST).await.is_err());
    system.now(Manner::Answers(ONE, 60));
    let healed = async {
        while resolver.resolve(HOST).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), healed).await.unwrap();
}

#[tokio::test]
async fn many_callers_are_one_question_and_one_that_gives_up_takes_no_answer_along() {
    let system = Double::start(Manner::Hangs).await;
    let server = Double::start(Manner::Answers(ONE, 60)).await;
    let slow = DnsSettings { head_start: Duration::from_millis(300), ..settings(&[&server]) };
    let resolver = Resolver::instead_of_system(system.address, slow);
    let impatient = timeout(Duration::from_millis(20), resolver.resolve(HOST)).await;
    assert!(impatient.is_err());
    let callers = (0..50).map(|_| resolver.resolve(HOST));
    for found in futures_util::future::join_all(callers).await {
        assert_eq!(found.unwrap(), [ONE]);
    }
    assert_eq!(server.asked(), 1);
}

#[tokio::test]
async fn literals_and_local_names_need_no_server() {
    let server = Double::start(Manner::Hangs).await;
    let resolver = Resolver::new(settings(&[&server]), None);
    assert_eq!(resolver.resolve("127.0.0.1").await.unwrap(), [ONE]);
    assert!(!resolver.resolve("localhost").await.unwrap().is_empty());
    assert_eq!(server.asked(), 0);
}

/// An address that takes no connection and refuses none: its queue is full, and further handshakes are dropped.
struct Swallowing {
    listener: socket2::Socket,
    _queued: Vec<std::net::TcpStream>,
}

impl Swallowing {
    async fn at(address: IpAddr, port: u16) -> Self {
        let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::new(address, port).into()).unwrap();
        listener.listen(0).unwrap();
        let at = listener.local_addr().unwrap().as_socket().unwrap();
        let mut queued = Vec::new();
        while let Ok(Ok(stream)) = timeout(Duration::from_millis(200), TcpStream::connect(at)).await {
            queued.push(stream.into_std().unwrap());
        }
        Self { listener, _queued: queued }
    }

    fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().as_socket().unwrap().port()
    }
}

// The bridge has moved, and its old host is gone: whoever gives up on that address asks for the name anew.
#[tokio::test]
async fn an_address_that_swallows_packets_is_asked_for_anew() {
    let gone = Swallowing::at(OTHER, 0).await;
    let bridge = tokio::net::TcpListener::bind((ONE, gone.port())).await.unwrap();
    let system = Double::start(Manner::Answers(OTHER, 60)).await;
    let resolver = Resolver::instead_of_system(system.address, settings(&[]));
    let given_up = timeout(Duration::from_millis(200), resolver.connect(HOST, gone.port())).await;
    assert!(given_up.is_err(), "{given_up:?}");
    system.now(Manner::Answers(ONE, 60));
    let moved = timeout(Duration::from_secs(5), resolver.connect(HOST, gone.port())).await;
    assert_eq!(moved.expect("in time").unwrap().peer_addr().unwrap(), bridge.local_addr().unwrap());
}

#[tokio::test]
async fn a_second_address_is_tried_while_the_first_one_swallows_packets() {
    let gone = Swallowing::at(OTHER, 0).await;
    let bridge = tokio::net::TcpListener::bind((ONE, gone.port())).await.unwrap();
    let system = Double::start(Manner::AnswersWithTwo(OTHER, ONE)).await;
    let resolver = Resolver::instead_of_system(system.address, settings(&[]));
    assert_eq!(resolver.resolve(HOST).await.unwrap(), [OTHER, ONE]);
    // An order's connection has two seconds.
    let connected = timeout(Duration::from_millis(1500), resolver.connect(HOST, gone.port())).await;
    assert_eq!(connected.expect("in time").unwrap().peer_addr().unwrap(), bridge.local_addr().unwrap());
}
