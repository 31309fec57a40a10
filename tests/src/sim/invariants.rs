//! What must hold after every step of every run, whatever the network does.

use agent_core::{
    config::Timing,
    pool::{MemberChange, MemberStatus},
    time::{Duration, Instant},
};

use super::{
    model::World,
    pool::{Event, Member, node},
};

/// After a disturbance, failures may come of it for so long: the longest suspicion of 200 members is 55 s
/// (gossip spec: suspicion), and a second one may follow the first.
const AFTERMATH: Duration = Duration::from_secs(150);
/// Who is dead for so long is forgotten by memberlist, and believed with any incarnation ([`Timing::lan`]).
const FORGETTING: Duration = Timing::lan().gossip_to_the_dead;
/// Tables are looked through after every event, and at least every so many steps.
const LOOK: u64 = 16;

/// How a node really is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// Not started yet.
    Unborn,
    /// Running, perhaps paused.
    Up,
    /// Its process has ended without a word.
    Killed,
    /// It has left.
    Left,
}

/// What one node has last seen of another: incarnation, status, and since when it has had that or been gone.
type Seen = Option<(u32, MemberStatus, Instant)>;

/// What is known of all nodes, against which every table is held.
#[derive(Debug)]
pub struct Invariants {
    /// How each node is.
    pub truth: Vec<Truth>,
    /// Highest incarnation a node has ever given itself.
    issued: Vec<u32>,
    /// When a node was last disturbed.
    disturbed: Vec<Option<Instant>>,
    seen: Vec<Vec<Seen>>,
    lives: Vec<u32>,
    steps: Vec<u64>,
}

impl Invariants {
    /// Nothing has happened.
    pub fn new(nodes: usize) -> Self {
        Invariants {
            truth: vec![Truth::Unborn; nodes],
            issued: vec![0; nodes],
            disturbed: vec![None; nodes],
            seen: vec![vec![None; nodes]; nodes],
            lives: vec![0; nodes],
            steps: vec![0; nodes],
        }
    }

    /// What follows for `node` may have a cause.
    pub fn disturb(&mut self, node: usize, now: Instant) {
        self.disturbed[node] = Some(now);
    }

    /// What follows may have a cause, for everybody.
    pub fn disturb_all(&mut self, now: Instant) {
        self.disturbed.fill(Some(now));
    }

    /// A node has given itself an incarnation.
    pub fn witness(&mut self, node: usize, incarnation: u32) {
        self.issued[node] = self.issued[node].max(incarnation);
    }

    /// Checks one node after a step, and what machines have told meanwhile.
    ///
    /// # Errors
    ///
    /// The first rule that does not hold.
    pub fn check(
        &mut self,
        world: &World<Member<'_>>,
        touched: usize,
        events: &[(usize, Event)],
    ) -> Result<(), String> {
        self.look(world, touched, !events.is_empty())?;
        for (observer, event) in events {
            if *observer != touched {
                self.look(world, *observer, true)?;
            }
            if let Event::Member { change: MemberChange::Failed, member, .. } = event {
                self.has_cause(world.now(), *observer, *member)?;
            }
        }
        Ok(())
    }

    /// Checks that every running node sees every node as it is.
    ///
    /// # Errors
    ///
    /// The first difference, and how many there are.
    pub fn converged(&self, world: &World<Member<'_>>) -> Result<(), String> {
        let mut differences = 0u32;
        let mut first = None;
        let mut ends = vec![None; self.truth.len()];
        for observer in (0..self.truth.len()).filter(|&observer| self.truth[observer] == Truth::Up) {
            let pool = &world.machine(observer).ok_or_else(|| format!("node {observer} has no machine"))?.0;
            let mut statuses = vec![None; self.truth.len()];
            for member in pool.members() {
                statuses[node(member.name).ok_or("a stranger")?] = Some(member.status);
            }
            for (member, truth) in self.truth.iter().enumerate() {
                let status = statuses[member];
                let is_true = match truth {
                    Truth::Unborn => status.is_none(),
                    Truth::Up => status == Some(MemberStatus::Alive),
                    // Who came after somebody's end need not know of it: memberlist tells only of the living.
                    Truth::Killed => matches!(status, Some(MemberStatus::Failed) | None),
                    // Who left while cut off may count as failed, but then for everybody.
                    Truth::Left => match status {
                        Some(MemberStatus::Left | MemberStatus::Failed) => {
                            *ends[member].get_or_insert(status) == status
                        }
                        Some(_) => false,
                        None => true,
                    },
                };
                if !is_true {
                    differences += 1;
                    first.get_or_insert_with(|| {
                        format!("node {observer} sees node {member} as {status:?}, which is {truth:?}")
                    });
                }
            }
        }
        first.map_or(Ok(()), |first| Err(format!("{differences} differences: {first}")))
    }

    fn look(&mut self, world: &World<Member<'_>>, observer: usize, whole: bool) -> Result<(), String> {
        let Some(Member(pool)) = world.machine(observer) else { return Ok(()) };
        self.witness(observer, pool.local().incarnation);
        self.steps[observer] += 1;
        if !whole && !self.steps[observer].is_multiple_of(LOOK) {
            return Ok(());
        }
        if self.lives[observer] != world.life(observer) {
            self.lives[observer] = world.life(observer);
            self.seen[observer].fill(None);
        }
        let now = world.now();
        let mut count = 0;
        for member in pool.members() {
            count += 1;
            let name = node(member.name).filter(|&node| node < self.truth.len());
            let of = name.ok_or_else(|| format!("node {observer} knows {:?}, whom nobody started", member.name))?;
            let (incarnation, status) = (member.incarnation, member.status);
            let tell = |what: &str| {
                format!(
                    "node {observer} about node {of}: {what}; was {:?}, is {incarnation} {status:?}",
                    self.seen[observer][of]
                )
            };
            if incarnation > self.issued[of] {
                return Err(tell("an incarnation it never had"));
            }
            let mut since = now;
            if let Some((before, was, changed)) = self.seen[observer][of] {
                let is_gone = |status| matches!(status, MemberStatus::Failed | MemberStatus::Left);
                let was_gone = is_gone(was);
                if was == status || (was_gone && is_gone(status)) {
                    since = changed;
                }
                let may_be_forgotten = was_gone && now.saturating_since(changed) >= FORGETTING;
                if incarnation < before && !may_be_forgotten {
                    return Err(tell("the incarnation fell"));
                }
                if was_gone && status == MemberStatus::Alive {
                    if incarnation == before && !may_be_forgotten {
                        return Err(tell("resurrected without a new incarnation"));
                    }
                    if self.truth[of] != Truth::Up && !self.is_recent(of, now) && !self.is_recent(observer, now) {
                        return Err(tell("resurrected long after its end"));
                    }
                }
            }
            self.seen[observer][of] = Some((incarnation, status, since));
        }
        if count > self.truth.len() {
            return Err(format!("node {observer} has {count} members in a world of {}", self.truth.len()));
        }
        Ok(())
    }

    /// A running, undisturbed node must not be taken for failed.
    fn has_cause(&self, now: Instant, observer: usize, member: usize) -> Result<(), String> {
        if self.truth[member] != Truth::Up || self.is_recent(member, now) || self.is_recent(observer, now) {
            return Ok(());
        }
        Err(format!("node {observer} takes node {member} for failed, which runs and was not disturbed"))
    }

    fn is_recent(&self, node: usize, now: Instant) -> bool {
        self.disturbed[node].is_some_and(|at| now.saturating_since(at) < AFTERMATH)
    }
}
