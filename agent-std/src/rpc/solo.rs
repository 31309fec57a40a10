//! A consensus of one, in memory: for tests of what stands upon it.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{net::TcpStream, sync::watch};

use super::{BoxFuture, Consensus, ConsensusError, ConsensusView, Pool, Router, ServerConfig, acl::AllowAll};
use crate::{
    model::KeyringResponse,
    raft::{Server, Suffrage},
    rpc,
    state::Store,
};

/// One server, whose part the test decides.
pub(crate) struct Solo {
    store: Arc<Store>,
    pub index: AtomicU64,
    pub view: watch::Sender<ConsensusView>,
    /// How often a majority was asked, and how often the lease was enough.
    pub barriers: AtomicU64,
    pub leases: AtomicU64,
}

impl Solo {
    fn leads(&self) -> Result<(), ConsensusError> {
        if self.view.borrow().is_leader { Ok(()) } else { Err(ConsensusError::NotLeader) }
    }
}

impl Consensus for Solo {
    fn propose(&self, command: Vec<u8>) -> BoxFuture<'_, Result<Vec<u8>, ConsensusError>> {
        Box::pin(async move {
            self.leads()?;
            let index = self.index.fetch_add(1, Ordering::Relaxed) + 1;
            Ok(self.store.apply(index, index * 1000, &command))
        })
    }

    fn read_barrier(&self) -> BoxFuture<'_, Result<(), ConsensusError>> {
        self.barriers.fetch_add(1, Ordering::Relaxed);
        Box::pin(async { self.leads() })
    }

    fn lease_read(&self) -> BoxFuture<'_, Result<(), ConsensusError>> {
        self.leases.fetch_add(1, Ordering::Relaxed);
        Box::pin(async { self.leads() })
    }

    fn view(&self) -> ConsensusView {
        self.view.borrow().clone()
    }

    fn leadership_change(&self, seen: &ConsensusView) -> BoxFuture<'_, ()> {
        let (mut view, seen) = (self.view.subscribe(), seen.leadership());
        Box::pin(async move { drop(view.wait_for(|now| now.leadership() != seen).await) })
    }

    fn configuration(&self) -> (Vec<Server>, u64) {
        let address = ([127, 0, 0, 1], 8300).into();
        (vec![Server { id: "s".into(), name: "s1".into(), address, suffrage: Suffrage::Voter }], 1)
    }

    fn remove_server(&self, _: &str) -> BoxFuture<'_, Result<(), ConsensusError>> {
        Box::pin(async { Err(ConsensusError::Refused("it is the only voter".into())) })
    }

    fn accept(&self, _: TcpStream, _: SocketAddr) {}
}

/// A server that leads itself.
pub(crate) fn server() -> (rpc::Server, Arc<Solo>) {
    server_of("dc1")
}

/// The same in a datacenter of that name. Its keyring tells what it was asked.
pub(crate) fn server_of(datacenter: &str) -> (rpc::Server, Arc<Solo>) {
    let store = Arc::new(Store::default());
    let view = ConsensusView {
        is_leader: true,
        leader: Some(([127, 0, 0, 1], 8300).into()),
        last_contact: Some(Duration::ZERO),
        ..<_>::default()
    };
    let solo = Arc::new(Solo {
        store: Arc::clone(&store),
        index: AtomicU64::new(0),
        view: watch::Sender::new(view),
        barriers: AtomicU64::new(0),
        leases: AtomicU64::new(0),
    });
    let config = ServerConfig {
        datacenter: datacenter.into(),
        store,
        consensus: Arc::clone(&solo) as Arc<dyn Consensus>,
        pool: Pool::default(),
        authorizer: Arc::new(AllowAll),
        fire_event: Arc::new(|name, _| if name == "bad" { Err("too long".into()) } else { Ok(()) }),
        router: Router::new(datacenter),
        keyring: keyring(datacenter),
    };
    (rpc::Server::new(config), solo)
}

/// One member, with the key that it was told.
pub(crate) fn keyring(datacenter: &str) -> rpc::Keyring {
    let datacenter = datacenter.to_owned();
    Arc::new(move |request, wan| {
        let response = KeyringResponse {
            wan,
            datacenter: datacenter.clone(),
            keys: Some([(format!("{} {}", request.operation, request.key), 1)].into()),
            num_nodes: 1,
            ..KeyringResponse::default()
        };
        Box::pin(std::future::ready(response))
    })
}
