//! A thermometer on serial port 0: it sends its value in tenths of a degree as decimal text, one line per value.
//!
//! Under QEMU a test writes the lines (`-serial`). Nothing is read between two calls; the port's FIFO holds 16 octets
//! and its other side waits.

use core::cell::Cell;

use crate::reg::reg;

reg! {
    /// Data.
    DR = 0x4000_C000;
    /// Flags.
    FR = 0x4000_C018;
    /// Integer part of the baud divisor.
    IBRD = 0x4000_C024;
    /// Fractional part, in 64ths.
    FBRD = 0x4000_C028;
    /// Line control.
    LCRH = 0x4000_C02C;
    /// Control.
    CTL = 0x4000_C030;
}

const RX_EMPTY: u32 = 1 << 4;

/// The thermometer.
pub struct Sensor {
    /// Last whole line.
    value: Cell<i32>,
    /// The line being received: its number so far and whether it is negative.
    partial: Cell<(i32, bool)>,
}

impl Sensor {
    /// Opens the port at 9600 baud. Until the first line arrives the value is `initial`.
    pub fn start(initial: i32) -> Self {
        // 20 MHz / (16 × 9600) = 130 + 13/64
        IBRD.write(130);
        FBRD.write(13);
        LCRH.write(3 << 5 | 1 << 4); // 8 bits, FIFO on
        CTL.write(1 << 9 | 1 << 8 | 1); // receive, transmit, enable
        Sensor { value: Cell::new(initial), partial: Cell::new((0, false)) }
    }

    /// The newest value in tenths of a degree.
    pub fn read(&self) -> i32 {
        while FR.read() & RX_EMPTY == 0 {
            let (number, negative) = self.partial.get();
            match (DR.read() & 0xff) as u8 {
                b'-' => self.partial.set((number, true)),
                digit @ b'0'..=b'9' => {
                    self.partial.set((number.wrapping_mul(10).wrapping_add(i32::from(digit - b'0')), negative));
                }
                b'\n' => {
                    self.value.set(if negative { number.wrapping_neg() } else { number });
                    self.partial.set((0, false));
                }
                _ => {}
            }
        }
        self.value.get()
    }
}
