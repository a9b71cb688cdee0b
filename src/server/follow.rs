//! Live events as server-sent events: those of this process at once, those of other processes as soon as the store
//! shows them. A client that was disconnected says by `Last-Event-ID` where to continue.

use std::collections::{HashSet, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::channel::Sender;
use hyper::body::Bytes;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::hit::event::Event;
use crate::query::store::{FollowedEvents, MAX_FOLLOWED, Position};
use crate::query::{Cursor, Filter};
use crate::server::QuerySource;

/// The interval at which the store is asked for events that other processes have stored.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The longest silence before a comment is sent, so that no proxy takes the connection for dead.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// The number of sent events whose ids are remembered.
const MAX_REMEMBERED_IDS: usize = 32 * 1024;

/// The ids of the last events that were sent.
#[derive(Default)]
struct SentIds {
    ids: HashSet<Arc<str>>,
    order: VecDeque<Arc<str>>,
}

impl SentIds {
    /// Records an id as sent. Returns true if it was not sent before.
    fn is_new(&mut self, id: &str) -> bool {
        let id: Arc<str> = id.into();
        if !self.ids.insert(Arc::clone(&id)) {
            return false;
        }
        self.order.push_back(id);
        if self.order.len() > MAX_REMEMBERED_IDS
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        true
    }
}

/// Sends events until the follower disconnects or the server stops.
pub(super) async fn follow(
    source: QuerySource,
    mut place: Position,
    filter: Filter,
    mut events: Receiver<Arc<Event>>,
    mut sender: Sender<Bytes, Infallible>,
) {
    let mut sent = SentIds::default();
    let mut ticks = interval(POLL_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut text = ": following\n\n".to_owned();
    while sender.send_data(std::mem::take(&mut text).into()).await.is_ok() {
        let keep_alive = Instant::now() + KEEP_ALIVE_INTERVAL;
        while text.is_empty() {
            tokio::select! {
                event = events.recv() => match event {
                    Ok(event) => add(&mut text, &mut sent, &cursor_of(&event), &event.document, &filter),
                    // The store supplies the events that were missed here.
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                },
                _ = ticks.tick() => {
                    // A store that cannot be reached is asked again.
                    let Ok(FollowedEvents { events, place: next }) = source.follow(&place, &filter).await else { continue };
                    if events.len() == MAX_FOLLOWED {
                        ticks.reset_immediately();
                    }
                    for (cursor, document) in events {
                        add(&mut text, &mut sent, &cursor, &document, &filter);
                    }
                    place = next;
                }
                () = sleep_until(keep_alive) => ":\n\n".clone_into(&mut text),
            }
        }
    }
}

fn cursor_of(event: &Event) -> Cursor {
    Cursor {
        time: event.time.timestamp_millis(),
        id: event.id.clone(),
    }
}

/// Adds the message of an event if the filter selects it and it was not sent before.
fn add(text: &mut String, sent: &mut SentIds, cursor: &Cursor, document: &str, filter: &Filter) {
    use std::fmt::Write;
    let passes = || filter.terms.is_empty() || serde_json::from_str(document).is_ok_and(|event| filter.holds(&event));
    if passes() && sent.is_new(&cursor.id) {
        // Writing to a string cannot fail. A document is one line.
        let _ = write!(text, "id: {cursor}\ndata: {document}\n\n");
    }
}
