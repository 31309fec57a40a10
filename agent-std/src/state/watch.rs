//! Who waits for what.

use std::{
    collections::{BTreeSet, HashMap},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{Notify, futures::OwnedNotified};

/// What a write can touch.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// Any node.
    Nodes,
    /// A node (by name in lower case), its services or its checks.
    Node(Arc<str>),
    /// Any service.
    Services,
    /// A service (by name in lower case): its instances, their nodes and checks.
    Service(Arc<str>),
    /// Any check.
    Checks,
    /// A key.
    Key(Arc<str>),
    /// Any session.
    Sessions,
    /// Any coordinate.
    Coordinates,
    /// Any prepared query.
    Queries,
}

/// What a blocking read waits for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Interest {
    /// One topic.
    Topic(Topic),
    /// Every key that begins with this.
    Prefix(Arc<str>),
}

/// All waiting reads. An entry exists while somebody waits for it.
#[derive(Default)]
pub(super) struct Watches {
    waiting: Mutex<HashMap<Interest, Arc<Notify>>>,
}

impl Watches {
    fn waiting(&self) -> std::sync::MutexGuard<'_, HashMap<Interest, Arc<Notify>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn watch(&self, interests: Vec<Interest>) -> Watch<'_> {
        let mut waiting = self.waiting();
        let notified = interests
            .into_iter()
            .map(|interest| {
                let notify = Arc::clone(waiting.entry(interest.clone()).or_default());
                let mut notified = Box::pin(Arc::clone(&notify).notified_owned());
                // From now on, not from the first poll: the caller reads the state in between.
                notified.as_mut().enable();
                (interest, notify, notified)
            })
            .collect();
        Watch { watches: self, notified }
    }

    pub fn wake(&self, touched: BTreeSet<Topic>) {
        let mut waiting = self.waiting();
        if waiting.is_empty() {
            return;
        }
        for topic in touched {
            if let Topic::Key(key) = &topic {
                for end in (0..=key.len()).filter(|&end| key.is_char_boundary(end)) {
                    wake(&mut waiting, &Interest::Prefix(key[..end].into()));
                }
            }
            wake(&mut waiting, &Interest::Topic(topic));
        }
    }

    pub fn wake_all(&self) {
        self.waiting().drain().for_each(|(_, notify)| notify.notify_waiters());
    }
}

fn wake(waiting: &mut HashMap<Interest, Arc<Notify>>, interest: &Interest) {
    if let Some(notify) = waiting.remove(interest) {
        notify.notify_waiters();
    }
}

/// A subscription; see [`super::Store::watch`].
pub struct Watch<'a> {
    watches: &'a Watches,
    notified: Vec<(Interest, Arc<Notify>, Pin<Box<OwnedNotified>>)>,
}

impl Watch<'_> {
    /// Waits until one of the interests is touched.
    pub async fn changed(&mut self) {
        std::future::poll_fn(|cx| {
            let ready = self.notified.iter_mut().any(|(_, _, notified)| notified.as_mut().poll(cx).is_ready());
            if ready { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        let mut waiting = self.watches.waiting();
        for (interest, notify, notified) in self.notified.drain(..) {
            drop(notified);
            // The map's and ours are the last two: nobody else waits. A third cannot appear while the map is locked.
            let last = waiting.get(&interest).is_some_and(|there| Arc::ptr_eq(there, &notify));
            if last && Arc::strong_count(&notify) == 2 {
                waiting.remove(&interest);
            }
        }
    }
}

impl Watches {
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.waiting().len()
    }
}
