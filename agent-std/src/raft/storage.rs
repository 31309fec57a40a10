//! Where durable bytes go: a directory of files behind two small traits, so that tests can put a faulty twin in its place.
//!
//! The rest of the module names files and decides what is in them; nothing here knows what a log is.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use crate::whole_file::sync_directory;

/// A flat directory of files. Names are plain file names.
pub trait Disk: Send + Sync {
    /// Names of all files, in no order.
    fn list(&self) -> io::Result<Vec<String>>;
    /// An existing file, for reading and writing.
    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;
    /// A new, empty file; an old one of that name is emptied.
    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;
    /// Gives a file another name and makes that durable; a file that had the name is gone.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file. Durable only after [`Disk::sync`].
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes creations and removals durable.
    fn sync(&self) -> io::Result<()>;
}

/// One open file.
#[allow(clippy::len_without_is_empty)]
pub trait DiskFile: Send {
    /// Octets.
    fn len(&self) -> io::Result<u64>;
    /// Fills `buf` from `at`; fewer octets only at the end of the file.
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize>;
    /// Writes all of `bytes` at `at`. Not durable before [`DiskFile::sync`].
    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()>;
    /// Cuts the file.
    fn truncate(&mut self, len: u64) -> io::Result<()>;
    /// Makes the content and the length durable. After a failure the content is unknown: do not write on.
    fn sync(&mut self) -> io::Result<()>;
}

/// What went wrong with the data directory. Each text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The operating system refused.
    #[error(
        "raft storage: cannot {what}: {source}; the server stops so that nothing is acknowledged that is not on disk"
    )]
    Io {
        /// What was tried.
        what: String,
        /// The system's answer.
        source: io::Error,
    },
    /// Bytes that were durable have changed or are gone.
    #[error(
        "raft storage: {file} at octet {at}: {what}. Data that was acknowledged is damaged, so this server must not vote \
         with it. Cure: remove the server from the cluster (operator raft remove-peer), move its raft directory away and \
         start it again; the leader fills it. If it was the only server, restore the directory from a backup"
    )]
    Corrupt {
        /// File name within the raft directory.
        file: String,
        /// Offset of the first bad octet's frame.
        at: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// A file of a later program version.
    #[error("raft storage: {file} has format {format}, newer than this program knows; start the newer program again")]
    Newer {
        /// File name within the raft directory.
        file: String,
        /// The format found.
        format: u8,
    },
    /// The directory was written by a server of another id.
    #[error(
        "raft storage: {file} belongs to another server (raft id {found:x}, this one is {own:x}); every server needs its own data_dir"
    )]
    Foreign {
        /// File name within the raft directory.
        file: String,
        /// Raft id found.
        found: u64,
        /// Raft id of this server.
        own: u64,
    },
    /// A committed entry that this program cannot carry out.
    #[error("raft: entry {index}: {what}; start a program version that knows it")]
    Entry {
        /// Index in the log.
        index: u64,
        /// What is unknown.
        what: &'static str,
    },
    /// The state machine refused a snapshot.
    #[error("raft: snapshot {index} cannot be restored: {reason}")]
    Restore {
        /// Index of the snapshot.
        index: u64,
        /// The state machine's reason.
        reason: String,
    },
    /// The library refused a configuration.
    #[error("raft: {0}")]
    Library(String),
}

impl StorageError {
    pub(super) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| StorageError::Io { what, source }
    }

    pub(super) fn corrupt(file: &str, at: u64, what: &'static str) -> Self {
        StorageError::Corrupt { file: file.to_owned(), at, what }
    }

    pub(super) fn bad(file: &str, at: u64, bad: super::frame::Bad) -> Self {
        match bad {
            super::frame::Bad::Newer(format) => StorageError::Newer { file: file.to_owned(), format },
            bad => Self::corrupt(file, at, bad.what()),
        }
    }
}

/// A real directory, locked for this process.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// Held open: the lock ends with it.
    _lock: File,
}

impl Directory {
    /// Opens `path`, making it when it does not exist.
    ///
    /// # Errors
    /// The system's; `WouldBlock` when another process uses the directory.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        std::fs::create_dir_all(&path)?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(path.join("lock"))?;
        lock.try_lock().map_err(|error| match error {
            std::fs::TryLockError::WouldBlock => io::Error::new(
                io::ErrorKind::WouldBlock,
                format!("{} is in use by another process; stop that one or choose another data_dir", path.display()),
            ),
            std::fs::TryLockError::Error(error) => error,
        })?;
        if let Some(parent) = path.parent() {
            sync_directory(parent)?;
        }
        Ok(Self { path, _lock: lock })
    }
}

impl Disk for Directory {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            if let Ok(name) = entry?.file_name().into_string()
                && name != "lock"
            {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(OpenOptions::new().read(true).write(true).open(self.path.join(name))?))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        Ok(Box::new(options.read(true).write(true).create(true).truncate(true).open(self.path.join(name))?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path.join(from), self.path.join(to))?;
        self.sync()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path.join(name))
    }

    fn sync(&self) -> io::Result<()> {
        sync_directory(&self.path)
    }
}

impl DiskFile for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, mut buf: &mut [u8], mut at: u64) -> io::Result<usize> {
        let wanted = buf.len();
        while !buf.is_empty() {
            match FileExt::read_at(self, buf, at) {
                Ok(0) => break,
                Ok(read) => {
                    buf = &mut buf[read..];
                    at += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(wanted - buf.len())
    }

    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.write_all_at(bytes, at)
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

/// The whole file.
pub(super) fn read_all(file: &dyn DiskFile) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; file.len()? as usize];
    let read = file.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}
