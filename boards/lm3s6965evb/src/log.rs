//! Log lines, and what a panic does.

use core::panic::PanicInfo;

/// `log!(info, "format", …)`: a defmt line, or nothing when the feature is off. The arguments count as used either way.
macro_rules! log {
    ($level:ident, $text:literal $(, $value:expr)* $(,)?) => {{
        #[cfg(feature = "log")]
        defmt::$level!($text $(, $value)*);
        #[cfg(not(feature = "log"))]
        { $(let _ = &$value;)* }
    }};
}
pub(crate) use log;

#[cfg(feature = "log")]
use defmt_semihosting as _; // links the way out of QEMU

#[cfg(feature = "log")]
defmt::timestamp!("{=u64:us}", embassy_time::Instant::now().as_micros());

/// Says where, then starts anew: a device in a cupboard has nobody to press its button. Under QEMU it ends QEMU with
/// status 101 instead, so that a test sees it.
///
/// Where is an address, and those it was called from; `addr2line -e ELF` turns them into files and lines. The panic's own
/// file, line and message are left alone: kept for every panic there could be, they took 35 KB of flash.
#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    cortex_m::interrupt::disable();
    #[cfg(feature = "log")]
    {
        let [a, b, c, d, e, f] = calls();
        log!(error, "panic at {=u32:#x} {=u32:#x} {=u32:#x} {=u32:#x} {=u32:#x} {=u32:#x}", a, b, c, d, e, f);
    }
    end()
}

/// Return addresses, the latest first: words on the stack that point into the program behind a call. A stale one may be
/// among them.
#[cfg(feature = "log")]
fn calls() -> [u32; 6] {
    unsafe extern "C" {
        static __stext: u8;
        static __etext: u8;
        static _stack_start: u8;
    }
    let [start, end, stack] = [&raw const __stext, &raw const __etext, &raw const _stack_start].map(|at| at as u32);
    let mut calls = [0; 6];
    let mut places = calls.iter_mut();
    for at in (cortex_m::register::msp::read()..stack).step_by(4) {
        // SAFETY: an aligned word of the stack, which nobody else uses any more.
        let word = unsafe { core::ptr::read_volatile(at as *const u32) };
        // Thumb code: return addresses are odd.
        if word & 1 == 1 && (start..end).contains(&word) {
            let Some(place) = places.next() else { break };
            *place = word & !1;
        }
    }
    calls
}

/// A fault of the core: says where the program was, then ends like a panic.
#[cortex_m_rt::exception]
unsafe fn HardFault(frame: &cortex_m_rt::ExceptionFrame) -> ! {
    log!(error, "hard fault at {=u32:#x}, called from {=u32:#x}", frame.pc(), frame.lr());
    end()
}

#[cfg(feature = "log")]
fn end() -> ! {
    semihosting::process::exit(101)
}

#[cfg(not(feature = "log"))]
fn end() -> ! {
    cortex_m::peripheral::SCB::sys_reset()
}
