//! Consul agents, real ones and ours, in one cluster on loopback addresses.

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::{Command, ExitStatus},
    time::Duration,
};

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    Result,
    clock::Clock,
    http::{Client, list, text},
    ports::Network,
    process::Process,
    subject::Kind,
    wait,
};

/// A fresh cluster elects its leader in 1 to 3 s; the bound is for a machine that also compiles.
pub const START: Duration = Duration::from_secs(60);
/// Gossip and anti-entropy settle in less than 10 s on loopback.
pub const SETTLE: Duration = Duration::from_secs(60);
/// Consul itself gives a graceful leave 15 s.
pub const LEAVE: Duration = Duration::from_secs(25);

/// What an agent is in its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A server of a cluster with this many, which are the hosts from 1.
    Server(u8),
    /// A client of a cluster with this many servers.
    Client(u8),
}

/// One agent and its data folder, which outlives a restart.
#[derive(Debug)]
pub struct Agent {
    /// Its node name.
    pub name: String,
    /// Its addresses' and ports' network.
    pub network: Network,
    /// Its number in the network.
    pub host: u8,
    /// Its HTTP API.
    pub http: Client,
    kind: Kind,
    // Ends first: its last words are in the folder.
    process: Process,
    folder: TempDir,
    clock: Option<Clock>,
}

/// Status of a member in `/v1/agent/members`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Status {
    /// Answers probes.
    Alive = 1,
    /// Left on its own or was made to.
    Left = 3,
    /// Stopped answering.
    Failed = 4,
}

impl Agent {
    /// Starts host `host` of `network` as node `KIND-HOST`. `settings` replace or add to the configuration file's
    /// top-level keys.
    ///
    /// # Errors
    ///
    /// When the program cannot be started. That it is ready is [`Agent::ready`]'s to say.
    pub fn start(network: Network, host: u8, kind: Kind, role: Role, settings: &Value) -> Result<Self> {
        Agent::start_by(None, network, host, kind, role, settings)
    }

    /// As [`Agent::start`], by a wall clock of its own.
    ///
    /// # Errors
    ///
    /// As [`Agent::start`].
    pub fn start_by(
        clock: Option<Clock>,
        network: Network,
        host: u8,
        kind: Kind,
        role: Role,
        settings: &Value,
    ) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("lictor-test-").tempdir()?;
        let name = format!("{}-{host}", format!("{kind:?}").to_lowercase());
        let address = network.address(host).to_string();
        let ports = network.ports;
        let (server, servers) = match role {
            Role::Server(count) => (true, count),
            Role::Client(count) => (false, count),
        };
        let mut config = json!({
            "node_name": name,
            "server": server,
            "bind_addr": address,
            "client_addr": address,
            "data_dir": folder.path().join("data"),
            "disable_update_check": true,
            "log_level": "debug",
            "performance": { "raft_multiplier": 1 },
            "ports": {
                "http": ports.http, "dns": ports.dns, "server": ports.server,
                "serf_lan": ports.serf_lan, "serf_wan": ports.serf_wan,
            },
            "retry_join": (1..=servers).map(|n| network.address(n).to_string()).collect::<Vec<_>>(),
            "retry_interval": "1s",
        });
        if server {
            config["bootstrap_expect"] = servers.into();
        }
        for (key, value) in settings.as_object().into_iter().flatten() {
            config[key] = value.clone();
        }
        std::fs::write(folder.path().join("agent.json"), config.to_string())?;
        let http = Client::new((network.address(host), ports.http).into());
        let process = spawn(kind, &name, &folder, clock.as_ref())?;
        Ok(Agent { name, network, host, http, kind, folder, process, clock })
    }

    /// Sets its own wall clock so many milliseconds ahead.
    ///
    /// # Errors
    ///
    /// When it has none.
    pub fn set_clock(&self, millis: i64) -> Result<()> {
        self.clock.as_ref().ok_or("this agent lives by the system's clock")?.set(millis)
    }

    /// Waits until its API answers and it knows a leader.
    ///
    /// # Errors
    ///
    /// When it ends, or does not get there within [`START`].
    pub fn ready(&mut self) -> Result<()> {
        let Agent { http, process, name, .. } = self;
        wait::until(&format!("{name} to know a leader"), START, || {
            process.check_running()?;
            let leader = http.get("/v1/status/leader")?;
            wait::check(leader.as_str().is_some_and(|leader| !leader.is_empty()), || format!("leader {leader}"))
        })
    }

    /// Starts it again with the same configuration and data, after it has ended.
    ///
    /// # Errors
    ///
    /// As [`Agent::start`].
    pub fn restart(&mut self) -> Result<()> {
        self.process = spawn(self.kind, &self.name, &self.folder, self.clock.as_ref())?;
        Ok(())
    }

    /// Ends it as a power cut would.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Asks it over HTTP to leave and waits for its end.
    ///
    /// # Errors
    ///
    /// When it does not end within [`LEAVE`].
    pub fn leave(&mut self) -> Result<ExitStatus> {
        self.http.put("/v1/agent/leave", "")?;
        self.process.wait(LEAVE)
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    ///
    /// When it still runs after [`START`].
    pub fn ended(&mut self) -> Result<ExitStatus> {
        self.process.wait(START)
    }

    /// Sends SIGTERM and waits for its end; a client leaves gracefully.
    ///
    /// # Errors
    ///
    /// When it does not end within [`LEAVE`].
    pub fn terminate(&mut self) -> Result<ExitStatus> {
        self.process.signal(Signal::TERM)?;
        self.process.wait(LEAVE)
    }

    /// Stops it where it is, as a machine that hangs; [`Agent::resume`] lets it go on.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn pause(&mut self) -> Result<()> {
        self.process.signal(Signal::STOP)
    }

    /// Lets a paused agent go on.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn resume(&mut self) -> Result<()> {
        self.process.signal(Signal::CONT)
    }

    /// Whether it has ended.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn check_ended(&mut self) -> Result<bool> {
        Ok(self.process.check_running().is_err())
    }

    /// Runs one of its program's own commands against it, for example `"keyring"` with `["-list"]`; gives what it prints.
    ///
    /// # Errors
    ///
    /// When the command fails; the text is what it complains of.
    pub fn command(&self, command: &str, args: &[&str]) -> Result<String> {
        let address = format!("-http-addr={}:{}", self.network.address(self.host), self.network.ports.http);
        let output = Command::new(self.kind.program()?).args([command, &address]).args(args).output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// What it has logged since its first start.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// A file in its data directory.
    pub fn data(&self, file: &str) -> PathBuf {
        self.folder.path().join("data").join(file)
    }

    /// Its DNS port.
    pub fn dns(&self) -> SocketAddr {
        (self.network.address(self.host), self.network.ports.dns).into()
    }

    /// Its gossip port.
    pub fn gossip(&self) -> SocketAddr {
        (self.network.address(self.host), self.network.ports.serf_lan).into()
    }

    /// A look: this agent sees member `name` in `status`.
    ///
    /// # Errors
    ///
    /// When it does not; the text has the whole list.
    pub fn sees(&self, name: &str, status: Status) -> Result<()> {
        let members = self.http.get("/v1/agent/members")?;
        let found = list(&members)
            .iter()
            .any(|member| text(member, "Name") == name && member["Status"].as_u64() == Some(status as u64));
        wait::check(found, || {
            let all = list(&members).iter().map(|member| format!("{} {}", text(member, "Name"), member["Status"]));
            format!("{} sees no {name} {status:?}, but {}", self.name, all.collect::<Vec<_>>().join(", "))
        })
    }

    /// A look: check `check` of node `node` is in `status` in the catalog as this agent reads it.
    ///
    /// # Errors
    ///
    /// When it is not; the text has what the node's checks are.
    pub fn shows_check(&self, node: &str, check: &str, status: &str) -> Result<()> {
        let checks = self.http.get(&format!("/v1/health/node/{node}"))?;
        let found = list(&checks).iter().any(|row| text(row, "CheckID") == check && text(row, "Status") == status);
        wait::check(found, || {
            let all = list(&checks).iter().map(|row| format!("{} {}", text(row, "CheckID"), text(row, "Status")));
            format!("{node} has no check {check} {status}, but {}", all.collect::<Vec<_>>().join(", "))
        })
    }

    /// A look: the catalog has service `service` on node `node`; returns its row.
    ///
    /// # Errors
    ///
    /// When it has not.
    pub fn shows_service(&self, node: &str, service: &str) -> Result<Value> {
        let rows = self.http.get(&format!("/v1/catalog/service/{service}"))?;
        let row = list(&rows).iter().find(|row| text(row, "Node") == node);
        row.cloned().ok_or_else(|| format!("no {service} on {node}, but {rows}").into())
    }
}

fn spawn(kind: Kind, name: &str, folder: &TempDir, clock: Option<&Clock>) -> Result<Process> {
    let path = |file: &str| -> PathBuf { folder.path().join(file) };
    let mut command = Command::new(kind.program()?);
    command.arg("agent").arg(format!("-config-file={}", path("agent.json").display())).current_dir(folder.path());
    // A user's own settings for the client commands are not a test's.
    for (key, _) in std::env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("CONSUL_")) {
        command.env_remove(key);
    }
    if let Some(clock) = clock {
        clock.apply(&mut command);
    }
    Process::start(name, command, &path("log"))
}
