//! Which server of another datacenter to ask: what the WAN pool knows, in the order of use.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::RpcError;
use crate::model::{Coordinate, DatacenterCoordinates, NodeCoordinate};

/// A server as the WAN pool knows it. One that has left is not among them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WanServer {
    /// Node name, without its datacenter.
    pub name: String,
    /// Its datacenter.
    pub datacenter: String,
    /// Where it takes RPC: its WAN address with the port of tag `port`. None when a tag makes no sense.
    pub rpc: Option<SocketAddr>,
    /// Answers probes.
    pub alive: bool,
    /// Where it said last that it is.
    pub place: Option<Coordinate>,
}

/// The ways to other datacenters. Cheap to clone; the clones share what they know.
#[derive(Clone, Debug)]
pub struct Router {
    own: Arc<str>,
    table: Arc<Mutex<Table>>,
}

#[derive(Debug, Default)]
struct Table {
    servers: Vec<WanServer>,
    /// Where we are ourselves.
    place: Option<Coordinate>,
    /// By datacenter, in the order of use: the first is asked; one that fails goes to the end.
    order: BTreeMap<String, Vec<SocketAddr>>,
}

impl Router {
    /// A router of datacenter `own` that knows of no other.
    pub fn new(own: &str) -> Self {
        Router { own: own.into(), table: Arc::default() }
    }

    /// Takes over what the pool knows now, and where we are ourselves.
    pub fn replace(&self, servers: Vec<WanServer>, place: Option<Coordinate>) {
        let mut table = self.table();
        let alive = |datacenter: &str, address: SocketAddr| {
            servers.iter().any(|s| s.alive && s.datacenter == datacenter && s.rpc == Some(address))
        };
        for (datacenter, order) in &mut table.order {
            order.retain(|&address| alive(datacenter, address));
        }
        for server in servers.iter().filter(|server| server.alive && *server.datacenter != *self.own) {
            let Some(address) = server.rpc else { continue };
            let order = table.order.entry(server.datacenter.clone()).or_default();
            if !order.contains(&address) {
                // At a random place, so that the servers of this datacenter spread over those of the other.
                let at = rand::random_range(0..=order.len());
                order.insert(at, address);
            }
        }
        table.order.retain(|_, order| !order.is_empty());
        (table.servers, table.place) = (servers, place);
    }

    /// The servers of `datacenter` that are alive, in the order in which to ask them; at least one.
    ///
    /// # Errors
    /// Consul's texts: nobody has heard of the datacenter, or none of its servers is alive.
    pub fn route(&self, datacenter: &str) -> Result<Vec<SocketAddr>, RpcError> {
        let table = self.table();
        match table.order.get(datacenter) {
            Some(order) => Ok(order.clone()),
            None if table.servers.iter().any(|server| server.datacenter == datacenter) => {
                Err(RpcError::endpoint("Remote DC has no server currently reachable"))
            }
            None => Err(RpcError::endpoint("No path to datacenter")),
        }
    }

    /// A server did not answer: others come before it from now on.
    pub fn failed(&self, datacenter: &str, address: SocketAddr) {
        if let Some(order) = self.table().order.get_mut(datacenter)
            && order.first() == Some(&address)
        {
            order.rotate_left(1);
        }
    }

    /// All datacenters, the nearest first, ours before all. By the median of the distances to a datacenter's servers, and
    /// by name where these are the same or not known.
    pub fn datacenters(&self) -> Vec<String> {
        let table = self.table();
        let mut distances: BTreeMap<&str, Vec<f64>> = BTreeMap::from([(&*self.own, vec![0.0])]);
        for server in table.servers.iter().filter(|server| *server.datacenter != *self.own) {
            let seconds = match (&table.place, &server.place) {
                (Some(ours), Some(theirs)) => ours.distance(theirs),
                _ => f64::INFINITY,
            };
            distances.entry(&server.datacenter).or_default().push(seconds);
        }
        let median = |mut all: Vec<f64>| {
            all.sort_by(f64::total_cmp);
            all[all.len() / 2]
        };
        let mut sorted: Vec<(&str, f64)> = distances.into_iter().map(|(name, all)| (name, median(all))).collect();
        sorted.sort_by(|a, b| a.1.total_cmp(&b.1));
        sorted.into_iter().map(|(name, _)| name.to_owned()).collect()
    }

    /// As [`Router::datacenters`], without ours.
    pub fn others(&self) -> Vec<String> {
        self.datacenters().into_iter().filter(|name| **name != *self.own).collect()
    }

    /// Where the servers of all datacenters are, as far as they are known, by datacenter.
    pub fn places(&self) -> Vec<DatacenterCoordinates> {
        let table = self.table();
        let mut all: BTreeMap<&str, Vec<NodeCoordinate>> = BTreeMap::new();
        for server in &table.servers {
            if let Some(place) = &server.place {
                let (node, coord) = (server.name.clone(), Some(place.clone()));
                let coordinate = NodeCoordinate { node, segment: String::new(), coord };
                all.entry(&server.datacenter).or_default().push(coordinate);
            }
        }
        let row = |(name, list): (&str, Vec<NodeCoordinate>)| DatacenterCoordinates {
            datacenter: name.to_owned(),
            area_id: "wan".to_owned(),
            coordinates: Some(list),
        };
        all.into_iter().map(row).collect()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(x: f64) -> Option<Coordinate> {
        Some(Coordinate { vec: Some(vec![x, 0.0]), ..Coordinate::default() })
    }

    fn server(datacenter: &str, host: u8, alive: bool, place: Option<Coordinate>) -> WanServer {
        let name = format!("s{host}");
        WanServer { name, datacenter: datacenter.into(), rpc: Some(([10, 0, 0, host], 8300).into()), alive, place }
    }

    fn text(result: Result<Vec<SocketAddr>, RpcError>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn the_ways_follow_the_pool() {
        let router = Router::new("dc1");
        assert_eq!(text(router.route("dc2")), "No path to datacenter");
        router.replace(vec![server("dc1", 1, true, None), server("dc2", 2, true, None)], None);
        assert_eq!(router.route("dc2").unwrap(), [([10, 0, 0, 2], 8300).into()]);
        assert_eq!(text(router.route("DC2")), "No path to datacenter");
        router.replace(vec![server("dc1", 1, true, None), server("dc2", 2, false, None)], None);
        assert_eq!(text(router.route("dc2")), "Remote DC has no server currently reachable");
        assert_eq!(router.datacenters(), ["dc1", "dc2"]);
        router.replace(vec![server("dc1", 1, true, None)], None);
        assert_eq!(text(router.route("dc2")), "No path to datacenter");
    }

    #[test]
    fn a_server_that_fails_is_asked_last() {
        let router = Router::new("dc1");
        let all: Vec<_> = (1..=3).map(|host| server("dc2", host, true, None)).collect();
        router.replace(all.clone(), None);
        let first = router.route("dc2").unwrap();
        router.failed("dc2", first[0]);
        router.failed("dc2", first[2]);
        router.failed("dc9", first[0]);
        assert_eq!(router.route("dc2").unwrap(), [first[1], first[2], first[0]]);
        // The order outlives news from the pool.
        router.replace(all, None);
        assert_eq!(router.route("dc2").unwrap(), [first[1], first[2], first[0]]);
    }

    #[test]
    fn datacenters_are_sorted_by_the_median_of_distances() {
        let router = Router::new("dc1");
        assert_eq!(router.datacenters(), ["dc1"]);
        let servers = vec![
            server("dc1", 1, true, at(9.0)),
            server("near", 2, true, at(1.0)),
            server("near", 3, true, at(1.1)),
            server("near", 4, true, at(100.0)),
            server("far", 5, true, at(5.0)),
            server("b", 6, true, None),
            server("a", 7, true, None),
        ];
        router.replace(servers, at(0.0));
        assert_eq!(router.datacenters(), ["dc1", "near", "far", "a", "b"]);
        assert_eq!(router.others(), ["near", "far", "a", "b"]);
        let places = router.places();
        let names: Vec<_> = places.iter().map(|row| row.datacenter.as_str()).collect();
        assert_eq!(names, ["dc1", "far", "near"]);
        assert_eq!(places[2].coordinates.as_ref().unwrap()[0].node, "s2");
    }
}
