//! Open connections by source address: no client may take all descriptors.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

/// Counts open connections by source.
#[derive(Clone, Debug, Default)]
pub struct Clients(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One counted connection; dropped, it counts no more.
#[derive(Debug)]
pub struct Place {
    clients: Clients,
    ip: IpAddr,
}

impl Clients {
    /// A place for one more connection from `ip`, unless it has `limit` already.
    #[must_use]
    pub fn admit(&self, ip: IpAddr, limit: usize) -> Option<Place> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(ip).or_default();
        if *count >= limit {
            return None;
        }
        *count += 1;
        Some(Place { clients: self.clone(), ip })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.clients.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.ip);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_and_given_back() {
        let clients = Clients::default();
        let ip = IpAddr::from([127, 0, 0, 1]);
        let one = clients.admit(ip, 2);
        let two = clients.admit(ip, 2);
        assert!(one.is_some() && two.is_some() && clients.admit(ip, 2).is_none());
        assert!(clients.admit(IpAddr::from([127, 0, 0, 2]), 2).is_some(), "others are not concerned");
        drop(one);
        assert!(clients.admit(ip, 2).is_some());
        drop(two);
        assert!(clients.0.lock().unwrap().is_empty());
    }
}
