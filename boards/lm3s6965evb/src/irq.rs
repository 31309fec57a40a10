//! The two interrupts we take, and the vector table they sit in.

use cortex_m::interrupt::InterruptNumber;

/// Timer 0 half A: the alarm of time.rs.
pub const TIMER0: Irq = Irq(19);
/// Ethernet: a frame arrived.
pub const ETHERNET: Irq = Irq(42);

/// An interrupt line.
#[derive(Clone, Copy)]
pub struct Irq(u16);

// SAFETY: the numbers above are lines of this chip and never change.
unsafe impl InterruptNumber for Irq {
    fn number(self) -> u16 {
        self.0
    }
}

/// Lets `irq` through. Its handler below must be able to run from now on.
pub fn enable(irq: Irq) {
    // SAFETY: no critical section is built on masking single lines.
    unsafe { cortex_m::peripheral::NVIC::unmask(irq) }
}

unsafe extern "C" {
    fn DefaultHandler();
}

extern "C" fn timer0() {
    crate::time::on_alarm();
}

extern "C" fn ethernet() {
    crate::eth::on_interrupt();
}

/// Vectors of lines 0 to 42; cortex-m-rt puts them behind the core's own.
#[unsafe(link_section = ".vector_table.interrupts")]
#[unsafe(no_mangle)]
pub static __INTERRUPTS: [unsafe extern "C" fn(); 43] = {
    let mut table = [DefaultHandler as unsafe extern "C" fn(); 43];
    table[TIMER0.0 as usize] = timer0;
    table[ETHERNET.0 as usize] = ethernet;
    table
};
