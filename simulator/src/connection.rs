//! One TCP connection: requests in, answers or misdeeds out.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::answer::Answer;
use crate::misdeed::Misdeed;
use crate::routes::{Reaction, State, Subject};
use crate::wire::{ReadError, Reader};

const DRIP_EVERY: Duration = Duration::from_secs(1);
/// Room that endless things are written in at a time.
const ENDLESS_BYTES: usize = 4 * 1_024;

/// Serves until either side ends it.
pub async fn serve(stream: TcpStream, state: Arc<Mutex<State>>) {
    let _ = stream.set_nodelay(true);
    let mut connection = Connection { reader: Reader::new(stream), state };
    loop {
        match connection.exchange().await {
            Ok(true) => {}
            Ok(false) | Err(ReadError::Closed) => return,
            Err(ReadError::Refused(answer)) => {
                let _ = connection.write(&answer.to_bytes(true)).await;
                return;
            }
        }
    }
}

struct Connection {
    reader: Reader,
    state: Arc<Mutex<State>>,
}

impl Connection {
    /// One request and what becomes of it. `false`: the connection ends.
    async fn exchange(&mut self) -> Result<bool, ReadError> {
        let head = self.reader.head().await?;
        let last = head.last;
        let subject = self.with_state(|state| state.subject(&head, Instant::now())).map_err(ReadError::Refused)?;
        let reaction = match subject {
            Subject::Delivery { fault, .. } if fault.misdeed == Some(Misdeed::ResetBeforeReading) => {
                sleep(fault.latency.unwrap_or_default()).await;
                self.reset();
                return Ok(false);
            }
            Subject::Delivery { name, fault } => {
                let request = self.reader.body(head).await?;
                self.with_state(|state| state.deliver(&name, fault, &request))
            }
            Subject::Call(call) => {
                let request = self.reader.body(head).await?;
                self.with_state(|state| state.call(&call, &request, Instant::now()))
            }
            Subject::Inbound => {
                let request = self.reader.body(head).await?;
                match self.with_state(|state| state.inbound(&request, Instant::now())) {
                    Ok(pending) => pending.answer().await,
                    Err(answer) => answer,
                }
                .into()
            }
            Subject::Control => {
                let request = self.reader.body(head).await?;
                self.with_state(|state| state.control(&request, Instant::now())).into()
            }
        };
        Ok(self.react(reaction, last).await? && !last)
    }

    fn with_state<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn react(&mut self, reaction: Reaction, last: bool) -> io::Result<bool> {
        if !reaction.latency.is_zero() {
            sleep(reaction.latency).await;
        }
        match reaction.misdeed {
            None => {
                self.write(&reaction.answer.to_bytes(last)).await?;
                return Ok(true);
            }
            Some(Misdeed::Hang) => self.reader.until_closed().await,
            Some(Misdeed::ResetBeforeReading | Misdeed::ResetAfterReading) => self.reset(),
            Some(Misdeed::Truncate) => self.truncate(&reaction.answer).await?,
            Some(Misdeed::Garbage) => self.write(b"\x16\x03\x01\x00 this is not HTTP\r\n\r\n").await?,
            Some(Misdeed::EndlessHead) => self.endless_head(&reaction.answer).await?,
            Some(Misdeed::EndlessBody) => self.endless_body(&reaction.answer).await?,
            Some(Misdeed::Drip) => self.drip(&reaction.answer.to_bytes(last)).await?,
        }
        Ok(false)
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.reader.stream.write_all(bytes).await
    }

    /// The drop that follows sends RST instead of FIN.
    fn reset(&self) {
        let _ = self.reader.stream.set_zero_linger();
    }

    /// Announces 1,024 bytes and sends 512.
    async fn truncate(&mut self, answer: &Answer) -> io::Result<()> {
        let head = format!("HTTP/1.1 {} Truncated\r\ncontent-length: 1024\r\n\r\n", answer.status);
        self.write(head.as_bytes()).await?;
        self.write(&[b'.'; 512]).await?;
        self.reader.stream.shutdown().await
    }

    async fn endless_head(&mut self, answer: &Answer) -> io::Result<()> {
        self.write(format!("HTTP/1.1 {} Endless\r\n", answer.status).as_bytes()).await?;
        let line = format!("x-endless: {}\r\n", "a".repeat(ENDLESS_BYTES));
        loop {
            self.write(line.as_bytes()).await?;
        }
    }

    async fn endless_body(&mut self, answer: &Answer) -> io::Result<()> {
        let head = format!("HTTP/1.1 {} Endless\r\ntransfer-encoding: chunked\r\n\r\n", answer.status);
        self.write(head.as_bytes()).await?;
        let chunk = format!("{ENDLESS_BYTES:x}\r\n{}\r\n", "a".repeat(ENDLESS_BYTES));
        loop {
            self.write(chunk.as_bytes()).await?;
        }
    }

    async fn drip(&mut self, bytes: &[u8]) -> io::Result<()> {
        for byte in bytes {
            self.write(std::slice::from_ref(byte)).await?;
            sleep(DRIP_EVERY).await;
        }
        Ok(())
    }
}
