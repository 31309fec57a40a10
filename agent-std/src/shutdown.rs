//! Signals and exit codes (config spec §7).
//!
//! | event | leave? | exit code |
//! |---|---|---|
//! | SIGINT | unless `skip_leave_on_interrupt` | 0 after a leave, else 1 |
//! | SIGTERM | if `leave_on_terminate` | 0 after a leave, else 1 |
//! | SIGHUP | no: reload | – |
//! | a second SIGINT or SIGTERM, or a leave of more than 15 s | – | 1 at once |
//!
//! SIGPIPE is ignored by Rust's runtime already.

use std::{future::Future, io, time::Duration};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::Config;

/// A leave that takes longer is given up; Consul's limit.
pub const LEAVE_TIMEOUT: Duration = Duration::from_secs(15);

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Stop now, exit code 1.
    Stop,
    /// Leave, then stop.
    Leave,
    /// Read the configuration again.
    Reload,
}

/// Which signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// SIGINT.
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// SIGHUP.
    Hangup,
}

impl Kind {
    /// What this signal asks for under `config`.
    pub fn wish(self, config: &Config) -> Wish {
        let leave = match self {
            Kind::Hangup => return Wish::Reload,
            Kind::Interrupt => !config.skip_leave_on_interrupt,
            Kind::Terminate => config.leave_on_terminate,
        };
        if leave { Wish::Leave } else { Wish::Stop }
    }
}

/// The signals an agent listens to.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    /// Starts listening. From here on the signals no longer end the process by themselves.
    ///
    /// # Errors
    /// What the system says.
    pub fn listen() -> io::Result<Self> {
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The next signal. Cancel safe.
    pub async fn next(&mut self) -> Kind {
        tokio::select! {
            _ = self.interrupt.recv() => Kind::Interrupt,
            _ = self.terminate.recv() => Kind::Terminate,
            _ = self.hangup.recv() => Kind::Hangup,
        }
    }

    /// Waits for `leave`, but no longer than [`LEAVE_TIMEOUT`] and not past a second signal. The exit code.
    pub async fn while_leaving(&mut self, leave: impl Future<Output = bool>) -> u8 {
        let again = async {
            // SIGHUP changes nothing any more.
            while self.next().await == Kind::Hangup {}
        };
        tokio::select! {
            done = leave => u8::from(!done),
            () = again => 1,
            () = tokio::time::sleep(LEAVE_TIMEOUT) => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(server: bool) -> Config {
        let low = serde_json::from_value(serde_json::json!({"node_name": "n", "server": server})).unwrap();
        Config::resolve(low, true).unwrap()
    }

    #[test]
    fn defaults_differ_between_servers_and_clients() {
        for (server, wish) in [(true, Wish::Stop), (false, Wish::Leave)] {
            assert_eq!(Kind::Interrupt.wish(&config(server)), wish);
            assert_eq!(Kind::Terminate.wish(&config(server)), wish);
            assert_eq!(Kind::Hangup.wish(&config(server)), Wish::Reload);
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn signals_arrive_and_cut_a_leave_short() {
        let mut signals = Signals::listen().unwrap();
        let raise = |signal| rustix::process::kill_process(rustix::process::getpid(), signal).unwrap();
        raise(rustix::process::Signal::HUP);
        assert_eq!(signals.next().await, Kind::Hangup);
        assert_eq!(signals.while_leaving(async { true }).await, 0);
        assert_eq!(signals.while_leaving(async { false }).await, 1);
        raise(rustix::process::Signal::TERM);
        assert_eq!(signals.while_leaving(std::future::pending()).await, 1);
    }
}
