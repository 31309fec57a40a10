//! How many calls a client agent makes (`limits.rpc_rate`, `limits.rpc_max_burst`).

use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

/// A limit: so many calls per second for long, and so many at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Calls per second; 0 for none beyond the burst.
    pub per_second: f64,
    /// Calls at once after a pause.
    pub burst: u32,
}

/// A bucket that fills at a rate and gives one call for each drop.
#[derive(Debug)]
pub(super) struct Bucket {
    rate: Rate,
    /// What is in it, and when that was so.
    level: Mutex<(f64, Instant)>,
}

impl Bucket {
    pub fn new(rate: Rate) -> Self {
        Bucket { rate, level: Mutex::new((rate.burst.into(), Instant::now())) }
    }

    /// Takes one call out, if there is one.
    pub fn take(&self) -> bool {
        let mut level = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let (left, since) = *level;
        let filled = left + now.duration_since(since).as_secs_f64() * self.rate.per_second;
        let filled = filled.min(self.rate.burst.into());
        let given = filled >= 1.0;
        *level = (if given { filled - 1.0 } else { filled }, now);
        given
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_then_the_rate() {
        let bucket = Bucket::new(Rate { per_second: 2.0, burst: 3 });
        let given = || (0..10).filter(|_| bucket.take()).count();
        assert_eq!(given(), 3);
        tokio::time::advance(Duration::from_millis(499)).await;
        assert_eq!(given(), 0);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(given(), 1);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(given(), 3, "no more than the burst, however long the pause");
    }
}
