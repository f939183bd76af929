//! HTTP/1.1 as far as a simulator needs it, read with limits and written byte by byte, so that
//! every way an answer can be broken can be produced.

use std::{io, time::Duration};

use provision_core::clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::message::{SimRequest, SimResponse};

const HEAD_BYTES_MAX: usize = 64 << 10;
const BODY_BYTES_MAX: usize = 16 << 20;

/// One connection, with what was read beyond the last request.
pub(super) struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// What is wrong with a request that cannot be answered by the provider.
pub(super) enum Trouble {
    /// The peer closed between two requests.
    Closed,
    /// The bytes are no HTTP request within the limits.
    Malformed(&'static str),
    /// The connection failed.
    Io,
}

impl From<io::Error> for Trouble {
    fn from(_: io::Error) -> Self {
        Self::Io
    }
}

impl Wire {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    /// Reads one request; the flag says whether the connection may serve another.
    pub(super) async fn read(&mut self) -> Result<(SimRequest, bool), Trouble> {
        let head = self.read_head().await?;
        let text = std::str::from_utf8(&head).map_err(|_| Trouble::Malformed("head is no text"))?;
        let mut lines = text.split("\r\n");
        let first = lines.next().unwrap_or_default();
        let mut words = first.split(' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(Trouble::Malformed("request line"));
        };
        let mut request = SimRequest { method: method.to_owned(), ..SimRequest::default() };
        for line in lines.filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').ok_or(Trouble::Malformed("header"))?;
            request.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        target_into(target, &mut request)?;
        request.host = request.header("host").unwrap_or_default().to_owned();
        let close = request.header("connection").is_some_and(|c| c.eq_ignore_ascii_case("close"));
        let keep = version == "HTTP/1.1" && !close;
        if request.header("expect").is_some_and(|e| e.eq_ignore_ascii_case("100-continue")) {
            self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        request.body = self.read_body(&request).await?;
        Ok((request, keep))
    }

    async fn read_head(&mut self) -> Result<Vec<u8>, Trouble> {
        loop {
            let end = find(&self.buffer, b"\r\n\r\n");
            if end.unwrap_or(self.buffer.len()) > HEAD_BYTES_MAX {
                return Err(Trouble::Malformed("head too large"));
            }
            if let Some(end) = end {
                let mut head = self.take(end + 4);
                head.truncate(end);
                return Ok(head);
            }
            if self.fill().await? == 0 {
                return Err(match self.buffer.is_empty() {
                    true => Trouble::Closed,
                    false => Trouble::Malformed("head cut"),
                });
            }
        }
    }

    async fn read_body(&mut self, request: &SimRequest) -> Result<Vec<u8>, Trouble> {
        if let Some(coding) = request.header("transfer-encoding") {
            if !coding.eq_ignore_ascii_case("chunked") {
                return Err(Trouble::Malformed("transfer coding"));
            }
            return self.read_chunks().await;
        }
        let Some(length) = request.header("content-length") else { return Ok(Vec::new()) };
        let length: usize = length.parse().map_err(|_| Trouble::Malformed("content length"))?;
        self.read_exactly(length).await
    }

    async fn read_exactly(&mut self, length: usize) -> Result<Vec<u8>, Trouble> {
        if length > BODY_BYTES_MAX {
            return Err(Trouble::Malformed("body too large"));
        }
        while self.buffer.len() < length {
            if self.fill().await? == 0 {
                return Err(Trouble::Malformed("body cut"));
            }
        }
        Ok(self.take(length))
    }

    async fn read_chunks(&mut self) -> Result<Vec<u8>, Trouble> {
        let mut body = Vec::new();
        loop {
            let line = self.read_line().await?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size =
                usize::from_str_radix(size, 16).map_err(|_| Trouble::Malformed("chunk size"))?;
            if body.len().saturating_add(size) > BODY_BYTES_MAX {
                return Err(Trouble::Malformed("body too large"));
            }
            body.extend(self.read_exactly(size).await?);
            if size == 0 {
                while !self.read_line().await?.is_empty() {}
                return Ok(body);
            }
            if !self.read_line().await?.is_empty() {
                return Err(Trouble::Malformed("chunk end"));
            }
        }
    }

    async fn read_line(&mut self) -> Result<String, Trouble> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n") {
                let mut line = self.take(end + 2);
                line.truncate(end);
                return String::from_utf8(line).map_err(|_| Trouble::Malformed("chunk line"));
            }
            if self.buffer.len() > HEAD_BYTES_MAX || self.fill().await? == 0 {
                return Err(Trouble::Malformed("chunk line"));
            }
        }
    }

    async fn fill(&mut self) -> Result<usize, Trouble> {
        Ok(self.stream.read_buf(&mut self.buffer).await?)
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        let rest = self.buffer.split_off(count.min(self.buffer.len()));
        std::mem::replace(&mut self.buffer, rest)
    }

    /// Sends a complete answer.
    pub(super) async fn write(&mut self, answer: &SimResponse, head_only: bool) -> io::Result<()> {
        let mut bytes = head(answer, Some(answer.body.len()));
        if !head_only {
            bytes.extend_from_slice(&answer.body);
        }
        self.stream.write_all(&bytes).await
    }

    /// Sends an answer that ends in its middle.
    pub(super) async fn write_cut(&mut self, answer: &SimResponse) -> io::Result<()> {
        let mut bytes = head(answer, Some(answer.body.len()));
        let end = match answer.body.len() {
            0 => bytes.len() / 2,
            body => bytes.len() + body / 2,
        };
        bytes.extend_from_slice(&answer.body);
        bytes.truncate(end);
        self.stream.write_all(&bytes).await
    }

    /// Sends an answer that announces more than comes.
    pub(super) async fn write_lying(&mut self, answer: &SimResponse) -> io::Result<()> {
        // A status without a body cannot lie about its length; a 200 can.
        let status = if answer.body.is_empty() { 200 } else { answer.status };
        let liar = SimResponse { status, ..answer.clone() };
        let mut bytes = head(&liar, Some(liar.body.len() + 64));
        bytes.extend_from_slice(&liar.body);
        self.stream.write_all(&bytes).await
    }

    /// Sends an answer whose body does not end before `limit` bytes.
    pub(super) async fn write_endless(
        &mut self,
        answer: &SimResponse,
        limit: u64,
    ) -> io::Result<()> {
        let status = if answer.body.is_empty() { 200 } else { answer.status };
        let endless = SimResponse { status, ..answer.clone() };
        self.stream.write_all(&head(&endless, None)).await?;
        let piece = vec![b' '; 16 << 10];
        let mut sent: u64 = 0;
        while sent < limit {
            self.stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await?;
            self.stream.write_all(&piece).await?;
            self.stream.write_all(b"\r\n").await?;
            sent = sent.saturating_add(16 << 10);
        }
        Ok(())
    }

    /// Sends an answer that announces less than comes.
    pub(super) async fn write_short(&mut self, answer: &SimResponse) -> io::Result<()> {
        let mut bytes = head(answer, Some(answer.body.len() / 2));
        bytes.extend_from_slice(&answer.body);
        self.stream.write_all(&bytes).await
    }

    /// Sends an answer that is small on the wire, and not when it is unpacked.
    pub(super) async fn write_bomb(&mut self, answer: &SimResponse, size: u64) -> io::Result<()> {
        let status = if answer.body.is_empty() { 200 } else { answer.status };
        let bomb = SimResponse { status, headers: answer.headers.clone(), body: gzip_zeros(size) };
        let bomb = bomb.header("content-encoding", "gzip");
        let mut bytes = head(&bomb, Some(bomb.body.len()));
        bytes.extend_from_slice(&bomb.body);
        self.stream.write_all(&bytes).await
    }

    /// Sends an answer whose body comes byte by byte, until the other side has had enough.
    pub(super) async fn write_trickle(
        &mut self,
        answer: &SimResponse,
        every: Duration,
    ) -> io::Result<()> {
        let status = if answer.body.is_empty() { 200 } else { answer.status };
        let endless = SimResponse { status, ..answer.clone() };
        self.stream.write_all(&head(&endless, None)).await?;
        loop {
            self.stream.write_all(b"1\r\n \r\n").await?;
            clock::sleep(every).await;
        }
    }

    /// Says nothing until the other side closes; what it sends meanwhile is not read as a request.
    pub(super) async fn wait_for_the_end(&mut self) -> io::Result<()> {
        while self.stream.read_buf(&mut self.buffer).await? > 0 {
            self.buffer.clear();
        }
        Ok(())
    }

    /// Sends the record by which TLS refuses a handshake (RFC 8446, 6.2: `handshake_failure`).
    pub(super) async fn write_alert(&mut self) -> io::Result<()> {
        self.stream.write_all(&[0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x28]).await
    }

    /// Makes the close of this connection a reset.
    pub(super) fn reset(&self) -> io::Result<()> {
        self.stream.set_zero_linger()
    }
}

fn head(answer: &SimResponse, length: Option<usize>) -> Vec<u8> {
    let mut out = format!("HTTP/1.1 {} {}\r\n", answer.status, reason(answer.status));
    for (name, value) in &answer.headers {
        out.push_str(&format!("{name}: {value}\r\n"));
    }
    match length {
        // RFC 9110: these have no body and announce none.
        Some(_) if answer.status == 204 || answer.status == 304 => {}
        Some(length) => out.push_str(&format!("content-length: {length}\r\n")),
        None => out.push_str("transfer-encoding: chunked\r\n"),
    }
    out.push_str("\r\n");
    out.into_bytes()
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        307 => "Temporary Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        409 => "Conflict",
        422 => "Unprocessable Entity",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        _ => "Status",
    }
}

/// About so many zeros, packed by gzip (RFC 1952) into one block of fixed codes (RFC 1951): one zero,
/// then "258 bytes from one back" over and over. It has no trailer; who limits what is unpacked never
/// gets there.
fn gzip_zeros(size: u64) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let (mut bits, mut held) = (0_u32, 0_u32);
    let mut put = |code: u32, length: u32, out: &mut Vec<u8>| {
        bits |= code << held;
        held += length;
        while held >= 8 {
            out.push(bits.to_le_bytes()[0]);
            bits >>= 8;
            held -= 8;
        }
    };
    // The last block, of fixed codes; the literal 0 (0b00110000, sent from its highest bit).
    put(0b011, 3, &mut out);
    put(0b0000_1100, 8, &mut out);
    for _ in 0..size / 258 {
        // Length 258 (code 285: 0b11000101, from its highest bit), distance 1 (five zeros).
        put(0b1010_0011, 8, &mut out);
        put(0, 5, &mut out);
    }
    // The end of the block (seven zeros), and what is left of the last byte.
    put(0, 14, &mut out);
    out
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

fn target_into(target: &str, request: &mut SimRequest) -> Result<(), Trouble> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let path = path.strip_prefix('/').ok_or(Trouble::Malformed("target"))?;
    if !path.is_empty() {
        request.path = path.split('/').map(|s| decode(s, false)).collect::<Result<_, _>>()?;
    }
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        request.query.push((decode(name, true)?, decode(value, true)?));
    }
    Ok(())
}

fn decode(text: &str, plus_is_space: bool) -> Result<String, Trouble> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let pair = [bytes.next().unwrap_or(0), bytes.next().unwrap_or(0)];
                std::str::from_utf8(&pair)
                    .ok()
                    .and_then(|hex| u8::from_str_radix(hex, 16).ok())
                    .ok_or(Trouble::Malformed("percent encoding"))?
            }
            b'+' if plus_is_space => b' ',
            other => other,
        });
    }
    String::from_utf8(out).map_err(|_| Trouble::Malformed("target is no text"))
}
