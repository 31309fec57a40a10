//! Snapshots: the state machine's whole state at one index, each in a file of checked frames.
//!
//! The first frame says what it is ([`Meta`]), the last one is empty and ends the file, those between are the state. A
//! snapshot is written under another name, synced and then renamed: a name `snapshot-…` means a whole file. The newest two
//! are kept, and the log reaches back to the older one, so that damage to the newest is survived.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use super::codec;
use super::frame::{FRAME_HEAD, FileHeader, FileKind, Frame, HEADER, frame_check, frame_length};
use super::servers::{Server, Servers};
use super::storage::{Disk, DiskFile, StorageError};

const PREFIX: &str = "snapshot-";
/// Beginning of the names of files that are not whole yet; removed at start.
const UNFINISHED: &str = "unfinished-";
/// Octets of state in one frame.
const PIECE: usize = 256 << 10;

/// What a snapshot is a snapshot of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Meta {
    pub(super) index: u64,
    pub(super) term: u64,
    /// Time of the last command applied, Unix milliseconds.
    pub(super) unix_millis: u64,
    servers: Vec<Server>,
}

impl Meta {
    pub(super) fn new(index: u64, term: u64, unix_millis: u64, servers: &Servers) -> Self {
        Self { index, term, unix_millis, servers: servers.iter().cloned().collect() }
    }

    pub(super) fn servers(&self) -> Servers {
        Servers::new(self.servers.iter().cloned())
    }
}

/// An immutable view of the state, written on another thread.
pub trait SnapshotSource: Send {
    /// Writes the whole state.
    ///
    /// # Errors
    /// The writer's.
    fn write_to(self: Box<Self>, out: &mut dyn Write) -> io::Result<()>;
}

/// The snapshot files of a directory.
#[derive(Clone)]
pub(super) struct Snapshots {
    disk: Arc<dyn Disk>,
    owner: u64,
    /// Keeps the names of received files apart.
    received: Arc<AtomicU64>,
}

impl Snapshots {
    pub(super) fn new(disk: Arc<dyn Disk>, owner: u64) -> Self {
        Self { disk, owner, received: Arc::default() }
    }

    /// Names, newest first.
    pub(super) fn names(&self) -> Result<Vec<String>, StorageError> {
        let mut names = self.disk.list().map_err(StorageError::io("list the directory"))?;
        names.retain(|name| name.starts_with(PREFIX));
        names.sort_by(|a, b| b.cmp(a));
        Ok(names)
    }

    /// Removes what a crash left unfinished.
    pub(super) fn sweep(&self) -> Result<(), StorageError> {
        for name in self.disk.list().map_err(StorageError::io("list the directory"))? {
            if name.starts_with(UNFINISHED) {
                self.disk.remove(&name).map_err(StorageError::io(format!("remove {name}")))?;
            }
        }
        Ok(())
    }

    /// Writes, syncs and names a snapshot.
    pub(super) fn write(&self, meta: &Meta, source: Box<dyn SnapshotSource>) -> Result<(), StorageError> {
        let name = format!("{UNFINISHED}own-{:016x}", meta.index);
        let failed = || StorageError::io(format!("write snapshot {}", meta.index));
        let file = self.disk.create(&name).map_err(failed())?;
        let mut out = FrameWriter::new(file, self.owner).map_err(failed())?;
        out.frame(&codec::emit(Vec::new(), meta)).map_err(failed())?;
        source.write_to(&mut out).map_err(failed())?;
        out.finish().map_err(failed())?;
        self.disk.rename(&name, &name_of(meta.index)).map_err(failed())
    }

    /// Opens a snapshot and reads what it is; the state follows from the reader.
    pub(super) fn open(&self, name: &str) -> Result<(Meta, FrameReader), StorageError> {
        let file = self.disk.open(name).map_err(StorageError::io(format!("open {name}")))?;
        let mut reader = FrameReader::new(name, file)?;
        let first = reader.frame()?;
        let meta = codec::parse_exact(&first)
            .map_err(|_| StorageError::corrupt(name, HEADER as u64, "malformed description"))?;
        Ok((meta, reader))
    }

    /// Reads a whole snapshot and checks every frame.
    pub(super) fn verify(&self, name: &str) -> Result<Meta, StorageError> {
        let (meta, mut reader) = self.open(name)?;
        while !reader.frame()?.is_empty() {}
        Ok(meta)
    }

    /// A file for a snapshot that a leader sends; `from` keeps the names of several senders apart.
    pub(super) fn receive(&self, from: u64) -> io::Result<Incoming> {
        let number = self.received.fetch_add(1, Ordering::Relaxed);
        let name = format!("{UNFINISHED}from-{from:016x}-{number}");
        let file = Some(self.disk.create(&name)?);
        Ok(Incoming { disk: self.disk.clone(), name, file, at: 0 })
    }

    /// Checks a received file; it stays unfinished until [`Snapshots::adopt`].
    pub(super) fn check(&self, mut incoming: Incoming) -> Result<Received, StorageError> {
        let name = incoming.name.clone();
        if let Some(file) = &mut incoming.file {
            file.sync().map_err(StorageError::io(format!("sync {name}")))?;
        }
        let meta = self.verify(&name)?;
        incoming.file = None;
        Ok(Received { name, meta })
    }

    /// Makes a received snapshot one of ours.
    pub(super) fn adopt(&self, received: &Received) -> Result<(), StorageError> {
        let to = name_of(received.meta.index);
        self.disk.rename(&received.name, &to).map_err(StorageError::io(format!("rename {}", received.name)))
    }

    /// Removes a received snapshot that was not wanted after all.
    pub(super) fn discard(&self, received: &Received) {
        // Left over, it is swept at the next start.
        let _ = self.disk.remove(&received.name);
    }

    /// Removes all but the newest two.
    pub(super) fn prune(&self) -> Result<(), StorageError> {
        for name in self.names()?.iter().skip(2) {
            self.disk.remove(name).map_err(StorageError::io(format!("remove {name}")))?;
        }
        Ok(())
    }

    /// The raw file, for sending.
    pub(super) fn file(&self, index: u64) -> io::Result<Box<dyn DiskFile>> {
        self.disk.open(&name_of(index))
    }
}

pub(super) fn name_of(index: u64) -> String {
    format!("{PREFIX}{index:016x}")
}

/// A snapshot on its way in.
pub(super) struct Incoming {
    disk: Arc<dyn Disk>,
    name: String,
    /// `None` once it was found good.
    file: Option<Box<dyn DiskFile>>,
    at: u64,
}

impl Incoming {
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            file.write_at(bytes, self.at)?;
            self.at += bytes.len() as u64;
        }
        Ok(())
    }

    pub(super) fn octets(&self) -> u64 {
        self.at
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            // Left over, it is swept at the next start.
            let _ = self.disk.remove(&self.name);
        }
    }
}

/// A whole, checked snapshot that is not yet ours.
#[derive(Debug, Clone)]
pub(super) struct Received {
    pub(super) name: String,
    pub(super) meta: Meta,
}

struct FrameWriter {
    file: Box<dyn DiskFile>,
    at: u64,
    sequence: u64,
    piece: Vec<u8>,
}

impl FrameWriter {
    fn new(mut file: Box<dyn DiskFile>, owner: u64) -> io::Result<Self> {
        file.write_at(&FileHeader { kind: FileKind::Snapshot, owner, sequence: 0 }.emit(), 0)?;
        Ok(Self { file, at: HEADER as u64, sequence: 0, piece: Vec::with_capacity(PIECE) })
    }

    fn frame(&mut self, body: &[u8]) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(FRAME_HEAD + body.len());
        Frame::emit(&mut bytes, self.sequence, body);
        self.file.write_at(&bytes, self.at)?;
        self.at += bytes.len() as u64;
        self.sequence += 1;
        Ok(())
    }

    fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        self.frame(&[])?;
        self.file.sync()
    }
}

impl Write for FrameWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        if self.piece.len() == PIECE {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::take(&mut self.piece);
        self.frame(&piece)?;
        self.piece = piece;
        self.piece.clear();
        Ok(())
    }
}

/// Reads the state out of a snapshot, checking each frame.
pub(super) struct FrameReader {
    name: String,
    file: Box<dyn DiskFile>,
    at: u64,
    sequence: u64,
    piece: Vec<u8>,
    taken: usize,
    ended: bool,
}

impl FrameReader {
    fn new(name: &str, file: Box<dyn DiskFile>) -> Result<Self, StorageError> {
        let mut head = [0; HEADER];
        let read = file.read_at(&mut head, 0).map_err(StorageError::io(format!("read {name}")))?;
        let header =
            FileHeader::parse(&head[..read], FileKind::Snapshot).map_err(|bad| StorageError::bad(name, 0, bad))?;
        let at = HEADER as u64;
        let sequence = header.sequence;
        Ok(Self { name: name.to_owned(), file, at, sequence, piece: Vec::new(), taken: 0, ended: false })
    }

    /// The next frame's body; empty at the end, after which the file must end too.
    fn frame(&mut self) -> Result<Vec<u8>, StorageError> {
        if self.ended {
            return Ok(Vec::new());
        }
        let at = self.at;
        let failed = || StorageError::io(format!("read {}", self.name));
        let bad = |bad| StorageError::bad(&self.name, at, bad);
        let mut head = [0; FRAME_HEAD];
        if self.file.read_at(&mut head, at).map_err(failed())? < FRAME_HEAD {
            return Err(bad(super::frame::Bad::Short));
        }
        let length = frame_length(&head).map_err(bad)?;
        let end = at + (FRAME_HEAD + length) as u64;
        let octets = self.file.len().map_err(failed())?;
        // Before memory is taken for it: a length is only a claim.
        if end > octets {
            return Err(bad(super::frame::Bad::Short));
        }
        let mut body = vec![0; length];
        self.file.read_at(&mut body, at + FRAME_HEAD as u64).map_err(failed())?;
        let sequence = frame_check(&head, &body).map_err(bad)?.sequence;
        if sequence != self.sequence {
            return Err(StorageError::corrupt(&self.name, at, "a frame before it is missing"));
        }
        self.at = end;
        self.sequence += 1;
        if body.is_empty() {
            self.ended = true;
            if end != octets {
                return Err(StorageError::corrupt(&self.name, end, "octets are left over"));
            }
        }
        Ok(body)
    }
}

impl Read for FrameReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.piece.len() {
            self.piece = self.frame().map_err(io::Error::other)?;
            self.taken = 0;
        }
        let count = out.len().min(self.piece.len() - self.taken);
        out[..count].copy_from_slice(&self.piece[self.taken..self.taken + count]);
        self.taken += count;
        Ok(count)
    }
}
