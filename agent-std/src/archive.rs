//! Snapshot archives in Consul's format: a gzip'd tar of three files.
//!
//! | file | content |
//! |---|---|
//! | `meta.json` | [`Meta`] |
//! | `state.bin` | the state, see [`crate::state::State::read_consul`] |
//! | `SHA256SUMS` | a line for each of the two: sum in hex, two blanks, name |
//!
//! Nothing is unpacked to disk, so names in an archive lead nowhere; other names than these three are refused all the
//! same. The state is read as it comes, and what is made of it counts only after the sums were right.

use std::io::{self, Read, Write};

use flate2::{Compression, read::MultiGzDecoder, write::GzEncoder};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

const META: &str = "meta.json";
const STATE: &str = "state.bin";
const SUMS: &str = "SHA256SUMS";

/// Octets of a tar block.
const BLOCK: u64 = 512;
/// `meta.json` and `SHA256SUMS` have some hundred octets each.
const MAX_SMALL: u64 = 1 << 20;
/// 4 GiB of state, more than a server is meant to hold: an archive of some MiB must not unpack for ever.
const MAX_STATE: u64 = 4 << 30;

/// What an archive is a snapshot of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Meta {
    /// 1.
    pub version: i64,
    /// `term-index-milliseconds`.
    #[serde(rename = "ID")]
    pub id: String,
    /// Raft index of the state.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// The old form of `configuration`; none here.
    pub peers: Option<String>,
    /// The servers.
    pub configuration: Configuration,
    /// Raft index of the configuration.
    pub configuration_index: u64,
    /// Octets of `state.bin`.
    pub size: i64,
}

/// The servers of a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Configuration {
    /// All of them.
    pub servers: Vec<Server>,
}

/// A server of a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Server {
    /// 0 voter, 1 non-voter, 2 staging.
    pub suffrage: i64,
    /// Node id.
    #[serde(rename = "ID")]
    pub id: String,
    /// RPC address.
    pub address: String,
}

/// An archive is refused. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Not gzip, or cut off.
    #[error("failed to decompress snapshot: {0}")]
    Gzip(String),
    /// No tar of ours.
    #[error("failed to read snapshot: {0}")]
    Tar(String),
    /// A file that does not belong there.
    #[error("failed to read snapshot: unexpected file {0:?}; an archive has meta.json, state.bin and SHA256SUMS alone")]
    Unexpected(String),
    /// Larger than any archive of a server.
    #[error("failed to read snapshot: {file} has {octets} octets, more than the {limit} that are taken")]
    Large {
        /// Which.
        file: &'static str,
        /// Octets that its header claims.
        octets: u64,
        /// The limit.
        limit: u64,
    },
    /// The sums are not those of the files.
    #[error("failed checking integrity of snapshot: {0}")]
    Sum(String),
    /// The state itself.
    #[error("failed to read snapshot: {0}")]
    State(String),
}

/// Writes an archive. `state` is called twice and must write the same both times: once for length and sum, which stand
/// before it in the archive, so that it never has to be in memory.
///
/// # Errors
/// When `out` fails.
pub fn write(
    mut meta: Meta,
    unix_seconds: u64,
    state: impl Fn(&mut dyn Write) -> io::Result<()>,
    out: impl Write,
) -> io::Result<()> {
    let mut measured = Summed::new(io::sink());
    state(&mut measured)?;
    let (octets, state_sum) = measured.finish();
    meta.size = i64::try_from(octets).map_err(io::Error::other)?;
    let mut text = serde_json::to_vec(&meta).map_err(io::Error::other)?;
    text.push(b'\n');
    let sums = format!("{}  {META}\n{state_sum}  {STATE}\n", hex(&Sha256::digest(&text)));

    let mut tar = tar::Builder::new(GzEncoder::new(io::BufWriter::new(out), Compression::fast()));
    tar.append(&header(META, text.len() as u64, unix_seconds)?, &text[..])?;
    // By hand: the builder copies from a reader, while the state writes itself.
    let body = tar.get_mut();
    body.write_all(header(STATE, octets, unix_seconds)?.as_bytes())?;
    let mut written = Summed::new(io::BufWriter::new(body));
    state(&mut written)?;
    written.out.flush()?;
    if written.finish() != (octets, state_sum) {
        return Err(io::Error::other("the state changed while it was written"));
    }
    let padding = octets.next_multiple_of(BLOCK) - octets;
    io::copy(&mut io::repeat(0).take(padding), tar.get_mut())?;
    tar.append(&header(SUMS, sums.len() as u64, unix_seconds)?, sums.as_bytes())?;
    tar.into_inner()?.finish()?.flush()
}

/// Reads an archive; `state` makes what it likes of `state.bin` and need not read it to its end.
///
/// # Errors
/// When it is no such archive, is damaged, or `state` says so.
pub fn read<T>(
    from: impl Read,
    state: impl FnOnce(&mut dyn Read) -> Result<T, String>,
) -> Result<(Meta, T), ArchiveError> {
    let mut tar = tar::Archive::new(io::BufReader::new(MultiGzDecoder::new(from)));
    let (mut meta, mut made, mut sums) = (None, None, None);
    let mut state = Some(state);
    // Raw: headers of tar's extensions are files that do not belong here either.
    for entry in tar.entries().map_err(broken)?.raw(true) {
        let mut entry = entry.map_err(broken)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        // Links, folders and the like have no place here.
        if !entry.header().entry_type().is_file() {
            return Err(ArchiveError::Unexpected(name));
        }
        match name.as_str() {
            META if meta.is_none() => meta = Some(small(META, entry)?),
            SUMS if sums.is_none() => sums = Some(small(SUMS, entry)?),
            STATE if made.is_none() => {
                let octets = entry.size();
                if octets > MAX_STATE {
                    return Err(ArchiveError::Large { file: STATE, octets, limit: MAX_STATE });
                }
                let state = state.take().expect("taken here alone, and `made` is set then");
                let mut body = SummedReader { from: &mut entry, sum: Sha256::new(), octets: 0, failed: None };
                let result = state(&mut body);
                // Damage of the compression explains whatever the state's reader made of it.
                let rest = io::copy(&mut body, &mut io::sink());
                if let Some(error) = body.failed.take().or(rest.err()) {
                    return Err(gzip(&error));
                }
                if body.octets < octets {
                    return Err(cut_off());
                }
                made = Some((hex(&body.sum.finalize()), result));
            }
            _ => return Err(ArchiveError::Unexpected(name)),
        }
    }
    // What follows is filling; reading it checks the compression's own sum.
    io::copy(&mut tar.into_inner().take(MAX_SMALL), &mut io::sink()).map_err(|error| gzip(&error))?;
    let missing = |name: &str| ArchiveError::Tar(format!("{name} is missing"));
    let (meta, sums) = (meta.ok_or_else(|| missing(META))?, sums.ok_or_else(|| missing(SUMS))?);
    let (state_sum, result) = made.ok_or_else(|| missing(STATE))?;
    check_sums(&sums, &[(META, hex(&Sha256::digest(&meta))), (STATE, state_sum)])?;
    let meta: Meta =
        serde_json::from_slice(&meta).map_err(|error| ArchiveError::Tar(format!("{META} is malformed: {error}")))?;
    if meta.version != 1 {
        return Err(ArchiveError::Tar(format!("version {} is not known, only 1", meta.version)));
    }
    Ok((meta, result.map_err(ArchiveError::State)?))
}

/// Errors of the compression keep their kind on the way through tar, tar's own are of kind `Other`.
fn broken(error: io::Error) -> ArchiveError {
    match error.kind() {
        io::ErrorKind::Other => ArchiveError::Tar(format!("not a tar archive: {error}")),
        _ => gzip(&error),
    }
}

fn gzip(error: &io::Error) -> ArchiveError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => cut_off(),
        io::ErrorKind::InvalidInput => ArchiveError::Gzip("gzip: invalid header".into()),
        _ => ArchiveError::Gzip(error.to_string()),
    }
}

fn cut_off() -> ArchiveError {
    ArchiveError::Gzip("unexpected EOF".into())
}

/// The whole of a small file.
fn small(file: &'static str, mut entry: tar::Entry<'_, impl Read>) -> Result<Vec<u8>, ArchiveError> {
    let octets = entry.size();
    if octets > MAX_SMALL {
        return Err(ArchiveError::Large { file, octets, limit: MAX_SMALL });
    }
    let mut body = Vec::new();
    entry.read_to_end(&mut body).map_err(|error| gzip(&error))?;
    if (body.len() as u64) < octets { Err(cut_off()) } else { Ok(body) }
}

fn check_sums(text: &[u8], files: &[(&str, String)]) -> Result<(), ArchiveError> {
    let text = std::str::from_utf8(text).map_err(|_| ArchiveError::Sum(format!("{SUMS} is no text")))?;
    let listed: Vec<(&str, &str)> = text.lines().filter_map(|line| line.split_once("  ")).collect();
    for (name, sum) in files {
        match listed.iter().find(|(_, known)| known == name) {
            None => return Err(ArchiveError::Sum(format!("{SUMS} has no line for {name}"))),
            Some((known, _)) if known.eq_ignore_ascii_case(sum) => {}
            Some(_) => return Err(ArchiveError::Sum(format!("hash check failed for {name:?}"))),
        }
    }
    if listed.len() == files.len() { Ok(()) } else { Err(ArchiveError::Sum(format!("{SUMS} lists other files too"))) }
}

/// The header of a plain file.
fn header(name: &str, octets: u64, unix_seconds: u64) -> io::Result<tar::Header> {
    let mut header = tar::Header::new_ustar();
    header.set_path(name)?;
    header.set_size(octets);
    header.set_mode(0o600);
    header.set_mtime(unix_seconds);
    header.set_cksum();
    Ok(header)
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// Counts and sums what passes.
struct Summed<W> {
    out: W,
    sum: Sha256,
    octets: u64,
}

impl<W: Write> Summed<W> {
    fn new(out: W) -> Self {
        Summed { out, sum: Sha256::new(), octets: 0 }
    }

    fn finish(self) -> (u64, String) {
        (self.octets, hex(&self.sum.finalize()))
    }
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let count = self.out.write(octets)?;
        self.sum.update(&octets[..count]);
        self.octets += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

struct SummedReader<R> {
    from: R,
    sum: Sha256,
    octets: u64,
    failed: Option<io::Error>,
}

impl<R: Read> Read for SummedReader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self.from.read(out) {
            Ok(count) => {
                self.sum.update(&out[..count]);
                self.octets += count as u64;
                Ok(count)
            }
            Err(error) => {
                let copy = io::Error::new(error.kind(), error.to_string());
                self.failed.get_or_insert(error);
                Err(copy)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn archive(state: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let meta = Meta { version: 1, id: "2-20-1".into(), index: 20, term: 2, ..Meta::default() };
        write(meta, 1_700_000_000, |out| out.write_all(state), &mut out).unwrap();
        out
    }

    fn take(state: &mut dyn Read) -> Result<Vec<u8>, String> {
        let mut octets = Vec::new();
        state.read_to_end(&mut octets).map_err(|error| error.to_string())?;
        Ok(octets)
    }

    /// An archive of any files.
    fn foreign(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut out = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (name, octets) in files {
            let mut header = header("x", octets.len() as u64, 0).unwrap();
            // As it is: the library takes no path that leads upwards.
            header.as_old_mut().name = [0; 100];
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            out.append(&header, *octets).unwrap();
        }
        out.into_inner().unwrap().finish().unwrap()
    }

    #[test]
    fn what_is_written_is_read_back() {
        for octets in [0, 1, 511, 512, 513, 100_000] {
            let state = vec![7; octets];
            let (meta, back) = read(&archive(&state)[..], take).unwrap();
            assert_eq!((meta.index, meta.size, back), (20, octets as i64, state));
        }
    }

    #[test]
    fn every_cut_is_refused() {
        let whole = archive(b"some state");
        for end in 0..whole.len() {
            assert!(read(&whole[..end], take).is_err(), "cut at {end}");
        }
        let error = read(&whole[..whole.len() / 2], take).unwrap_err().to_string();
        assert_eq!(error, "failed to decompress snapshot: unexpected EOF");
        let error = read(&b"what is this"[..], take).unwrap_err().to_string();
        assert_eq!(error, "failed to decompress snapshot: gzip: invalid header");
    }

    #[test]
    fn every_flipped_octet_of_the_files_is_noticed() {
        let mut whole = Vec::new();
        MultiGzDecoder::new(&archive(b"some state")[..]).read_to_end(&mut whole).unwrap();
        let in_header = |at: usize| whole[at / BLOCK as usize * BLOCK as usize + 257..].starts_with(b"ustar");
        for at in 0..whole.len() - 2 * BLOCK as usize {
            let mut tar = whole.clone();
            tar[at] ^= 1;
            let mut out = GzEncoder::new(Vec::new(), Compression::fast());
            out.write_all(&tar).unwrap();
            let padding = whole[at] == 0 && !in_header(at);
            assert!(read(&out.finish().unwrap()[..], take).is_err() || padding, "octet {at}");
        }
    }

    #[test]
    fn foreign_files_and_paths_are_refused() {
        for name in ["../../etc/passwd", "/etc/passwd", "./state.bin", "other"] {
            let error = read(&foreign(&[(name, b"x")])[..], take).unwrap_err().to_string();
            assert!(error.contains("unexpected file"), "{error}");
        }
        for (files, what) in [
            (&[("state.bin", &b"x"[..])][..], "meta.json is missing"),
            (&[("meta.json", b"{}"), ("SHA256SUMS", b""), ("state.bin", b"x")], "no line for meta.json"),
            (&[("state.bin", b"x"), ("state.bin", b"y")], "unexpected file"),
        ] {
            let error = read(&foreign(files)[..], take).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
    }

    #[test]
    fn claims_of_great_length_are_refused_before_they_are_read() {
        for (name, octets) in [("meta.json", 1 << 30), ("state.bin", 5 << 30)] {
            let mut out = GzEncoder::new(Vec::new(), Compression::fast());
            out.write_all(header(name, octets, 0).unwrap().as_bytes()).unwrap();
            let error = read(&out.finish().unwrap()[..], |_| Ok(())).unwrap_err().to_string();
            assert!(error.contains("more than"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_octets_are_survived(octets in proptest::collection::vec(any::<u8>(), 0..2000)) {
            prop_assert!(read(&octets[..], take).is_err());
            let mut out = GzEncoder::new(Vec::new(), Compression::fast());
            out.write_all(&octets).unwrap();
            prop_assert!(read(&out.finish().unwrap()[..], take).is_err());
        }
    }
}
