//! The board's select button on pin F1, low while pressed. Under QEMU it is the control key.

use embassy_time::Timer;

use crate::reg::reg;

reg! {
    /// Port F, pin 1 alone: the address carries the mask.
    PIN = 0x4002_5000 + (1 << 1 << 2);
    /// Pull-up.
    PUR = 0x4002_5510;
    /// Digital function.
    DEN = 0x4002_551C;
}

const F1: u32 = 1 << 1;
/// Looked at this often; shorter presses are bounces.
const LOOK_MS: u64 = 100;

/// The select button.
pub struct Button;

impl Button {
    /// Sets the pin up.
    pub fn start() -> Self {
        PUR.write(PUR.read() | F1);
        DEN.write(DEN.read() | F1);
        Button
    }

    /// Returns once it was pressed and let go. The level alone tells nothing: QEMU's pin is low until its first key.
    pub async fn pressed(&self) {
        let mut was_low = false;
        loop {
            Timer::after_millis(LOOK_MS).await;
            let is_low = PIN.read() & F1 == 0;
            if was_low && !is_low {
                return;
            }
            was_low = is_low;
        }
    }
}
