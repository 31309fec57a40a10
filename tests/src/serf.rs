//! Real Serf agents: a pool with members and events, and no catalog.

use std::{collections::BTreeMap, net::SocketAddr, process::Command, time::Duration};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    Result,
    http::{list, text},
    peers::program,
    ports::Network,
    process::Process,
    wait,
};

/// A Serf agent that ends with this value.
#[derive(Debug)]
pub struct Serf {
    /// Its node name.
    pub name: String,
    /// Its gossip address.
    pub gossip: SocketAddr,
    program: &'static str,
    rpc: SocketAddr,
    process: Process,
    _folder: TempDir,
}

impl Serf {
    /// Starts `program` (`serf` or `serf-0.10`) as host `host` of `network`, and waits until it answers its own
    /// commands. `key` is a gossip key in base64.
    ///
    /// # Errors
    ///
    /// When it cannot be started or ends at once.
    pub fn start(network: Network, host: u8, program: &'static str, key: Option<&str>) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("lictor-test-").tempdir()?;
        let name = format!("{}-{host}", program.replace('.', "-"));
        let gossip: SocketAddr = (network.address(host), network.ports.serf_lan).into();
        let rpc: SocketAddr = (network.address(host), network.ports.http).into();
        let mut command = Command::new(crate::peers::program(program)?);
        command.args(["agent", "-node", &name, "-bind", &gossip.to_string(), "-rpc-addr", &rpc.to_string()]);
        command.args(["-log-level", "debug", "-profile", "lan", "-tag", "kind=real"]);
        if let Some(key) = key {
            command.args(["-encrypt", key]);
        }
        let mut process = Process::start(&name, command, &folder.path().join("log"))?;
        wait::until(&format!("{name} to answer"), Duration::from_secs(20), || {
            process.check_running()?;
            call(program, rpc, &["info"])
        })?;
        Ok(Serf { name, gossip, program, rpc, process, _folder: folder })
    }

    /// Runs one of serf's own commands against this agent, for example `["join", "127.0.0.2:7946"]`.
    ///
    /// # Errors
    ///
    /// When the command fails; the text is what it printed.
    pub fn call(&self, args: &[&str]) -> Result<String> {
        call(self.program, self.rpc, args)
    }

    /// A look: this agent sees member `name` in `status` (`alive`, `leaving`, `left`, `failed`); returns its row.
    ///
    /// # Errors
    ///
    /// When it does not; the text has the whole list.
    pub fn sees(&self, name: &str, status: &str) -> Result<Value> {
        let members: Value = serde_json::from_str(&self.call(&["members", "-format", "json"])?)?;
        let row =
            list(&members["members"]).iter().find(|row| text(row, "name") == name && text(row, "status") == status);
        row.cloned().ok_or_else(|| format!("{} sees no {name} {status}, but {members}", self.name).into())
    }

    /// Its members and their status.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub fn table(&self) -> Result<BTreeMap<String, String>> {
        let members: Value = serde_json::from_str(&self.call(&["members", "-format", "json"])?)?;
        let rows = list(&members["members"]).iter();
        Ok(rows.map(|row| (text(row, "name").to_owned(), text(row, "status").to_owned())).collect())
    }

    /// Ends it as a power cut would.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Makes it leave and waits for its end.
    ///
    /// # Errors
    ///
    /// When it does not end in time.
    pub fn leave(&mut self) -> Result<()> {
        self.process.signal(Signal::INT)?;
        self.process.wait(crate::cluster::LEAVE).map(drop)
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.process.log()
    }
}

fn call(name: &str, rpc: SocketAddr, args: &[&str]) -> Result<String> {
    let (verb, rest) = args.split_first().ok_or("no command")?;
    let output = Command::new(program(name)?).arg(verb).arg(format!("-rpc-addr={rpc}")).args(rest).output()?;
    if !output.status.success() {
        return Err(format!("{name} {args:?}: {}", String::from_utf8_lossy(&output.stderr).trim()).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}
