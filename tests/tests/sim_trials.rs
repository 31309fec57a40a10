//! The scenarios of the simulator at the length for every commit; `LICTOR_LONG=1` runs them at full length, and
//! `cargo xtask sim --scenario NAME` one of them with its figures.

use agent_tests::sim::trials::{self, Report};

fn run(name: &str) -> Report {
    let long = std::env::var_os("LICTOR_LONG").is_some();
    let &(_, _, scenario) = trials::ALL.iter().find(|known| known.0 == name).expect("a scenario of that name");
    let clock = std::time::Instant::now();
    let report = scenario(1, long).unwrap_or_else(|error| panic!("{name}, seed 1: {error}"));
    println!("{name}: {report:?} in {:?}", clock.elapsed());
    report
}

macro_rules! scenarios {
    ($($test:ident $name:literal)*) => {
        $(#[test]
        fn $test() {
            run($name);
        })*

        /// A scenario without a test would be run by nobody.
        #[test]
        fn every_scenario_has_its_test() {
            let tested = [$($name),*];
            assert!(trials::ALL.iter().all(|known| tested.contains(&known.0)));
        }
    };
}

scenarios! {
    at_ten_percent_loss_nobody_fails "loss"
    failures_at_thirty_percent_loss_are_counted "loss-30"
    bursts_of_loss_make_nobody_fail "bursts"
    a_one_way_link_makes_nobody_fail "one-way"
    a_translated_address_may_change "translated"
    long_datagrams_may_vanish "mtu"
    who_wakes_up_accuses_nobody "pauses"
    clocks_may_leap "leaps"
    members_return_with_and_without_their_past "restarts"
    all_servers_may_move "moved"
    news_reach_a_large_cluster_in_time "thousand"
    devices_see_servers_and_a_changing_sample "devices"
    a_crowd_does_not_fill_a_device "crowd"
    a_large_table_takes_and_gives_all "table"
}

#[test]
fn a_scenario_replays_exactly() {
    assert_eq!(run("one-way"), run("one-way"));
}
