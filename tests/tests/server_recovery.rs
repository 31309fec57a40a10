//! A quorum that is lost for ever.

use agent_tests::scenario::recovery::{self, Way};

#[test]
fn one_of_three_goes_on_by_command() {
    recovery::one_of_three_is_left(Way::Command).unwrap();
}

#[test]
fn one_of_three_goes_on_with_peers_json() {
    recovery::one_of_three_is_left(Way::Objects).unwrap();
}

#[test]
fn one_of_three_goes_on_with_peers_json_of_addresses() {
    recovery::one_of_three_is_left(Way::Addresses).unwrap();
}

#[test]
fn a_bad_peers_json_stops_the_start() {
    recovery::bad_files_are_refused().unwrap();
}
