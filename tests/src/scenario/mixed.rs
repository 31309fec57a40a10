//! Members of all kinds in one plain Serf pool: whatever one of them does, all others see the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    thread,
    time::{Duration, Instant},
};

use super::{
    KEY,
    member::{Member, Subject, Table},
};
use crate::{Result, ports::Network, wait};

/// All answers to a query: on a machine that also compiles it may take a second try.
const ASKING: Duration = Duration::from_secs(60);
/// A pool agrees when the slowest suspicion has run out (36 s for 33 members) and a push/pull (60 s) has told the rest.
const AGREE: Duration = Duration::from_secs(120);
/// An operator whose wish has not reached all says it again after this time.
const AGAIN: Duration = Duration::from_secs(10);
/// The second key, 32 octets in base64.
const NEW: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// How many of each kind.
#[derive(Clone, Copy, Debug)]
pub struct Crowd {
    /// Serf 0.9.4, at least one.
    pub old: u8,
    /// Serf 0.10.1.
    pub new: u8,
    /// Our agents.
    pub ours: u8,
    /// Emulated boards.
    pub boards: u8,
}

/// A pool, and what everybody must come to see.
pub struct Pool {
    members: Vec<Member>,
    expected: Table,
    /// Those who were started again: nobody tells them who was gone before.
    newcomers: BTreeSet<String>,
    start: Instant,
}

/// What becomes of a member that does not stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Killed, and started again.
    Returns,
    /// Leaves.
    Leaves,
    /// Killed, and made to leave by another one. Then started again.
    Forced,
    /// Killed, and erased by another one.
    Pruned,
}

impl Pool {
    /// Starts a pool with encryption and waits until all see all.
    ///
    /// # Errors
    ///
    /// What was not as it must be.
    pub fn start(crowd: Crowd) -> Result<Self> {
        let kinds = [crowd.old, crowd.new, crowd.ours, crowd.boards];
        let network = Network::free(kinds.iter().sum())?;
        let subjects =
            Subject::ALL.into_iter().zip(kinds).flat_map(|(subject, count)| (0..count).map(move |_| subject));
        let start = Instant::now();
        let mut pool = Pool { members: Vec::new(), expected: Table::new(), newcomers: BTreeSet::new(), start };
        for (host, subject) in (1..).zip(subjects) {
            let member = Member::start(subject, network, host, Some(KEY))?;
            pool.expected.insert(member.name.clone(), "alive".into());
            pool.members.push(member);
        }
        pool.agree("all see all")?;
        Ok(pool)
    }

    /// An event and a query started by each kind reach everybody.
    ///
    /// # Errors
    ///
    /// What was not as it must be.
    pub fn all_hear_all(&self) -> Result<()> {
        for subject in self.kinds() {
            let speaker = self.one_of(subject)?;
            let event = speaker.fire()?;
            for member in &self.members {
                let heard = || wait::check(member.has_heard(&event), || format!("{} has not", member.name));
                wait::until(&format!("{event} to be heard"), AGREE, heard)?;
            }
            let all = self.members.len();
            wait::until(&format!("all answers to {}", speaker.name), ASKING, || {
                let count = speaker.ask()?;
                wait::check(count == all, || format!("{count} of {all} answered"))
            })?;
            self.report(&format!("{} was heard and answered by all", speaker.name));
        }
        Ok(())
    }

    /// The keys are rotated by a real agent, and back by one of ours.
    ///
    /// # Errors
    ///
    /// What was not as it must be.
    pub fn rotates_keys(&self) -> Result<()> {
        let all = self.members.len();
        for (subject, from, to) in [(Subject::Serf, KEY, NEW), (Subject::Lictor, NEW, KEY)] {
            let teller = self.one_of(subject)?;
            let change = |operation: &str, key: &str| {
                wait::until(&format!("{operation} by {}", teller.name), ASKING, || teller.change_keys(operation, key))
            };
            let lists = |wanted: &[&str]| {
                let wanted: BTreeMap<String, usize> = wanted.iter().map(|key| ((*key).to_owned(), all)).collect();
                wait::until("the list of keys", ASKING, || {
                    let keys = teller.keys()?;
                    wait::check(keys == wanted, || format!("the keys are {keys:?}"))
                })
            };
            lists(&[from])?;
            change("install", to)?;
            lists(&[from, to])?;
            change("use", to)?;
            change("remove", from)?;
            lists(&[to])?;
            self.report(&format!("{} has rotated the key", teller.name));
        }
        self.agree("the pool with its last key")
    }

    /// Members of each kind leave, fail, are forced out, erased, and come back; none of the others is doubted meanwhile.
    ///
    /// # Errors
    ///
    /// What was not as it must be.
    pub fn churns(&mut self) -> Result<()> {
        let fates = self.fates();
        let with = |fate: Fate| fates.iter().filter(move |pair| pair.1 == fate).map(|pair| pair.0);
        let killed: Vec<usize> = [Fate::Returns, Fate::Forced, Fate::Pruned].into_iter().flat_map(with).collect();
        for &at in &killed {
            self.members[at].kill()?;
            self.expect(at, "failed");
        }
        self.agree("the dead to count as failed")?;

        // Each kind that can is asked to force somebody out.
        let tellers = [Subject::Lictor, Subject::Serf, Subject::NewSerf];
        let mut tellers = tellers.into_iter().filter(|subject| self.one_of(*subject).is_ok()).collect::<Vec<_>>();
        for at in with(Fate::Forced) {
            self.one_of(tellers[0])?.force_leave(&self.members[at].name, false)?;
            tellers.rotate_left(1);
            self.expect(at, "left");
        }
        self.agree("those forced out to count as left")?;
        let mut pruned = Vec::new();
        for at in with(Fate::Pruned) {
            self.one_of(tellers[0])?.force_leave(&self.members[at].name, true)?;
            pruned.push((tellers[0], at));
            tellers.rotate_left(1);
            self.expected.remove(&self.members[at].name);
        }
        self.agree_on_erased(&pruned)?;

        // Those forced out come last: a newcomer may hear that they left when they are back already.
        for fate in [Fate::Returns, Fate::Forced] {
            for at in with(fate) {
                self.members[at].restart()?;
                self.expect(at, "alive");
                self.newcomers.insert(self.members[at].name.clone());
            }
            self.agree("those who came back to be alive")?;
        }

        let leaving: Vec<usize> = with(Fate::Leaves).collect();
        thread::scope(|scope| {
            let members = self.members.iter_mut().enumerate().filter(|(at, _)| leaving.contains(at));
            let leaves: Vec<_> = members.map(|(_, member)| scope.spawn(|| member.leave())).collect();
            leaves.into_iter().try_for_each(|leave| leave.join().map_err(|_| "leaving panicked")?)
        })?;
        for &at in &leaving {
            self.expect(at, "left");
        }
        self.agree("those who left to have left")?;
        self.nobody_else_failed(&[killed, leaving].concat())
    }

    /// Keeps the deepest stack of every board that runs.
    ///
    /// # Errors
    ///
    /// When a stack used all of its room.
    pub fn note_stacks(&self) -> Result<()> {
        self.members.iter().filter_map(Member::board).try_for_each(crate::qemu::Board::note_stack)
    }

    /// Who of each kind has which fate. The first of each kind stays, but of boards all go: they are few.
    fn fates(&self) -> Vec<(usize, Fate)> {
        let mut fates = Vec::new();
        for subject in Subject::ALL {
            let of_kind = (0..self.members.len()).filter(|&at| self.members[at].subject == subject);
            let stay = usize::from(subject != Subject::Board);
            let all = [Fate::Returns, Fate::Leaves, Fate::Forced, Fate::Pruned];
            fates.extend(of_kind.skip(stay).zip(all));
        }
        fates
    }

    fn expect(&mut self, at: usize, status: &str) {
        self.expected.insert(self.members[at].name.clone(), status.into());
    }

    fn kinds(&self) -> impl Iterator<Item = Subject> {
        Subject::ALL.into_iter().filter(|&subject| self.members.iter().any(|member| member.subject == subject))
    }

    /// The first of a kind; it stays to the end.
    fn one_of(&self, subject: Subject) -> Result<&Member> {
        let found = self.members.iter().find(|member| member.subject == subject);
        found.ok_or_else(|| format!("no {subject:?} in the pool").into())
    }

    /// Waits until everybody who is alive sees what is expected.
    fn agree(&self, what: &str) -> Result<()> {
        for member in self.alive() {
            wait::until(what, AGREE, || self.agrees(member)).inspect_err(|_| self.tell_of_differences(member))?;
        }
        self.report(what);
        Ok(())
    }

    /// Waits until everybody has erased those `pruned` by a member of the kind beside them. Gossip alone carries that
    /// wish, and by chance it misses a member, or dies out among many dead; among real agents too. Then the operator says
    /// it again: to the same agent until most have followed, and to a real one for the rest.
    fn agree_on_erased(&self, pruned: &[(Subject, usize)]) -> Result<()> {
        let what = "those erased to be gone";
        let mut said = Instant::now();
        wait::until(what, AGREE, || {
            let differ: Vec<_> = self.alive().filter_map(|member| self.agrees(member).err()).collect();
            if !differ.is_empty() && said.elapsed() > AGAIN {
                self.report(&format!("once more, because {differ:?}"));
                said = Instant::now();
                for &(teller, at) in pruned {
                    let most = differ.len() * 4 <= self.alive().count();
                    let teller = self.one_of(if most { Subject::Serf } else { teller })?;
                    // Ours no longer knows whom it has erased, and says so.
                    let _ = teller.force_leave(&self.members[at].name, true);
                }
            }
            wait::check(differ.is_empty(), || format!("{differ:?}"))
        })?;
        self.report(what);
        Ok(())
    }

    /// Those who should be alive.
    fn alive(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| self.expected.get(&member.name).is_some_and(|status| status == "alive"))
    }

    /// A look: `member` sees what is expected: all of it, or a board as much as it has room for.
    fn agrees(&self, member: &Member) -> Result<()> {
        let mut table = member.table()?;
        let mut missing = self.expected.clone();
        if member.subject == Subject::Board {
            wait::check(table.contains_key(&member.name), || format!("no {} in {table:?}", member.name))?;
            missing.retain(|name, _| table.contains_key(name));
        }
        if self.newcomers.contains(&member.name) {
            missing.retain(|name, status| status == "alive" || table.contains_key(name));
        }
        missing.retain(|name, status| table.get(name) != Some(status));
        table.retain(|name, status| self.expected.get(name) != Some(status));
        wait::check(missing.is_empty() && table.is_empty(), || {
            format!("{} does not see {missing:?} but {table:?}", member.name)
        })
    }

    /// What everybody has logged of those whom `member` sees otherwise than expected, for whoever looks for the reason.
    fn tell_of_differences(&self, member: &Member) {
        let table = member.table().unwrap_or_default();
        let differs = |name: &&String| table.get(*name) != self.expected.get(*name);
        let names: BTreeSet<&String> = table.keys().chain(self.expected.keys()).filter(differs).collect();
        if member.subject != Subject::Board {
            names.into_iter().for_each(|name| self.tell_of(name));
        }
    }

    fn tell_of(&self, name: &str) {
        for member in &self.members {
            let log = member.log();
            let lines: Vec<&str> = log.lines().filter(|line| line.contains(name)).collect();
            println!("{} logged of {name}:", member.name);
            lines[lines.len().saturating_sub(20)..].iter().for_each(|line| println!("    {}", line.trim()));
        }
    }

    /// Nobody has ever taken a member for failed that stayed. One that leaves may count as failed for a moment, because
    /// its end can overtake its wish: seen of a real agent that had just been started again, among real ones alone.
    fn nobody_else_failed(&self, went: &[usize]) -> Result<()> {
        let went: BTreeSet<&str> = went.iter().map(|&at| self.members[at].name.as_str()).collect();
        for member in &self.members {
            let log = member.log();
            let failed = log.lines().filter_map(|line| line.split_once("EventMemberFailed: ")?.1.split(' ').next());
            let wrong: BTreeSet<&str> = failed.filter(|name| !went.contains(name)).collect();
            wait::check(wrong.is_empty(), || format!("{} took {wrong:?} for failed", member.name))?;
        }
        Ok(())
    }

    /// A line for those who look at times. Nothing is held to them.
    fn report(&self, what: &str) {
        println!("{:6.1} s: {what}", self.start.elapsed().as_secs_f32());
    }
}
