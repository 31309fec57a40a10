//! The search for an order: depth first over the calls that could come next, remembering what has been tried.

use std::collections::{HashMap, HashSet};
use std::fmt;

use crate::key::{Answer, Key, Op};

/// One call of a history. Times are any numbers that grow; equal ones count as overlapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Who called; only for the report.
    pub client: u64,
    /// What was asked.
    pub op: Op,
    /// When it was asked.
    pub from: u64,
    /// When the answer came and what it was; `None`: nobody knows whether it was carried out, then or later.
    pub answer: Option<(u64, Answer)>,
}

/// No order explains the answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The longest run of calls, in order, that could be explained.
    pub explained: Vec<Call>,
    /// The calls that were open after it, one of whose answers is wrong.
    pub stuck: Vec<Call>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "not linearizable: after these {} calls", self.explained.len())?;
        // The last ones tell the story.
        for call in &self.explained[self.explained.len().saturating_sub(12)..] {
            writeln!(f, "  {call:?}")?;
        }
        writeln!(f, "none of these can come next with its answer:")?;
        self.stuck.iter().try_for_each(|call| writeln!(f, "  {call:?}"))
    }
}

impl std::error::Error for Violation {}

/// Checks the history of one key, which does not exist at its beginning. Calls may be in any order.
///
/// # Errors
///
/// The history is not linearizable.
pub fn check(calls: &[Call]) -> Result<(), Violation> {
    let mut calls = calls.to_vec();
    // Calls without an answer last: they are only tried where the others alone explain nothing, and those first whose
    // value is needed first.
    let shown = first_shown(&calls);
    calls.sort_by_key(|call| match call.answer {
        Some(_) => (false, call.from),
        None => (true, call.op.value().and_then(|value| shown.get(&value).copied()).unwrap_or(u64::MAX)),
    });
    let mut search = Search::new(&calls);
    loop {
        if search.answered == 0 {
            return Ok(());
        }
        if !search.forward() && !search.back() {
            return Err(search.violation());
        }
    }
}

/// When the first read of each value was answered.
fn first_shown(calls: &[Call]) -> HashMap<u64, u64> {
    let mut shown = HashMap::new();
    for call in calls {
        if let Some((to, Answer::Found(Some(row)))) = call.answer {
            let first = shown.entry(row.value).or_insert(to);
            *first = to.min(*first);
        }
    }
    shown
}

/// Calls that have been given their place, one bit each.
type Places = Vec<u64>;

/// The answered calls before place `end` that were asked before `limit`, when the first of them was answered.
struct Open {
    end: usize,
    limit: u64,
}

struct Search<'a> {
    calls: &'a [Call],
    /// Where the calls without an answer begin.
    lost: usize,
    placed: Places,
    /// Placed calls in order, each with the state before it.
    order: Vec<(usize, Key)>,
    state: Key,
    /// Where to look for the next call.
    from: usize,
    /// Answered calls that have no place yet.
    answered: usize,
    tried: HashSet<(Places, Key)>,
    longest: Vec<usize>,
}

impl<'a> Search<'a> {
    fn new(calls: &'a [Call]) -> Self {
        Search {
            calls,
            lost: calls.iter().take_while(|call| call.answer.is_some()).count(),
            placed: vec![0; calls.len().div_ceil(64)],
            order: Vec::new(),
            state: Key::default(),
            from: 0,
            answered: calls.iter().filter(|call| call.answer.is_some()).count(),
            tried: HashSet::new(),
            longest: Vec::new(),
        }
    }

    /// Gives one more call its place, if one is left to try here.
    fn forward(&mut self) -> bool {
        // Who has its answer before another call began comes before it.
        let open = self.open();
        let (limit, end) = (open.limit, open.end);
        let calls = self.calls;
        for n in (self.from..end).chain(self.from.max(self.lost)..calls.len()) {
            let call = &calls[n];
            if call.from > limit || self.is_placed(n) {
                continue;
            }
            let Some(next) = self.state.after(call.op, call.answer.map(|(_, answer)| answer)) else { continue };
            // Without an answer and without effect it need not have happened.
            if call.answer.is_none() && next == self.state {
                continue;
            }
            self.turn(n);
            if self.tried.insert((self.placed.clone(), next)) {
                self.order.push((n, self.state));
                self.state = next;
                self.answered -= usize::from(call.answer.is_some());
                self.from = self.first_open();
                if self.order.len() > self.longest.len() {
                    self.longest = self.order.iter().map(|(n, _)| *n).collect();
                }
                return true;
            }
            self.turn(n);
        }
        false
    }

    /// Takes the last call's place away; the search goes on behind it.
    fn back(&mut self) -> bool {
        let Some((n, state)) = self.order.pop() else { return false };
        self.turn(n);
        self.answered += usize::from(self.calls[n].answer.is_some());
        self.state = state;
        self.from = n + 1;
        true
    }

    fn is_placed(&self, n: usize) -> bool {
        self.placed[n / 64] >> (n % 64) & 1 == 1
    }

    fn turn(&mut self, n: usize) {
        self.placed[n / 64] ^= 1 << (n % 64);
    }

    fn first_open(&self) -> usize {
        let word = self.placed.iter().position(|word| *word != u64::MAX).unwrap_or(self.placed.len());
        let first = word * 64 + self.placed.get(word).map_or(0, |word| word.trailing_ones() as usize);
        first.min(self.lost)
    }

    /// Which answered calls could come next.
    fn open(&self) -> Open {
        let mut open = Open { end: self.first_open(), limit: u64::MAX };
        while open.end < self.lost && self.calls[open.end].from <= open.limit {
            if let Some((to, _)) = self.calls[open.end].answer.filter(|_| !self.is_placed(open.end)) {
                open.limit = open.limit.min(to);
            }
            open.end += 1;
        }
        open
    }

    fn violation(&self) -> Violation {
        let mut end = Search::new(self.calls);
        self.longest.iter().for_each(|n| end.turn(*n));
        Violation {
            explained: self.longest.iter().map(|n| self.calls[*n]).collect(),
            stuck: (0..end.open().end).filter(|n| !end.is_placed(*n)).map(|n| self.calls[n]).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Row;

    fn call(client: u64, from: u64, to: u64, op: Op, answer: Answer) -> Call {
        Call { client, op, from, answer: Some((to, answer)) }
    }

    fn lost(from: u64, op: Op) -> Call {
        Call { client: 9, op, from, answer: None }
    }

    fn row(value: u64, index: u64) -> Answer {
        Answer::Found(Some(Row { value, index, session: None }))
    }

    fn locked(value: u64, index: u64, session: u64) -> Answer {
        Answer::Found(Some(Row { value, index, session: Some(session) }))
    }

    const NOTHING: Answer = Answer::Found(None);
    const DONE: Answer = Answer::Done;
    const YES: Answer = Answer::Did(true);
    const NO: Answer = Answer::Did(false);

    #[track_caller]
    fn good(calls: &[Call]) {
        check(calls).unwrap();
    }

    #[track_caller]
    fn bad(calls: &[Call]) {
        let violation = check(calls).expect_err("it must be refused");
        assert!(!violation.stuck.is_empty() && violation.to_string().contains("not linearizable"), "{violation}");
    }

    #[test]
    fn a_read_while_a_write_is_under_way_may_see_either() {
        let write = call(1, 10, 20, Op::Set(1), DONE);
        good(&[write, call(2, 12, 14, Op::Get, NOTHING), call(2, 15, 18, Op::Get, row(1, 5))]);
        bad(&[write, call(2, 12, 14, Op::Get, row(1, 5)), call(2, 15, 18, Op::Get, NOTHING)]);
    }

    #[test]
    fn a_read_after_an_acknowledged_write_must_see_it() {
        let write = call(1, 10, 20, Op::Set(1), DONE);
        bad(&[write, call(2, 21, 22, Op::Get, NOTHING)]);
        good(&[write, call(2, 20, 22, Op::Get, NOTHING)]);
        bad(&[write, call(1, 21, 30, Op::Set(2), DONE), call(2, 31, 32, Op::Get, row(1, 5))]);
        bad(&[write, call(2, 21, 22, Op::Get, row(7, 5))]);
    }

    #[test]
    fn a_write_without_an_answer_happened_or_not_or_happens_late() {
        let write = lost(10, Op::Set(1));
        good(&[write, call(2, 21, 22, Op::Get, NOTHING)]);
        good(&[write, call(2, 21, 22, Op::Get, NOTHING), call(2, 90, 91, Op::Get, row(1, 5))]);
        bad(&[write, call(2, 21, 22, Op::Get, row(1, 5)), call(2, 90, 91, Op::Get, NOTHING)]);
        bad(&[write, call(2, 1, 5, Op::Get, row(1, 5))]);
    }

    #[test]
    fn of_two_cas_with_one_index_only_one_can_win() {
        let begin = [call(1, 1, 2, Op::Set(1), DONE), call(1, 3, 4, Op::Get, row(1, 7))];
        let first = call(1, 10, 20, Op::Cas { index: 7, value: 2 }, YES);
        let with = |answer| [begin[0], begin[1], first, call(2, 11, 19, Op::Cas { index: 7, value: 3 }, answer)];
        good(&with(NO));
        bad(&with(YES));
        // One that nobody was in the way of must win.
        bad(&[begin[0], begin[1], call(2, 11, 19, Op::Cas { index: 7, value: 3 }, NO)]);
        let create = |client, answer| call(client, 1, 9, Op::Cas { index: 0, value: client }, answer);
        good(&[create(1, YES), create(2, NO)]);
        bad(&[create(1, YES), create(2, YES)]);
        bad(&[create(1, NO), create(2, NO)]);
    }

    #[test]
    fn a_lost_update_is_found() {
        // Both read, both write what follows from it, and both are told that they did.
        bad(&[
            call(1, 1, 2, Op::Set(1), DONE),
            call(1, 3, 4, Op::Get, row(1, 7)),
            call(1, 5, 6, Op::Cas { index: 7, value: 2 }, YES),
            call(2, 7, 8, Op::Cas { index: 7, value: 3 }, YES),
        ]);
    }

    #[test]
    fn indexes_grow_and_stay_with_their_write() {
        let write = call(1, 1, 2, Op::Set(1), DONE);
        good(&[write, call(1, 3, 4, Op::Get, row(1, 7)), call(1, 5, 6, Op::Get, row(1, 7))]);
        bad(&[write, call(1, 3, 4, Op::Get, row(1, 7)), call(1, 5, 6, Op::Get, row(1, 8))]);
        let again = call(1, 5, 6, Op::Set(2), DONE);
        bad(&[write, call(1, 3, 4, Op::Get, row(1, 7)), again, call(1, 7, 8, Op::Get, row(2, 6))]);
    }

    #[test]
    fn a_lock_has_one_holder() {
        let acquire = |client, from, answer| {
            call(client, from, from + 10, Op::Acquire { session: client, value: client }, answer)
        };
        good(&[acquire(1, 1, YES), acquire(2, 2, NO)]);
        bad(&[acquire(1, 1, YES), acquire(2, 2, YES)]);
        bad(&[acquire(1, 1, NO)]);
        let release = |answer| call(1, 20, 21, Op::Release { session: 1, value: 9 }, answer);
        good(&[acquire(1, 1, YES), release(YES), acquire(2, 30, YES)]);
        bad(&[acquire(1, 1, YES), release(NO)]);
        bad(&[acquire(1, 1, YES), release(YES), acquire(2, 30, NO)]);
        bad(&[acquire(1, 1, YES), call(3, 40, 41, Op::Get, row(1, 5))]);
        good(&[acquire(1, 1, YES), call(3, 40, 41, Op::Get, locked(1, 5, 1))]);
    }

    #[test]
    fn a_session_that_ends_gives_its_key_free() {
        let acquire = call(1, 1, 2, Op::Acquire { session: 1, value: 1 }, YES);
        let other = |answer| call(2, 20, 21, Op::Acquire { session: 2, value: 2 }, answer);
        let end = call(1, 10, 11, Op::End(1), DONE);
        good(&[acquire, end, other(YES)]);
        bad(&[acquire, end, other(NO)]);
        good(&[acquire, lost(10, Op::End(1)), other(YES)]);
        good(&[acquire, lost(10, Op::End(1)), other(NO)]);
        // Its index moves, although its value does not.
        let reads = |index| [call(3, 5, 6, Op::Get, locked(1, 7, 1)), call(3, 30, 31, Op::Get, row(1, index))];
        let [before, after] = reads(8);
        good(&[acquire, before, end, after]);
        let [before, after] = reads(7);
        bad(&[acquire, before, end, after]);
    }

    #[test]
    fn a_deleted_key_is_gone() {
        let calls = [call(1, 1, 2, Op::Set(1), DONE), call(1, 3, 4, Op::Delete, DONE)];
        good(&[calls[0], calls[1], call(2, 5, 6, Op::Get, NOTHING)]);
        bad(&[calls[0], calls[1], call(2, 5, 6, Op::Get, row(1, 5))]);
        good(&[calls[0], calls[1], call(2, 5, 6, Op::Cas { index: 0, value: 2 }, YES)]);
    }

    /// Clients that write over each other, and lost answers: the memory of what was tried keeps this from taking years.
    #[test]
    fn a_long_crowded_history_is_checked_at_once() {
        let mut calls: Vec<Call> = (0..1000)
            .map(|n| {
                let answer = (n % 250 != 0).then_some((n * 10 + 35, DONE));
                Call { client: n % 4, op: Op::Set(n), from: n * 10, answer }
            })
            .collect();
        calls.push(call(12, 30_000, 30_001, Op::Get, row(999, 5)));
        good(&calls);
        calls.push(call(12, 30_002, 30_003, Op::Get, row(0, 6)));
        good(&calls);
        calls.push(call(12, 30_004, 30_005, Op::Get, row(999, 7)));
        bad(&calls);
    }
}
