//! Simulation: three to five servers with the real store, a virtual network and clock, faulty disks; all from one seed.
//!
//! Each run loses, delays, repeats and reorders messages, cuts servers off, kills them, cuts their power, pauses them for
//! longer than a lease, sets their clocks, makes their disks slow, full, failing or wrong by one bit, adds, removes and
//! replaces servers and takes snapshots, while clients use keys, locks and sessions. `world` has the servers and what is
//! checked at every step, `machine` the store, `clients` who uses it, `trouble` what goes wrong.
//!
//! Checked: one leader per term; the same entry, the same answer and the same state at the same index everywhere; what
//! clients were told about each key is linearizable, default reads within a lease and after a pause included, so that
//! nothing acknowledged is lost and no read is older than it may be; stale reads show what that server has; a flipped bit
//! is found when the server starts. A failing run prints its seed.
//!
//! `cargo xtask sim --raft` runs many seeds. It does so through this test, because the simulation stands where no user
//! may: between the node and its disk, its clock and its peers. As a part of the tests it needs none of these opened.

mod clients;
mod machine;
mod trouble;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::faulty::Fault;
use world::World;

/// A whole run; what it did, to see that it did something.
fn run(seed: u64) -> World {
    run_in(World::new(seed, 3 + seed % 3))
}

fn run_in(mut world: World) -> World {
    world.bootstrap();
    world.run(3000);
    for _ in 0..60 {
        let pause = 1 + world.random.below(600);
        world.run(pause);
        world.trouble();
    }
    world.settle();
    world
}

/// What many runs did.
#[derive(Default)]
struct Totals {
    runs: AtomicU64,
    acknowledged: AtomicU64,
    answered: AtomicU64,
    lease_reads: AtomicU64,
    late_leaders: AtomicU64,
    found: AtomicU64,
}

impl Totals {
    fn add(&self, world: &World) {
        for (total, one) in [
            (&self.runs, 1),
            (&self.acknowledged, world.acknowledged),
            (&self.answered, world.histories.answered() as u64),
            (&self.lease_reads, world.lease_reads),
            (&self.late_leaders, world.late_leaders),
            (&self.found, world.found),
        ] {
            total.fetch_add(one, Ordering::Relaxed);
        }
    }
}

/// A number from the environment. `cargo xtask sim --raft` sets them from its options.
fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Without settings as many seeds from 1 as fit into the time that is theirs in CI.
#[test]
fn every_seed_keeps_its_promises() {
    const TIME: Duration = Duration::from_secs(30);
    let first = setting("LICTOR_SIM_SEED").unwrap_or(1);
    let count = setting("LICTOR_SIM_SEEDS");
    let (next, failed, totals, began) = (AtomicU64::new(0), AtomicU64::new(0), Totals::default(), Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let over = count.map_or(began.elapsed() > TIME && n >= 3, |count| n >= count);
                    if over {
                        return;
                    }
                    let seed = first + n;
                    match catch_unwind(AssertUnwindSafe(|| run(seed))) {
                        Ok(world) => {
                            totals.add(&world);
                            if count == Some(1) {
                                println!("seed {seed}: trace {:016x}", world.trace.0);
                            }
                        }
                        Err(_) => {
                            failed.fetch_add(1, Ordering::Relaxed);
                            println!("seed {seed} FAILED, see above; replay: cargo xtask sim --raft --seed {seed}");
                        }
                    }
                }
            });
        }
    });
    let Totals { runs, acknowledged, answered, lease_reads, late_leaders, found } = totals;
    println!(
        "{} seeds in {:.0} s: {} writes acknowledged, {} answers checked, {} of them reads within a lease, {} leaders paused beyond \
         theirs, {} flipped bits found",
        runs.into_inner(),
        began.elapsed().as_secs_f32(),
        acknowledged.load(Ordering::Relaxed),
        answered.into_inner(),
        lease_reads.load(Ordering::Relaxed),
        late_leaders.load(Ordering::Relaxed),
        found.load(Ordering::Relaxed),
    );
    assert_eq!(failed.into_inner(), 0, "seeds failed");
    assert!(acknowledged.into_inner() > 0 && lease_reads.into_inner() > 0, "the runs did nothing");
    if next.into_inner() > 30 {
        assert!(late_leaders.into_inner() > 0, "no leader was ever paused beyond its lease");
        assert!(found.into_inner() > 0, "no flipped bit was ever found");
    }
}

#[test]
fn the_same_seed_replays_the_same_run() {
    assert_eq!(run(7).trace, run(7).trace);
    assert_ne!(run(7).trace, run(8).trace);
}

#[test]
fn an_idle_cluster_writes_nothing() {
    let mut world = World::new(3, 3);
    world.bootstrap();
    world.quiet = true;
    world.run(5000);
    let look = |world: &World| -> Vec<_> {
        let hosts = world.hosts.iter();
        hosts
            .map(|host| {
                (host.node.as_ref().expect("runs").status().last_log_index, host.disk.syncs(), host.disk.written())
            })
            .collect()
    };
    let before = look(&world);
    assert!(world.leader().is_some());
    world.run(600_000);
    assert_eq!(look(&world), before);
}

/// The harness must be able to fail.
#[test]
fn leaders_that_ignore_their_lease_are_found_out() {
    let found = (1..100u64).any(|seed| {
        let mut careless = World::new(seed, 3);
        careless.careless = true;
        let panic = catch_unwind(AssertUnwindSafe(|| run_in(careless))).err();
        panic.and_then(|panic| panic.downcast::<String>().ok()).is_some_and(|text| text.contains("not linearizable"))
    });
    assert!(found);
}

/// The harness must be able to fail: with lying disks and power cuts an acknowledged command does get lost.
#[test]
fn a_disk_that_lies_about_syncs_is_found_out() {
    let lost = (1..40u64).any(|seed| {
        catch_unwind(|| {
            let mut world = World::new(seed, 3);
            world.bootstrap();
            world.run(3000);
            for host in &world.hosts {
                host.disk.set_fault(Some(Fault::SyncLies(0)));
            }
            world.run(1000);
            for number in 0..3 {
                world.stop(number, true);
            }
            world.settle();
        })
        .is_err()
    });
    assert!(lost);
}
