//! How many members a pool takes for failed that run, on a network that loses packets: real Serf beside ours, each in a
//! network namespace of its own at the same time. Needs root, `ip` and `unshare`.
//!
//! `cargo run -p agent-tests --bin loss -- [MEMBERS [MINUTES [PER_CENT]]]`, by default 20, 5 and 30.

use std::{
    process::{Command, ExitCode, Stdio},
    thread,
    time::Duration,
};

use agent_tests::{
    Result,
    bench::loss,
    cluster::SETTLE,
    ports::Network,
    scenario::member::{Member, Subject},
    subject::Kind,
    wait,
};

/// Says in the environment which kind this process is to watch.
const INSIDE: &str = "LICTOR_LOSS";

fn main() -> ExitCode {
    let run = match std::env::var(INSIDE).as_deref() {
        Ok("serf") => watch(Subject::Serf),
        Ok("serf-0.10") => watch(Subject::NewSerf),
        Ok(_) => watch(Subject::Lictor),
        Err(_) => both(),
    };
    match run {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("loss: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Starts this program for each kind.
fn both() -> Result<()> {
    let (lictor, own) = (Kind::Lictor.program()?, std::env::current_exe()?);
    agent_tests::peers::program("serf")?;
    let mut running = Vec::new();
    for kind in ["serf", "serf-0.10", "lictor"] {
        let mut command = Command::new("unshare");
        command.arg("--net").arg(&own).args(std::env::args_os().skip(1)).env(INSIDE, kind).env("LICTOR_BIN", &lictor);
        running.push(command.stdin(Stdio::null()).spawn()?);
    }
    running.into_iter().try_for_each(|mut child| {
        let status = child.wait()?;
        wait::check(status.success(), || format!("a kind ended with {status}"))
    })
}

/// Starts a pool of one kind, lets it rain, and counts.
fn watch(subject: Subject) -> Result<()> {
    let arguments: Vec<u64> =
        std::env::args().skip(1).map(|text| text.parse()).collect::<std::result::Result<_, _>>()?;
    let argument = |at: usize, usual: u64| arguments.get(at).copied().unwrap_or(usual);
    let (members, minutes, per_cent) = (argument(0, 20) as u8, argument(1, 5), argument(2, 30) as u8);
    loss::set(0)?;
    let network = Network::free(members)?;
    let pool = (1..=members).map(|host| Member::start(subject, network, host, None)).collect::<Result<Vec<_>>>()?;
    for member in &pool {
        wait::until("all to see all", SETTLE, || {
            let alive = member.table()?.values().filter(|status| *status == "alive").count();
            wait::check(alive == pool.len(), || format!("{} sees {alive}", member.name))
        })?;
    }
    loss::set(per_cent)?;
    thread::sleep(Duration::from_secs(60 * minutes));
    let count = |word: &str| -> usize { pool.iter().map(|member| member.log().matches(word).count()).sum() };
    let (failed, refuted) = (count("EventMemberFailed: "), count("efuting a"));
    println!(
        "{subject:?}: {members} members, {minutes} minutes, {per_cent} % loss: {failed} times somebody counted as failed, \
         {refuted} accusations refuted"
    );
    Ok(())
}
