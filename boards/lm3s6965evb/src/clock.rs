//! Brings the core to 20 MHz, the 200 MHz of the PLL divided by ten, and switches on the blocks we use.

use crate::reg::reg;

reg! {
    /// Run-mode clock configuration.
    RCC = 0x400F_E060;
    /// Raw interrupt status of system control.
    RIS = 0x400F_E050;
    /// Clock gates: UART and timers.
    RCGC1 = 0x400F_E104;
    /// Clock gates: Ethernet and GPIO.
    RCGC2 = 0x400F_E108;
}

const PWRDN: u32 = 1 << 13;
const BYPASS: u32 = 1 << 11;
const USESYSDIV: u32 = 1 << 22;
const SYSDIV: u32 = 0xf << 23;
const XTAL: u32 = 0xf << 6;
const OSCSRC: u32 = 3 << 4;
const PLL_LOCKED: u32 = 1 << 6;

/// Call once, before anything else.
pub fn start() {
    // Data sheet 6.2.5.2: bypass, choose the crystal and power the PLL, set the divider, wait for lock, leave bypass.
    let rcc = (RCC.read() | BYPASS) & !USESYSDIV;
    RCC.write(rcc);
    let rcc = rcc & !(XTAL | OSCSRC | PWRDN) | 0xe << 6; // 8 MHz crystal, main oscillator
    RCC.write(rcc);
    let rcc = rcc & !SYSDIV | 9 << 23 | USESYSDIV; // divide by 9 + 1
    RCC.write(rcc);
    while RIS.read() & PLL_LOCKED == 0 {}
    RCC.write(rcc & !BYPASS);

    RCGC1.write(RCGC1.read() | 1 << 16 | 1); // timer 0, UART 0
    RCGC2.write(RCGC2.read() | 1 << 30 | 1 << 28 | 1 << 5 | 1 << 4); // PHY, MAC, GPIO ports F and E
    // A block may be touched three cycles after its clock was switched on.
    cortex_m::asm::delay(3);
}
