//! embassy-time's driver: SysTick counts, timer 0 is the alarm.
//!
//! One tick is one core cycle, so that `now` needs no division. SysTick has 24 bits and wraps after 0.84 s; its
//! interrupt takes a sample at every wrap, which is all the accumulator needs. QEMU's model of timer 0 cannot be read
//! while it runs, hence two timers.

use core::{
    cell::{Cell, RefCell},
    task::Waker,
};

use cortex_m::peripheral::{SYST, syst::SystClkSource};
use cortex_m_rt::exception;
use critical_section::{CriticalSection, Mutex};
use embassy_time_driver::Driver;
use embassy_time_queue_utils::Queue;

use crate::{irq, reg::reg};

reg! {
    /// Timer 0: width.
    CFG = 0x4003_0000;
    /// Mode of half A, or of both as one.
    TAMR = 0x4003_0004;
    /// Enable.
    CTL = 0x4003_000C;
    /// Interrupt mask.
    IMR = 0x4003_0018;
    /// Interrupt clear.
    ICR = 0x4003_0024;
    /// Cycles to count.
    TAILR = 0x4003_0028;
}

const ONE_SHOT: u32 = 1;
const TIMEOUT: u32 = 1;
/// SysTick's reload value, also the mask of its count.
const WRAP: u32 = 0x00FF_FFFF;

struct Clock {
    /// SysTick's count at the last sample, and the ticks until then.
    sample: Mutex<Cell<(u32, u64)>>,
    queue: Mutex<RefCell<Queue>>,
}

embassy_time_driver::time_driver_impl!(static CLOCK: Clock = Clock {
    sample: Mutex::new(Cell::new((0, 0))),
    queue: Mutex::new(RefCell::new(Queue::new())),
});

/// Starts counting. Call once, after the core clock runs at its final speed.
pub fn start(mut systick: SYST) {
    systick.set_clock_source(SystClkSource::Core);
    systick.set_reload(WRAP);
    systick.clear_current();
    systick.enable_interrupt();
    systick.enable_counter();
    CTL.write(0);
    CFG.write(0); // one 32-bit timer
    TAMR.write(ONE_SHOT);
    IMR.write(TIMEOUT);
    irq::enable(irq::TIMER0);
}

impl Clock {
    fn now(&self, cs: CriticalSection<'_>) -> u64 {
        let count = SYST::get_current();
        let (last, ticks) = self.sample.borrow(cs).get();
        // It counts down. Right as long as samples are less than one wrap apart.
        let ticks = ticks + u64::from(last.wrapping_sub(count) & WRAP);
        self.sample.borrow(cs).set((count, ticks));
        ticks
    }

    /// Wakes what is due and sets the alarm for the next.
    fn rearm(&self, cs: CriticalSection<'_>) {
        let now = self.now(cs);
        let next = self.queue.borrow_ref_mut(cs).next_expiration(now);
        CTL.write(0);
        ICR.write(TIMEOUT);
        if next == u64::MAX {
            return;
        }
        // 2³² cycles are 214 s; a longer wait takes several alarms. Never zero: that would never fire.
        let wait = next.saturating_sub(now).clamp(1, u64::from(u32::MAX));
        TAILR.write(wait as u32);
        CTL.write(1);
    }
}

impl Driver for Clock {
    fn now(&self) -> u64 {
        critical_section::with(|cs| self.now(cs))
    }

    fn schedule_wake(&self, at: u64, waker: &Waker) {
        critical_section::with(|cs| {
            let changed = self.queue.borrow_ref_mut(cs).schedule_wake(at, waker);
            if changed {
                self.rearm(cs);
            }
        });
    }
}

#[exception]
fn SysTick() {
    critical_section::with(|cs| CLOCK.now(cs));
}

/// The alarm (vector in irq.rs).
pub fn on_alarm() {
    critical_section::with(|cs| CLOCK.rearm(cs));
}
