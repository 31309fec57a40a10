//! The wall clock of one process, set by a test while it runs (`LD_PRELOAD`).
//!
//! The first 8 octets of the file that `LICTOR_TEST_CLOCK` names are added to `CLOCK_REALTIME`, in milliseconds, signed,
//! little endian; a change takes effect at once. All other clocks are the system's. So the shipped program needs no hook,
//! no setting and no privilege for tests of clock jumps, and the real Consul can be tested the same way.

use std::ffi::c_int;
use std::sync::atomic::{AtomicI32, Ordering};

/// No file has been opened yet.
const CLOSED: i32 = -2;
/// There is none.
const NONE: i32 = -1;

static FILE: AtomicI32 = AtomicI32::new(CLOSED);

/// libc's function of this name.
///
/// # Safety
///
/// `time` is valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> c_int {
    // SAFETY: the caller's promise is the kernel's condition.
    let result = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) };
    if result == 0 && clock == libc::CLOCK_REALTIME {
        let ahead = ahead();
        // SAFETY: the caller's promise; the kernel has just written there.
        let time = unsafe { &mut *time };
        let millis = time.tv_nsec / 1_000_000 + ahead % 1000;
        time.tv_sec += ahead / 1000 + millis.div_euclid(1000);
        time.tv_nsec = millis.rem_euclid(1000) * 1_000_000;
    }
    if result == 0 { 0 } else { -1 }
}

fn ahead() -> i64 {
    let mut file = FILE.load(Ordering::Relaxed);
    if file == CLOSED {
        // SAFETY: the name ends with a zero.
        let name = unsafe { libc::getenv(c"LICTOR_TEST_CLOCK".as_ptr()) };
        // SAFETY: what `getenv` returns ends with a zero.
        file = if name.is_null() { NONE } else { unsafe { libc::open(name, libc::O_RDONLY | libc::O_CLOEXEC) } };
        FILE.store(file, Ordering::Relaxed);
    }
    let mut octets = [0; 8];
    // SAFETY: the buffer is as long as is said.
    let read = unsafe { libc::pread(file, octets.as_mut_ptr().cast(), octets.len(), 0) };
    if read == 8 { i64::from_le_bytes(octets) } else { 0 }
}
