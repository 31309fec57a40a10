//! Waiting for a condition, with a bound. Never for a time.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::Result;

/// Time between two looks. Short against everything the agents do, long against a look's own cost.
const PAUSE: Duration = Duration::from_millis(50);

/// Looks again and again until `look` finds something.
///
/// # Errors
///
/// When `limit` has passed; the text has `what` was waited for and what the last look saw instead.
pub fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        match look() {
            Ok(found) => return Ok(found),
            Err(error) if Instant::now() >= deadline => {
                return Err(format!("waited {} s for {what}: {error}", limit.as_secs()).into());
            }
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

/// Looks again and again for `span`, and fails as soon as a look does.
///
/// # Errors
///
/// The first look's that fails, with the time it took.
pub fn holds(what: &str, span: Duration, mut look: impl FnMut() -> Result<()>) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < span {
        look().map_err(|error| format!("{what} stopped after {:.1} s: {error}", start.elapsed().as_secs_f32()))?;
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// `Ok` when `condition` is true, else `seen` as the error of a look.
pub fn check(condition: bool, seen: impl FnOnce() -> String) -> Result<()> {
    if condition { Ok(()) } else { Err(seen().into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn until_returns_what_was_found_and_tells_what_was_seen() {
        let mut looks = 0;
        let third = until("the third look", Duration::from_secs(5), || {
            looks += 1;
            check(looks == 3, || format!("look {looks}")).map(|()| looks)
        });
        assert_eq!(third.unwrap(), 3);
        let error = until("nothing", Duration::ZERO, || check(false, || "a wall".into())).unwrap_err().to_string();
        assert!(error.contains("nothing") && error.contains("a wall"), "{error}");
    }

    #[test]
    fn holds_fails_at_the_first_bad_look() {
        let mut looks = 0;
        let result = holds("calm", Duration::from_secs(5), || {
            looks += 1;
            check(looks < 3, || "storm".into())
        });
        assert!(result.unwrap_err().to_string().contains("storm"));
        assert_eq!(looks, 3);
    }
}
