//! The durable log: entries, term and vote, in numbered segments of checked frames.
//!
//! One [`Log::write`] is one frame and one `fdatasync`, however many entries it holds (group commit). A frame's body is a
//! run of records: kind (1 octet, append only) and its postcard form. An entry replaces all entries of its index and
//! above; nothing is ever overwritten in place, so a crash can only leave a torn *last* frame.
//!
//! # Torn or damaged?
//! A bad last frame is either a write that a crash cut short (never acknowledged: cut it off) or damage to what was
//! acknowledged (refuse to start). The file `mark` tells them apart: after each sync the number of the synced frame is
//! written there *without* syncing it. It survives every death of the process, and a power cut at worst leaves an older
//! number. A bad frame up to the marked one, or one that a later good frame follows, is damage.
//!
//! # Why not a library
//! See the numbers in the module documentation of `raft`.

use std::sync::Arc;

use raft::eraftpb::{Entry, HardState};

use super::codec::{self, EntryRecord, HardRecord};
use super::frame::{Bad, FileHeader, FileKind, Frame, HEADER};
use super::storage::{Disk, DiskFile, StorageError, read_all};

/// A segment that has grown past this is followed by a new one; old segments are removed whole.
pub(super) const SEGMENT_OCTETS: u64 = 8 << 20;
const MARK: &str = "mark";
const PREFIX: &str = "log-";

const RECORD_ENTRY: u8 = 1;
const RECORD_HARD: u8 = 2;
const RECORD_RESET: u8 = 3;

/// The log, open for appending.
pub(super) struct Log {
    disk: Arc<dyn Disk>,
    owner: u64,
    segment_octets: u64,
    segments: Vec<Segment>,
    /// The last segment; `None` until the first write after a start without any.
    file: Option<Box<dyn DiskFile>>,
    /// Where the next frame goes in `file`.
    at: u64,
    next_sequence: u64,
    mark: Box<dyn DiskFile>,
    hard: HardRecord,
    /// A write failed: the file's content is unknown, so nothing more is written.
    failed: bool,
}

struct Segment {
    name: String,
    /// Highest index that an entry of this segment has.
    last_index: u64,
}

/// What a log held when it was opened.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Loaded {
    pub(super) hard: HardState,
    /// Consecutive entries.
    pub(super) entries: Vec<Entry>,
    /// Index that the log expects next, unless it is free.
    pub(super) next: Option<u64>,
    /// Octets of a torn last write that were cut off.
    pub(super) torn: u64,
}

/// One durable step.
#[derive(Default)]
pub(super) struct Batch<'a> {
    /// All entries before are void; the next one follows this index.
    pub(super) reset: Option<u64>,
    pub(super) entries: &'a [Entry],
    pub(super) hard: Option<HardRecord>,
}

impl Log {
    /// Reads all segments; cuts a torn last write off.
    pub(super) fn open(disk: Arc<dyn Disk>, owner: u64) -> Result<(Self, Loaded), StorageError> {
        let mut names = disk.list().map_err(StorageError::io("list the directory"))?;
        names.retain(|name| name.starts_with(PREFIX));
        names.sort();
        let (mut mark, marked) = open_mark(&*disk, owner)?;

        let mut reader = Reader { owner, marked, ..Reader::default() };
        let mut file = None;
        let mut at = 0;
        for (position, name) in names.iter().enumerate() {
            let is_last = position + 1 == names.len();
            let mut open = disk.open(name).map_err(StorageError::io(format!("open {name}")))?;
            let bytes = read_all(&*open).map_err(StorageError::io(format!("read {name}")))?;
            let good = reader.segment(name, &bytes, is_last)?;
            let torn = bytes.len() as u64 - good;
            reader.loaded.torn += torn;
            if torn > 0 {
                log::warn!("raft storage: cut {torn} octets of an unfinished write off {name}");
            }
            if good == 0 {
                // The segment before, if any, is whole; the next write begins a new one.
                disk.remove(name).map_err(StorageError::io(format!("remove {name}")))?;
                disk.sync().map_err(StorageError::io("sync the directory"))?;
                reader.segments.pop();
                continue;
            }
            if torn > 0 {
                open.truncate(good).map_err(StorageError::io(format!("cut {name}")))?;
            }
            if is_last {
                // What a killed process wrote and did not sync may be read here and still be lost with the power.
                open.sync().map_err(StorageError::io(format!("sync {name}")))?;
                disk.sync().map_err(StorageError::io("sync the directory"))?;
            }
            at = good;
            file = is_last.then_some(open);
        }
        if reader.next_sequence.max(1) <= marked {
            let file = names.last().map_or(MARK, String::as_str);
            return Err(StorageError::corrupt(file, at, "the end of the log is missing"));
        }
        // A power cut may have left an older number; from here on the last frame is known to be whole.
        let whole = reader.next_sequence.saturating_sub(1);
        if whole > marked {
            write_mark(&mut *mark, owner, whole)?;
        }
        let log = Self {
            disk,
            owner,
            segment_octets: SEGMENT_OCTETS,
            segments: reader.segments,
            file,
            at,
            next_sequence: reader.next_sequence.max(1),
            mark,
            hard: reader.hard,
            failed: false,
        };
        reader.loaded.hard = reader.hard.to_library();
        reader.loaded.next = reader.loaded.entries.last().map(|entry| entry.index + 1).or(reader.expected);
        Ok((log, reader.loaded))
    }

    /// Writes one frame and makes it durable.
    ///
    /// # Errors
    /// After an error the log takes no more writes: what is on disk is unknown until it is opened again.
    pub(super) fn write(&mut self, batch: &Batch<'_>) -> Result<(), StorageError> {
        if self.failed {
            return Err(StorageError::Io {
                what: "write the log".into(),
                source: std::io::Error::other("an earlier write failed"),
            });
        }
        self.failed = true;
        self.write_frame(batch)?;
        self.failed = false;
        Ok(())
    }

    fn write_frame(&mut self, batch: &Batch<'_>) -> Result<(), StorageError> {
        let sequence = self.next_sequence;
        let fresh = self.file.is_none() || self.at >= self.segment_octets;
        self.hard = batch.hard.unwrap_or(self.hard);
        // A new segment repeats term and vote, so that older segments can be removed whole.
        let hard = if fresh { Some(self.hard) } else { batch.hard };
        let body = emit_records(batch.reset, batch.entries, hard);

        let mut bytes = Vec::with_capacity(HEADER + super::frame::FRAME_HEAD + body.len());
        if fresh {
            bytes.extend_from_slice(&FileHeader { kind: FileKind::Log, owner: self.owner, sequence }.emit());
        }
        Frame::emit(&mut bytes, sequence, &body);
        let at = if fresh { 0 } else { self.at };
        if fresh {
            let name = format!("{PREFIX}{sequence:016x}");
            self.file = Some(self.disk.create(&name).map_err(StorageError::io(format!("create {name}")))?);
            self.segments.push(Segment { name, last_index: 0 });
        }
        let file = self.file.as_mut().expect("made above when it was missing");
        let segment = self.segments.last_mut().expect("a file has its segment");
        let what = || format!("write {}", segment.name);
        file.write_at(&bytes, at).map_err(StorageError::io(what()))?;
        file.sync().map_err(StorageError::io(format!("sync {}", segment.name)))?;
        if fresh {
            self.disk.sync().map_err(StorageError::io("sync the directory"))?;
        }
        let last = batch.entries.last().map_or(0, |entry| entry.index).max(batch.reset.unwrap_or(0));
        segment.last_index = segment.last_index.max(last);
        self.at = at + bytes.len() as u64;
        self.next_sequence += 1;
        write_mark(&mut *self.mark, self.owner, sequence)
    }

    /// Removes segments that hold no entry above `index`. The last segment always stays.
    pub(super) fn compact(&mut self, index: u64) -> Result<(), StorageError> {
        let keep = self.segments.len().saturating_sub(1);
        let count = self.segments.iter().take(keep).take_while(|segment| segment.last_index <= index).count();
        // Oldest first: whatever a crash leaves is a run without holes.
        for segment in self.segments.drain(..count) {
            let name = segment.name;
            self.disk.remove(&name).map_err(StorageError::io(format!("remove {name}")))?;
        }
        if count > 0 {
            self.disk.sync().map_err(StorageError::io("sync the directory"))?;
        }
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn set_segment_octets(&mut self, octets: u64) {
        self.segment_octets = octets;
    }
}

fn open_mark(disk: &dyn Disk, owner: u64) -> Result<(Box<dyn DiskFile>, u64), StorageError> {
    let names = disk.list().map_err(StorageError::io("list the directory"))?;
    if !names.iter().any(|name| name == MARK) {
        // Made whole before it gets its name; from then on it is one sector overwritten in place, old or new but never torn.
        let header = FileHeader { kind: FileKind::Mark, owner, sequence: 0 }.emit();
        let unfinished = "unfinished-mark";
        let mut file = disk.create(unfinished).map_err(StorageError::io("create mark"))?;
        file.write_at(&header, 0).and_then(|()| file.sync()).map_err(StorageError::io("write mark"))?;
        disk.rename(unfinished, MARK).map_err(StorageError::io("rename mark"))?;
        return Ok((file, 0));
    }
    let file = disk.open(MARK).map_err(StorageError::io("open mark"))?;
    let bytes = read_all(&*file).map_err(StorageError::io("read mark"))?;
    let header = FileHeader::parse(&bytes, FileKind::Mark).map_err(|bad| StorageError::bad(MARK, 0, bad))?;
    check_owner(MARK, header.owner, owner)?;
    if bytes.len() != HEADER {
        return Err(StorageError::corrupt(MARK, HEADER as u64, "octets are left over"));
    }
    Ok((file, header.sequence))
}

/// Remembers that frame `sequence` has been synced.
fn write_mark(mark: &mut dyn DiskFile, owner: u64, sequence: u64) -> Result<(), StorageError> {
    let header = FileHeader { kind: FileKind::Mark, owner, sequence }.emit();
    mark.write_at(&header, 0).map_err(StorageError::io("write mark"))
}

fn check_owner(file: &str, found: u64, own: u64) -> Result<(), StorageError> {
    if found == own { Ok(()) } else { Err(StorageError::Foreign { file: file.to_owned(), found, own }) }
}

fn emit_records(reset: Option<u64>, entries: &[Entry], hard: Option<HardRecord>) -> Vec<u8> {
    let octets: usize = entries.iter().map(|entry| entry.data.len() + entry.context.len() + 32).sum();
    let mut out = Vec::with_capacity(octets + 64);
    if let Some(index) = reset {
        out.push(RECORD_RESET);
        out = codec::emit(out, &index);
    }
    for entry in entries {
        out.push(RECORD_ENTRY);
        out = codec::emit(out, &EntryRecord::from_library(entry));
    }
    if let Some(hard) = hard {
        out.push(RECORD_HARD);
        out = codec::emit(out, &hard);
    }
    out
}

/// Replays segments in order.
#[derive(Default)]
struct Reader {
    owner: u64,
    /// The highest frame known to have been synced.
    marked: u64,
    next_sequence: u64,
    segments: Vec<Segment>,
    hard: HardRecord,
    loaded: Loaded,
    /// After a reset: the index that the next entry must have.
    expected: Option<u64>,
}

impl Reader {
    /// Octets of the segment that are good; the rest is a torn write. An error when it is damage instead.
    fn segment(&mut self, name: &str, bytes: &[u8], is_last: bool) -> Result<u64, StorageError> {
        self.segments.push(Segment { name: name.to_owned(), last_index: 0 });
        let named = u64::from_str_radix(&name[PREFIX.len()..], 16)
            .map_err(|_| StorageError::corrupt(name, 0, "is not the name of a segment"))?;
        let header = match FileHeader::parse(bytes, FileKind::Log) {
            Ok(header) => header,
            Err(bad)
                if is_last
                    && named > self.marked
                    && follows(bytes, named).is_none()
                    && !matches!(bad, Bad::Newer(_)) =>
            {
                self.next_sequence = self.next_sequence.max(named);
                return Ok(0);
            }
            Err(bad) => return Err(StorageError::bad(name, 0, bad)),
        };
        check_owner(name, header.owner, self.owner)?;
        let first = self.segments.len() == 1;
        if header.sequence != named || (!first && header.sequence != self.next_sequence) {
            return Err(StorageError::corrupt(name, 0, "a segment before it is missing"));
        }
        self.next_sequence = header.sequence;
        let mut at = HEADER;
        while at < bytes.len() {
            match Frame::parse(&bytes[at..]) {
                Ok(frame) if frame.sequence == self.next_sequence => {
                    self.records(name, at as u64, frame.body)?;
                    at += frame.len();
                    self.next_sequence += 1;
                }
                Ok(_) => return Err(StorageError::corrupt(name, at as u64, "a frame before it is missing")),
                Err(bad) => {
                    let damage = !is_last || self.next_sequence <= self.marked;
                    if damage || follows(&bytes[at..], self.next_sequence).is_some() {
                        return Err(StorageError::bad(name, at as u64, bad));
                    }
                    break;
                }
            }
        }
        // A segment without a frame is an unfinished first write.
        if at == HEADER && is_last && named > self.marked { Ok(0) } else { Ok(at as u64) }
    }

    fn records(&mut self, name: &str, at: u64, mut body: &[u8]) -> Result<(), StorageError> {
        let malformed = |_| StorageError::corrupt(name, at, "a record of a whole frame is malformed");
        while let Some((kind, rest)) = body.split_first() {
            body = match *kind {
                RECORD_ENTRY => {
                    let (entry, rest) = codec::parse_some::<EntryRecord>(rest).map_err(malformed)?;
                    let entry = entry.into_library().map_err(malformed)?;
                    self.entry(name, at, entry)?;
                    rest
                }
                RECORD_HARD => {
                    let (hard, rest) = codec::parse_some(rest).map_err(malformed)?;
                    self.hard = hard;
                    rest
                }
                RECORD_RESET => {
                    let (index, rest) = codec::parse_some::<u64>(rest).map_err(malformed)?;
                    self.loaded.entries.clear();
                    self.expected = Some(index.saturating_add(1));
                    self.touch(index);
                    rest
                }
                _ => return Err(StorageError::Newer { file: name.to_owned(), format: *kind }),
            };
        }
        Ok(())
    }

    fn entry(&mut self, name: &str, at: u64, entry: Entry) -> Result<(), StorageError> {
        let entries = &mut self.loaded.entries;
        if let Some(first) = entries.first().map(|entry| entry.index) {
            let keep = entry.index.saturating_sub(first) as usize;
            if keep > entries.len() {
                return Err(StorageError::corrupt(name, at, "an entry before it is missing"));
            }
            entries.truncate(keep);
        } else if self.expected.is_some_and(|expected| entry.index > expected) {
            return Err(StorageError::corrupt(name, at, "an entry before it is missing"));
        }
        self.touch(entry.index);
        self.loaded.entries.push(entry);
        Ok(())
    }

    fn touch(&mut self, index: u64) {
        if let Some(segment) = self.segments.last_mut() {
            segment.last_index = segment.last_index.max(index);
        }
    }
}

/// Where a good frame later than `sequence` begins in `bytes`, at any offset: proof that `sequence` had been synced.
fn follows(bytes: &[u8], sequence: u64) -> Option<usize> {
    (1..bytes.len().saturating_sub(super::frame::FRAME_HEAD)).find(|&at| {
        let ahead = &bytes[at..];
        // The number first: it rules nearly every offset out without a checksum.
        let number = ahead[8..16].try_into().map(u64::from_le_bytes).unwrap_or(0);
        number > sequence && number - sequence < 1 << 20 && Frame::parse(ahead).is_ok()
    })
}
