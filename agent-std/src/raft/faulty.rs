//! The faulty twin of a disk: files in memory that forget, tear, flip and refuse as a seed says.
//!
//! What a file holds and what would survive a power cut are kept apart. [`MemoryDisk::crash`] throws away what was not
//! synced: each unsynced write is dropped, kept or cut in the middle, and a name that was not made durable may vanish.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard};

use super::storage::{Disk, DiskFile};

/// A disk in memory. Clones are the same disk.
#[derive(Clone, Default)]
pub(super) struct MemoryDisk {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    /// Names as programs see them, and as a power cut would leave them.
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    files: Vec<Content>,
    random: u64,
    fault: Option<Fault>,
    syncs: u64,
    written: u64,
    /// Handles of before a crash are dead.
    epoch: u64,
}

#[derive(Default, Clone)]
struct Content {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    /// Unsynced writes, in order.
    pending: Vec<(u64, Vec<u8>)>,
}

/// What goes wrong, and after how many more calls.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fault {
    /// Writes fail after this many octets: the disk is full.
    Full(u64),
    /// The n-th sync from now fails (EIO).
    SyncFails(u64),
    /// Syncs from the n-th on say they succeeded and did nothing.
    SyncLies(u64),
    /// The n-th read from now fails (EIO).
    ReadFails(u64),
}

impl MemoryDisk {
    pub(super) fn new(seed: u64) -> Self {
        let disk = Self::default();
        disk.lock().random = seed | 1;
        disk
    }

    /// Another course of what is left to chance.
    pub(super) fn set_random(&self, seed: u64) {
        self.lock().random = seed | 1;
    }

    pub(super) fn set_fault(&self, fault: Option<Fault>) {
        self.lock().fault = fault;
    }

    /// A power cut.
    pub(super) fn crash(&self) {
        let mut inner = self.lock();
        inner.epoch += 1;
        inner.fault = None;
        let mut names = inner.durable_names.clone();
        // A name that was made but not synced may have reached the disk by chance.
        let fresh: Vec<_> =
            inner.names.iter().filter(|(name, _)| !names.contains_key(*name)).map(|(n, f)| (n.clone(), *f)).collect();
        for (name, file) in fresh {
            if inner.chance(2) {
                names.insert(name, file);
            }
        }
        for file in 0..inner.files.len() {
            inner.lose_writes(file);
        }
        inner.durable_names = names.clone();
        inner.names = names;
    }

    /// The process died, the machine did not: nothing is lost, but old handles are dead.
    pub(super) fn kill(&self) {
        let mut inner = self.lock();
        inner.epoch += 1;
        inner.fault = None;
    }

    pub(super) fn flip(&self, name: &str, bit: u64) {
        let mut inner = self.lock();
        let file = inner.names[name];
        let content = &mut inner.files[file];
        content.bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
        content.durable = content.bytes.clone();
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.lock().names.keys().cloned().collect()
    }

    pub(super) fn octets(&self, name: &str) -> u64 {
        let inner = self.lock();
        inner.files[inner.names[name]].bytes.len() as u64
    }

    pub(super) fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    pub(super) fn written(&self) -> u64 {
        self.lock().written
    }

    /// A disk of its own with the same content.
    pub(super) fn copy(&self) -> Self {
        let inner = self.lock();
        let copy = Inner {
            names: inner.names.clone(),
            durable_names: inner.names.clone(),
            files: inner.files.clone(),
            random: inner.random,
            ..Inner::default()
        };
        Self { inner: Arc::new(Mutex::new(copy)) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no test panics while it holds a disk")
    }
}

impl Inner {
    fn next(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    fn chance(&mut self, one_in: u64) -> bool {
        self.next().is_multiple_of(one_in)
    }

    fn lose_writes(&mut self, file: usize) {
        let pending = std::mem::take(&mut self.files[file].pending);
        let mut bytes = self.files[file].durable.clone();
        for (at, data) in pending {
            let end = at as usize + data.len();
            // Overwriting within a sector is atomic on any disk made in decades.
            let atomic = end <= bytes.len() && at / 512 == (end as u64 - 1) / 512;
            let keep = match self.next() % 4 {
                0 => data.len(),
                1 => 0,
                _ if atomic => data.len(),
                // Torn at any octet.
                _ => (self.next() % (data.len() as u64 + 1)) as usize,
            };
            if keep > 0 {
                overwrite(&mut bytes, at, &data[..keep]);
            }
            // The length may have reached the disk without the octets.
            if keep < data.len() && self.chance(3) {
                bytes.resize(bytes.len().max(at as usize + data.len()), 0);
            }
        }
        let content = &mut self.files[file];
        content.durable = bytes.clone();
        content.bytes = bytes;
    }

    fn may_write(&mut self, octets: u64) -> io::Result<()> {
        if let Some(Fault::Full(room)) = &mut self.fault {
            if *room < octets {
                *room = 0;
                return Err(ErrorKind::StorageFull.into());
            }
            *room -= octets;
        }
        self.written += octets;
        Ok(())
    }

    fn may_read(&mut self) -> io::Result<()> {
        match &mut self.fault {
            Some(Fault::ReadFails(0)) => Err(io::Error::other("input/output error")),
            Some(Fault::ReadFails(left)) => {
                *left -= 1;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Whether this sync does its work; an error when it says so.
    fn may_sync(&mut self) -> io::Result<bool> {
        self.syncs += 1;
        match &mut self.fault {
            Some(Fault::SyncFails(0)) => Err(io::Error::other("input/output error")),
            Some(Fault::SyncLies(0)) => Ok(false),
            Some(Fault::SyncFails(left) | Fault::SyncLies(left)) => {
                *left -= 1;
                Ok(true)
            }
            _ => Ok(true),
        }
    }
}

fn overwrite(bytes: &mut Vec<u8>, at: u64, data: &[u8]) {
    let at = at as usize;
    bytes.resize(bytes.len().max(at + data.len()), 0);
    bytes[at..at + data.len()].copy_from_slice(data);
}

impl Disk for MemoryDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.names())
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let inner = self.lock();
        let file = *inner.names.get(name).ok_or(ErrorKind::NotFound)?;
        Ok(Box::new(MemoryFile { disk: self.clone(), file, epoch: inner.epoch }))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut inner = self.lock();
        inner.files.push(Content::default());
        let file = inner.files.len() - 1;
        inner.names.insert(name.to_owned(), file);
        Ok(Box::new(MemoryFile { disk: self.clone(), file, epoch: inner.epoch }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        {
            let mut inner = self.lock();
            let file = inner.names.remove(from).ok_or(ErrorKind::NotFound)?;
            inner.names.insert(to.to_owned(), file);
        }
        self.sync()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.lock().names.remove(name).map(drop).ok_or(ErrorKind::NotFound.into())
    }

    fn sync(&self) -> io::Result<()> {
        let mut inner = self.lock();
        if inner.may_sync()? {
            inner.durable_names = inner.names.clone();
        }
        Ok(())
    }
}

struct MemoryFile {
    disk: MemoryDisk,
    file: usize,
    epoch: u64,
}

impl MemoryFile {
    fn inner(&self) -> io::Result<MutexGuard<'_, Inner>> {
        let inner = self.disk.lock();
        if inner.epoch == self.epoch { Ok(inner) } else { Err(io::Error::other("the process of this handle is dead")) }
    }
}

impl DiskFile for MemoryFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.inner()?.files[self.file].bytes.len() as u64)
    }

    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let mut inner = self.inner()?;
        inner.may_read()?;
        let bytes = inner.files[self.file].bytes.get(at as usize..).unwrap_or_default();
        let read = bytes.len().min(buf.len());
        buf[..read].copy_from_slice(&bytes[..read]);
        Ok(read)
    }

    fn write_at(&mut self, data: &[u8], at: u64) -> io::Result<()> {
        let mut inner = self.inner()?;
        inner.may_write(data.len() as u64)?;
        let content = &mut inner.files[self.file];
        overwrite(&mut content.bytes, at, data);
        content.pending.push((at, data.to_vec()));
        Ok(())
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        let mut inner = self.inner()?;
        let content = &mut inner.files[self.file];
        content.bytes.truncate(len as usize);
        content.durable.truncate(len as usize);
        content.pending.clear();
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut inner = self.inner()?;
        if inner.may_sync()? {
            let content = &mut inner.files[self.file];
            content.durable = content.bytes.clone();
            content.pending.clear();
        }
        Ok(())
    }
}
