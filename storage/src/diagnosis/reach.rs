//! The way to a server, and who listens at its end: says in plain words what a client's errors do not.

use std::io;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

/// Longest wait for a name, and then for a connection.
const STEP_MAX: Duration = Duration::from_secs(3);
/// Longest wait for the first bytes of an answer.
const ANSWER_MAX: Duration = Duration::from_millis(1_500);

/// The opening of a handshake, without any extension: whoever speaks TLS answers it, be it with an alert.
const CLIENT_HELLO: &[u8] = b"\x16\x03\x01\x00\x33\x01\x00\x00\x2f\x03\x03chat4all-doctor-looks-who-is-it.\
    \x00\x00\x08\xc0\x2f\xc0\x2b\x00\x9c\x00\x2f\x01\x00";
const HTTP_REQUEST: &[u8] = b"GET / HTTP/1.0\r\n\r\n";

/// A kind of server, and how it is known without TLS and without a login.
#[derive(Debug, Clone, Copy)]
pub struct Server {
    /// For people.
    pub name: &'static str,
    pub hello: &'static [u8],
    /// Whether an answer to `hello` begins like this.
    pub is_answer: fn(&[u8]) -> bool,
}

/// What came of trying some addresses.
#[derive(Debug, Default)]
pub struct Reached {
    /// Those that took a connection.
    pub addresses: Vec<String>,
    /// A text for each of the others.
    pub problems: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Listener {
    Ours,
    Tls,
    Http,
    Other,
}

impl Server {
    /// Tries to connect to each of `addresses` (`host:port`). Takes 6 s at most.
    pub async fn reach(&self, addresses: &[String]) -> Reached {
        let tries = join_all(addresses.iter().map(|address| self.connect(address))).await;
        let mut reached = Reached::default();
        for (address, tried) in addresses.iter().zip(tries) {
            match tried {
                Ok(()) => reached.addresses.push(address.clone()),
                Err(problem) => reached.problems.push(problem),
            }
        }
        reached
    }

    async fn connect(&self, address: &str) -> Result<(), String> {
        let name = self.name;
        let found = timeout(STEP_MAX, lookup_host(address)).await.unwrap_or_else(|_| Err(late()));
        let found: Vec<_> = found
            .map_err(|error| format!("the name in `{address}` cannot be resolved ({error}): correct it"))?
            .collect();
        match timeout(STEP_MAX, TcpStream::connect(found.as_slice())).await.unwrap_or_else(|_| Err(late())) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                Err(format!("nobody listens at `{address}`: start {name}, or correct the address"))
            }
            Err(error) => {
                Err(format!("`{address}` cannot be reached ({error}): correct the address, or let us through to it"))
            }
        }
    }

    /// Why a client that connects to `address` comes no further. `None`: the server itself listens there, and as `tls`
    /// says. Takes 3 s at most.
    pub async fn explain(&self, address: &str, tls: bool) -> Option<String> {
        let name = self.name;
        match (self.who_listens(address).await, tls) {
            (Listener::Ours, false) | (Listener::Tls, true) => None,
            (Listener::Ours, true) => Some(format!(
                "{name} listens at `{address}` without TLS: leave `tls=true` out, or give the port that has TLS"
            )),
            (Listener::Tls, false) => {
                Some(format!("what listens at `{address}` speaks TLS: add `tls=true`, or give a port without TLS"))
            }
            (Listener::Http, _) => {
                Some(format!("an HTTP server listens at `{address}`, not {name}: correct the address"))
            }
            (Listener::Other, _) => Some(format!(
                "something listens at `{address}` that does not answer as {name} does: correct the address"
            )),
        }
    }

    async fn who_listens(&self, address: &str) -> Listener {
        let questions = [self.hello, CLIENT_HELLO, HTTP_REQUEST];
        let answers = join_all(questions.map(|question| first_bytes(address, question))).await;
        let is_tls = |answer: &Vec<u8>| answer.starts_with(&[0x15, 3]) || answer.starts_with(&[0x16, 3]);
        if (self.is_answer)(&answers[0]) {
            Listener::Ours
        } else if answers.iter().any(is_tls) {
            Listener::Tls
        } else if answers.iter().any(|answer| answer.starts_with(b"HTTP/")) {
            Listener::Http
        } else {
            Listener::Other
        }
    }
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", STEP_MAX.as_secs()))
}

/// How an answer to `question` begins; empty if there is none in time.
async fn first_bytes(address: &str, question: &[u8]) -> Vec<u8> {
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(question).await?;
        let mut answer = vec![0; 16];
        let mut length = 0;
        while length < answer.len() {
            match stream.read(&mut answer[length..]).await? {
                0 => break,
                read => length += read,
            }
        }
        answer.truncate(length);
        io::Result::Ok(answer)
    };
    timeout(ANSWER_MAX, ask).await.ok().and_then(Result::ok).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    const PIGEON: Server = Server { name: "Pigeon", hello: b"coo?", is_answer: |answer| answer.starts_with(b"coo!") };

    /// Who answers each connection's first bytes with `answer`; none: it says nothing.
    async fn listener(answer: Option<&'static [u8]>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("it is bound").to_string();
        tokio::spawn(async move {
            let mut silent = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut question = [0; 256];
                let read = stream.read(&mut question).await.expect("a question");
                match answer {
                    Some(answer) if answer != b"coo!" || question[..read] == *b"coo?" => {
                        stream.write_all(answer).await.expect("somebody reads");
                    }
                    _ => silent.push(stream),
                }
            }
        });
        address
    }

    async fn check(answer: Option<&'static [u8]>, tls: bool, expected: Option<&str>) {
        let address = listener(answer).await;
        assert_eq!(PIGEON.reach(std::slice::from_ref(&address)).await.addresses, [address.as_str()]);
        let explained = PIGEON.explain(&address, tls).await;
        let says = explained.as_deref().map(|text| expected.is_some_and(|part| text.contains(part)));
        assert_eq!(says, expected.map(|_| true), "{explained:?}");
        assert!(explained.is_none_or(|text| text.contains(&address)));
    }

    #[tokio::test]
    async fn who_listens_is_told_by_the_answer() {
        check(Some(b"coo!"), false, None).await;
        check(Some(b"coo!"), true, Some("without TLS")).await;
        check(Some(b"\x15\x03\x03\x00\x02\x02\x28"), false, Some("add `tls=true`")).await;
        check(Some(b"\x16\x03\x03\x00\x7a"), true, None).await;
        check(Some(b"HTTP/1.1 400 Bad Request\r\n\r\n"), false, Some("an HTTP server")).await;
        check(Some(b"SSH-2.0-x\r\n"), false, Some("does not answer as Pigeon does")).await;
        check(None, false, Some("does not answer as Pigeon does")).await;
    }

    #[tokio::test]
    async fn a_way_that_leads_nowhere_is_named() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("it is bound");
        let addresses = [free.to_string(), "nowhere.invalid:9092".to_owned()];
        let reached = PIGEON.reach(&addresses).await;
        assert_eq!(reached.addresses, [""; 0]);
        assert!(reached.problems[0].contains("nobody listens") && reached.problems[0].contains(&addresses[0]));
        assert!(reached.problems[1].contains("cannot be resolved") && reached.problems[1].contains(&addresses[1]));
    }
}
