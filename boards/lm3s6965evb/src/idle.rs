//! Runs the tasks, and sleeps when there is nothing to do.
//!
//! embassy's own loop for Cortex-M sleeps with WFE, which QEMU does not: one board would take a core of the host.
//! This one uses WFI with interrupts masked, so that a wake-up between the last look and the sleep is not lost.

use core::sync::atomic::{AtomicBool, Ordering};

use embassy_executor::{Spawner, raw};
use static_cell::StaticCell;

/// A task was woken since the last look.
static WOKEN: AtomicBool = AtomicBool::new(false);

/// The executor calls this when a task becomes ready, from tasks and from interrupts.
#[unsafe(export_name = "__pender")]
fn pender(_context: *mut ()) {
    WOKEN.store(true, Ordering::Release);
}

/// Spawns the first tasks with `init` and runs for ever.
pub fn run(init: impl FnOnce(Spawner)) -> ! {
    static EXECUTOR: StaticCell<raw::Executor> = StaticCell::new();
    let executor = EXECUTOR.init_with(|| raw::Executor::new(core::ptr::null_mut()));
    init(executor.spawner());
    loop {
        // SAFETY: only this loop polls, and it does not poll while polling.
        unsafe { executor.poll() };
        cortex_m::interrupt::disable();
        if !WOKEN.swap(false, Ordering::Acquire) {
            // Wakes on a pending interrupt though masked; its handler runs after `enable`.
            cortex_m::asm::wfi();
        }
        // SAFETY: interrupts were on before `disable` above, and no critical section is open here.
        unsafe { cortex_m::interrupt::enable() };
    }
}
