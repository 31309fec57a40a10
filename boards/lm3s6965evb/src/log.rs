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
#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    cortex_m::interrupt::disable();
    let (file, line) = info.location().map_or(("?", 0), |at| (at.file(), at.line()));
    log!(error, "panic at {=str}:{=u32}", file, line);
    end()
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
