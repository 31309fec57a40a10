//! HTTP checks: a small HTTP/1.1 client over one stream.
//!
//! 2xx is passing, 429 warning, anything else critical. Redirects are not followed (a real agent does): 3xx is critical.
//! The output is put together beside the current one while the response arrives; once it is full the rest is not read.

use super::{
    Health,
    schedule::{Output, finish},
    tcp,
};
use crate::{
    agent::Target,
    local::{HttpJob, Job, Local},
    rand::Rng,
    time::Instant,
    wire::{ip, rpc::Text},
};

/// Whether checks by HTTP are built in. Where it is false nobody calls this file, and the linker leaves it out.
pub(crate) const HTTP: bool = cfg!(feature = "http");

/// Room for the URL in an output; longer ones are cut.
type Name = tcp::Name;

/// The parts of a URL that matter for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Url<'a> {
    pub(crate) tls: bool,
    /// Host and port as given, for the `Host` header.
    authority: &'a str,
    pub(crate) host: &'a str,
    pub(crate) port: u16,
    /// Path and query; empty: `/`.
    path: &'a str,
}

impl<'a> Url<'a> {
    /// Reads `http://host[:port][/path]` or the same with `https`. Credentials in the URL are refused.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        if text.bytes().any(|octet| octet <= b' ' || octet == 0x7f) {
            return None;
        }
        let (scheme, rest) = text.split_once("://")?;
        let tls = match scheme {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let rest = rest.split_once('#').map_or(rest, |(before, _)| before);
        let at = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(at);
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse().ok()?),
            _ => (authority, if tls { 443 } else { 80 }),
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let legal = match bare {
            Some(address) => address.contains(':') && ip::parse(address).is_some(),
            None => !host.is_empty() && !host.contains(['@', ':', '[', ']']),
        };
        legal.then_some(Url { tls, authority, host, port, path })
    }

    /// Where to connect.
    pub(crate) fn target(&self) -> Option<Target<'a>> {
        tcp::named(self.host, self.port)
    }
}

/// Octets of a request from `sent` on, as many as fit `out`; returns their number, 0 at the end.
pub(crate) fn fill(job: &HttpJob<'_>, sent: usize, out: &mut [u8]) -> usize {
    let Some(url) = Url::parse(job.url) else { return 0 };
    let mut window = Window { skip: sent, out, len: 0 };
    let mut put = |text: &str| window.put(text.as_bytes());
    put(job.method);
    put(" ");
    if !url.path.starts_with('/') {
        put("/");
    }
    put(url.path);
    put(" HTTP/1.1\r\n");
    let mut given = [false; 3];
    for (key, value) in job.headers() {
        for (seen, name) in given.iter_mut().zip(["host", "user-agent", "accept"]) {
            *seen |= key.eq_ignore_ascii_case(name);
        }
        // A line break inside would start a header of its own.
        if !key.contains(['\r', '\n', ':']) && !value.contains(['\r', '\n']) {
            [key, ": ", value, "\r\n"].into_iter().for_each(&mut put);
        }
    }
    if !given[0] {
        ["Host: ", url.authority, "\r\n"].into_iter().for_each(&mut put);
    }
    if !given[1] {
        put("User-Agent: Consul Health Check\r\n");
    }
    if !given[2] {
        put("Accept: text/plain, text/*, */*\r\n");
    }
    if !job.body.is_empty() {
        put("Content-Length: ");
        let mut digits = Text::<20>::EMPTY;
        digits.push_number(job.body.len() as u64); // 20 digits hold any length
        put(digits.as_str());
        put("\r\n");
    }
    put("Connection: close\r\n\r\n");
    put(job.body);
    window.len
}

/// The part of a text from `skip` on that fits `out`.
struct Window<'a> {
    skip: usize,
    out: &'a mut [u8],
    len: usize,
}

impl Window<'_> {
    fn put(&mut self, octets: &[u8]) {
        let skipped = self.skip.min(octets.len());
        self.skip -= skipped;
        let rest = &octets[skipped..];
        let taken = rest.len().min(self.out.len() - self.len);
        self.out[self.len..self.len + taken].copy_from_slice(&rest[..taken]);
        self.len += taken;
    }
}

/// A response as it arrives. All-zero bits: nothing yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Response {
    part: Part,
    code: u16,
    chunked: bool,
    /// The body's length is known: `left`.
    sized: bool,
    /// Octets of body or chunk still to come.
    left: u64,
    line: Text<48>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Status,
    Header,
    Body,
    ChunkSize,
    Chunk,
    ChunkEnd,
    Done,
}

/// What a response says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fact<'a> {
    /// Code and reason, e.g. `200 OK`.
    Status(&'a str),
    /// Octets of the body.
    Body(&'a [u8]),
}

impl Response {
    pub(crate) const EMPTY: Self =
        Response { part: Part::Status, code: 0, chunked: false, sized: false, left: 0, line: Text::EMPTY };

    /// Takes octets. True when the response is complete.
    ///
    /// # Errors
    /// It is no HTTP response.
    pub(crate) fn feed(&mut self, mut data: &[u8], on: &mut dyn FnMut(Fact<'_>)) -> Result<bool, &'static str> {
        while !data.is_empty() && self.part != Part::Done {
            match self.part {
                Part::Body | Part::Chunk => {
                    let limit = if self.sized || self.part == Part::Chunk { self.left } else { u64::MAX };
                    let taken = usize::try_from(limit).unwrap_or(usize::MAX).min(data.len());
                    let (piece, rest) = data.split_at(taken);
                    data = rest;
                    self.left = self.left.saturating_sub(taken as u64);
                    on(Fact::Body(piece));
                    match self.part {
                        Part::Chunk if self.left == 0 => self.part = Part::ChunkEnd,
                        Part::Body if self.sized && self.left == 0 => self.part = Part::Done,
                        _ => {}
                    }
                }
                Part::Status | Part::Header | Part::ChunkSize | Part::ChunkEnd | Part::Done => {
                    let end = data.iter().position(|&octet| octet == b'\n');
                    let (piece, rest) = data.split_at(end.unwrap_or(data.len()));
                    self.line.push(piece);
                    data = rest.get(1..).unwrap_or(&[]);
                    if end.is_some() {
                        let line = self.line;
                        self.line.clear();
                        self.on_line(line.as_str().trim_end(), on)?;
                    }
                }
            }
        }
        Ok(self.part == Part::Done)
    }

    /// The verdict when nothing more comes; `None` when the head is not complete.
    pub(crate) fn verdict(&self) -> Option<Health> {
        if matches!(self.part, Part::Status | Part::Header) {
            return None;
        }
        Some(match self.code {
            200..=299 => Health::Passing,
            429 => Health::Warning,
            _ => Health::Critical,
        })
    }

    fn on_line(&mut self, line: &str, on: &mut dyn FnMut(Fact<'_>)) -> Result<(), &'static str> {
        match self.part {
            Part::Status => {
                let (version, status) = line.split_once(' ').ok_or("malformed HTTP response")?;
                let code = status.get(..3).and_then(|code| code.parse().ok());
                self.code = code.filter(|code| (100..1000).contains(code)).ok_or("malformed HTTP status code")?;
                if !version.starts_with("HTTP/1.") {
                    return Err("malformed HTTP version");
                }
                if self.code >= 200 {
                    on(Fact::Status(status));
                }
                self.part = Part::Header;
            }
            Part::Header if line.is_empty() => {
                let empty = matches!(self.code, 204 | 304) || (self.sized && self.left == 0 && !self.chunked);
                self.part = match self.code {
                    100..=199 => Part::Status,
                    _ if empty => Part::Done,
                    _ if self.chunked => Part::ChunkSize,
                    _ => Part::Body,
                };
            }
            Part::Header => {
                let Some((name, value)) = line.split_once(':') else { return Ok(()) };
                if name.eq_ignore_ascii_case("content-length") {
                    self.left = value.trim().parse().map_err(|_| "bad Content-Length")?;
                    self.sized = true;
                } else if name.eq_ignore_ascii_case("transfer-encoding") {
                    self.chunked = value.trim().eq_ignore_ascii_case("chunked");
                }
            }
            Part::ChunkSize => {
                let digits = line.split(';').next().unwrap_or("").trim();
                self.left = u64::from_str_radix(digits, 16).map_err(|_| "malformed chunked encoding")?;
                self.part = if self.left == 0 { Part::Done } else { Part::Chunk };
            }
            Part::ChunkEnd => self.part = Part::ChunkSize,
            Part::Body | Part::Chunk | Part::Done => {}
        }
        Ok(())
    }
}

/// Octets of the response to the check in slot `index` arrived. True when the run is over and the stream may be closed.
pub(crate) fn on_data(
    now: Instant,
    rng: &mut Rng,
    local: &mut Local<'_>,
    index: usize,
    response: &mut Response,
    data: &[u8],
) -> bool {
    let (method, url) = names_of(local, index);
    let mut full = false;
    let fed = response.feed(data, &mut |fact| match fact {
        Fact::Status(status) => {
            for part in ["HTTP ", method.as_str(), " ", url.as_str(), ": ", status, " Output: "] {
                local.scratch_push(index, part.as_bytes());
            }
        }
        Fact::Body(octets) => full = !local.scratch_push(index, octets),
    });
    match (fed, response.verdict()) {
        (Err(why), _) => {
            failed(now, rng, local, index, why);
            true
        }
        (Ok(done), Some(health)) if done || full => {
            finish(now, rng, local, index, health, Output::Scratch);
            true
        }
        (Ok(_), _) => false,
    }
}

/// The other side finished, or the connection broke. `opened`: it had stood before.
pub(crate) fn on_end(
    now: Instant,
    rng: &mut Rng,
    local: &mut Local<'_>,
    index: usize,
    response: &Response,
    opened: bool,
) {
    match response.verdict() {
        Some(health) => finish(now, rng, local, index, health, Output::Scratch),
        None if opened => failed(now, rng, local, index, "EOF"),
        None => {
            let (_, url) = names_of(local, index);
            let mut why = Text::<255>::new("dial tcp ");
            if let Some(url) = Url::parse(url.as_str()) {
                why.push(url.host.as_bytes());
                why.push(b":");
                why.push_number(url.port.into());
            }
            why.push(b": connect: connection refused");
            failed(now, rng, local, index, why.as_str());
        }
    }
}

/// The run in slot `index` took too long.
pub(super) fn overrun(now: Instant, rng: &mut Rng, local: &mut Local<'_>, index: usize) {
    failed(now, rng, local, index, "context deadline exceeded (Client.Timeout exceeded while awaiting headers)");
}

/// `Get "<url>": why`, as Go's client words its errors.
fn failed(now: Instant, rng: &mut Rng, local: &mut Local<'_>, index: usize, why: &str) {
    let (method, url) = names_of(local, index);
    let mut verb = Text::<16>::EMPTY;
    for (nth, octet) in method.as_str().bytes().enumerate() {
        verb.push(&[if nth == 0 { octet.to_ascii_uppercase() } else { octet.to_ascii_lowercase() }]);
    }
    let parts = [verb.as_str(), " \"", url.as_str(), "\": ", why];
    finish(now, rng, local, index, Health::Critical, Output::Parts(&parts));
}

fn names_of(local: &Local<'_>, index: usize) -> (Text<16>, Name) {
    match local.check_at(index).map(|check| check.job()) {
        Some(Job::Http(job)) => (Text::new(job.method), Name::new(job.url)),
        _ => (Text::EMPTY, Name::EMPTY),
    }
}
