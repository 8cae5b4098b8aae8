//! A DNS server on loopback, of changing manners.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::net::UdpSocket;

/// How a DNS server behaves.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Manner {
    /// Answers with the address, for this many seconds.
    Answers(IpAddr, u32),
    /// Answers with both addresses, in this order, for a minute.
    AnswersWithTwo(IpAddr, IpAddr),
    /// RCODE 5.
    Refuses,
    /// RCODE 3.
    Denies,
    /// Says success and nothing more.
    LiesEmpty,
    /// Takes the question and is silent.
    Hangs,
}

/// The server; it ends with its runtime.
pub struct Double {
    pub address: SocketAddr,
    manner: Arc<Mutex<Manner>>,
    asked: Arc<AtomicUsize>,
}

impl Double {
    pub async fn start(manner: Manner) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let manner = Arc::new(Mutex::new(manner));
        let asked = Arc::new(AtomicUsize::new(0));
        let (behaves, counts) = (Arc::clone(&manner), Arc::clone(&asked));
        tokio::spawn(async move {
            let mut packet = [0; 512];
            loop {
                let (length, peer) = socket.recv_from(&mut packet).await.unwrap();
                counts.fetch_add(1, Ordering::SeqCst);
                let manner = *behaves.lock().unwrap();
                if let Some(answer) = answer(&packet[..length], manner) {
                    socket.send_to(&answer, peer).await.unwrap();
                }
            }
        });
        Self { address, manner, asked }
    }

    pub fn now(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }

    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// Header and question are sent back; an A question gets the address.
fn answer(question: &[u8], manner: Manner) -> Option<Vec<u8>> {
    let name_end = 12 + question[12..].iter().position(|byte| *byte == 0)? + 1;
    let is_a = question[name_end..name_end + 2] == [0, 1];
    let rcode = match manner {
        Manner::Hangs => return None,
        Manner::Refuses => 5,
        Manner::Denies => 3,
        Manner::Answers(..) | Manner::AnswersWithTwo(..) | Manner::LiesEmpty => 0,
    };
    let mut answer = question[..name_end + 4].to_vec();
    answer[2] = 0x81;
    answer[3] = 0x80 | rcode;
    answer[6..12].fill(0);
    let (addresses, ttl) = match manner {
        Manner::Answers(address, ttl) => (vec![address], ttl),
        Manner::AnswersWithTwo(first, second) => (vec![first, second], 60),
        _ => (Vec::new(), 0),
    };
    for address in addresses.into_iter().filter(|_| is_a) {
        let IpAddr::V4(address) = address else { continue };
        answer[7] += 1;
        answer.extend([0xc0, 12, 0, 1, 0, 1]);
        answer.extend(ttl.to_be_bytes());
        answer.extend([0, 4]);
        answer.extend(address.octets());
    }
    Some(answer)
}
