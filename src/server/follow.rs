//! Events as they come, as server-sent events: those of this process at once, those of others as soon as the store shows
//! them. Whoever was away says by `Last-Event-ID` where it was.

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

/// How often the store is asked what others have brought.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// How often a follower without news is told that all is well, so that nobody between takes the connection for dead.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// Events that were given, of which it is known that they were.
const MAX_REMEMBERED_IDS: usize = 32 * 1024;

/// The ids of the last events that were given.
#[derive(Default)]
struct SentIds {
    ids: HashSet<Arc<str>>,
    order: VecDeque<Arc<str>>,
}

impl SentIds {
    /// Whether it was not given yet; it is now.
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

/// Sends events until the follower or the stage goes away.
pub(super) async fn follow(
    source: QuerySource,
    mut place: Position,
    filter: Filter,
    mut events: Receiver<Arc<Event>>,
    mut sender: Sender<Bytes, Infallible>,
) {
    let mut given = SentIds::default();
    let mut ticks = interval(POLL_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut text = ": following\n\n".to_owned();
    while sender.send_data(std::mem::take(&mut text).into()).await.is_ok() {
        let quiet = Instant::now() + KEEP_ALIVE_INTERVAL;
        while text.is_empty() {
            tokio::select! {
                event = events.recv() => match event {
                    Ok(event) => add(&mut text, &mut given, &place_of(&event), &event.document, &filter),
                    // The store shows those that were missed here.
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                },
                _ = ticks.tick() => {
                    // A store that is away is asked again.
                    let Ok(FollowedEvents { events, place: next }) = source.follow(&place, &filter).await else { continue };
                    if events.len() == MAX_FOLLOWED {
                        ticks.reset_immediately();
                    }
                    for (cursor, document) in events {
                        add(&mut text, &mut given, &cursor, &document, &filter);
                    }
                    place = next;
                }
                () = sleep_until(quiet) => ":\n\n".clone_into(&mut text),
            }
        }
    }
}

fn place_of(event: &Event) -> Cursor {
    Cursor {
        time: event.time.timestamp_millis(),
        id: event.id.clone(),
    }
}

/// Adds the message of an event, when it is asked for and was not given yet.
fn add(text: &mut String, given: &mut SentIds, cursor: &Cursor, document: &str, filter: &Filter) {
    use std::fmt::Write;
    let passes = || filter.terms.is_empty() || serde_json::from_str(document).is_ok_and(|event| filter.holds(&event));
    if passes() && given.is_new(&cursor.id) {
        // Writing to a string cannot fail. A document is one line.
        let _ = write!(text, "id: {cursor}\ndata: {document}\n\n");
    }
}
