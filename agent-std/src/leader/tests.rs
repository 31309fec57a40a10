use std::sync::{Mutex, atomic::Ordering};

use super::*;
use crate::rpc::{Rpc, solo};

fn member(name: &str, role: &str, status: MemberStatus) -> MemberRecord {
    let tags = [("role", role), ("dc", "dc1"), ("id", ""), ("port", "8300"), ("build", "1.8.7:x"), ("raft_vsn", "3")];
    MemberRecord {
        name: name.into(),
        address: ([10, 0, 0, 1], 8301).into(),
        status,
        tags: tags.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        vsn: [1, 5, 2, 2, 5, 4],
    }
}

/// Waits until `done`, a bounded time of the paused clock.
async fn until(done: impl Fn() -> bool) {
    for _ in 0..10_000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not in 100 s");
}

#[tokio::test(start_paused = true)]
async fn the_catalog_follows_gossip_and_rests_when_nothing_happens() {
    let (server, solo) = solo::server();
    let list = Arc::new(Mutex::new(vec![
        member("s1", "consul", MemberStatus::Alive),
        member("n1", "node", MemberStatus::Alive),
        member("far", "other", MemberStatus::Alive),
    ]));
    let members: Members = Arc::new({
        let list = Arc::clone(&list);
        move || list.lock().unwrap().clone()
    });
    let (tell, news) = mpsc::channel(8);
    let task = tokio::spawn(run(server.clone(), "s1".into(), members, news));
    let state = || server.store().state();
    let status = |name: &str| state().node(name).map(|entry| entry.checks[SERF_HEALTH].status.clone());
    until(|| status("n1").as_deref() == Some(PASSING)).await;
    assert!(state().node("far").is_none());
    let consul = state().node("s1").unwrap().services[CONSUL].clone();
    assert_eq!((consul.port, consul.meta.as_ref().unwrap()["version"].as_str()), (8300, "1.8.7"));
    assert_eq!(consul.meta.as_ref().unwrap()["serf_protocol_current"], "2");

    let rest = solo.index.load(Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(solo.index.load(Ordering::Relaxed), rest, "five full passes wrote nothing");

    list.lock().unwrap()[1].status = MemberStatus::Failed;
    tell.send(MemberNews::Changed(member("n1", "node", MemberStatus::Failed))).await.unwrap();
    until(|| status("n1").as_deref() == Some(CRITICAL)).await;
    // Forgotten while nobody told: the next full pass notices. This server itself stays whatever gossip says.
    list.lock().unwrap().clear();
    until(|| state().node("n1").is_none()).await;
    assert!(state().node("s1").is_some());
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn a_member_that_flaps_is_held_with_the_reason_until_it_is_calm() {
    let (server, solo) = solo::server();
    let list = Arc::new(Mutex::new(vec![
        member("s1", "consul", MemberStatus::Alive),
        member("n1", "node", MemberStatus::Alive),
    ]));
    let members: Members = Arc::new({
        let list = Arc::clone(&list);
        move || list.lock().unwrap().clone()
    });
    let (tell, news) = mpsc::channel(8);
    let task = tokio::spawn(run(server.clone(), "s1".into(), members, news));
    let health = || server.store().state().node("n1").map(|entry| entry.checks[SERF_HEALTH].clone());
    let is = |status: &str| health().is_some_and(|check| check.status == status);
    until(|| is(PASSING)).await;
    for round in 1..=5 {
        for (status, shown) in [(MemberStatus::Failed, CRITICAL), (MemberStatus::Alive, PASSING)] {
            list.lock().unwrap()[1].status = status;
            tell.send(MemberNews::Changed(member("n1", "node", status))).await.unwrap();
            // The fifth return is not believed.
            let shown = if round == 5 { CRITICAL } else { shown };
            until(|| is(shown)).await;
            tokio::time::sleep(Duration::from_secs(10)).await;
        }
    }
    until(|| health().is_some_and(|check| check.output.contains("held critical"))).await;
    let (held, writes) = (Instant::now(), solo.index.load(Ordering::Relaxed));
    let mut passing = is(PASSING);
    while !passing && held.elapsed() < Duration::from_secs(200) {
        tokio::time::sleep(Duration::from_secs(1)).await;
        passing = is(PASSING);
    }
    assert!((100..=150).contains(&held.elapsed().as_secs()), "{:?}", held.elapsed());
    assert_eq!(health().unwrap().output, "Agent alive and reachable");
    assert_eq!(solo.index.load(Ordering::Relaxed), writes + 1, "one write, at the end of it");
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn sessions_end_between_one_and_two_ttls_after_the_last_renewal() {
    let (server, _) = solo::server();
    let (_tell, news) = mpsc::channel(8);
    let members: Members = Arc::new(|| vec![member("s1", "consul", MemberStatus::Alive)]);
    let task = tokio::spawn(run(server.clone(), "s1".into(), members, news));
    until(|| server.store().state().node("s1").is_some()).await;
    let rpc = Rpc::new(server.clone());
    let session = Session { node: "s1".into(), ttl: "10s".into(), ..<_>::default() };
    let request = SessionRequest { op: "create".into(), session, ..<_>::default() };
    let id: String = rpc.call("Session.Apply", &request).await.unwrap();
    let began = Instant::now();
    until(|| server.store().state().session(&id).is_none()).await;
    assert!((10..=21).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    task.abort();
}
