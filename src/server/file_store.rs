//! The query store of the server: a SQLite file that answers what the role `manage` answers from an index.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use crate::config::token::KeptToken;
use crate::query::store::OptOut;
use crate::query::store::{AddResult, Changed, CodeChange, FollowedEvents, ListedCode, Position, Store};
use crate::query::{Cursor, EventPage, EventQuery, Filter, Query, QueryError, QueryResult};
use crate::sqlite::opt_outs::{OptOutNews, OptOutState};
use crate::sqlite::{Reader, Readers, StoreError, threads};

impl From<StoreError> for QueryError {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// A file of events. Queries run on a pool of threads with low priority; look-ups have a thread of their own.
#[derive(Clone, Debug)]
pub struct FileStore(Arc<Lanes>);

#[derive(Debug)]
struct Lanes {
    /// The threads for queries over many events; hits have priority.
    questions: Lane,
    /// The thread for look-ups of a few rows by a database index.
    lookups: Lane,
}

impl FileStore {
    /// Starts the threads.
    pub fn new(readers: &Readers) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self(Arc::new(Lanes {
            questions: Lane::new(readers, processors, threads::give_way),
            lookups: Lane::new(readers, 1, || {}),
        }))
    }

    /// Reads the opt-outs after a known state, converted by `convert`; none when nothing has changed.
    ///
    /// # Errors
    ///
    /// [`QueryError`] when the file cannot be read.
    pub async fn opt_outs_after<T: Send + 'static>(
        &self,
        known: Option<OptOutState>,
        convert: impl Fn(&str) -> T + Send + 'static,
    ) -> Result<Option<OptOutNews<T>>, QueryError> {
        let read = move |reader: &Reader| Ok(reader.opt_outs_after(known, convert)?);
        self.0.lookups.with(read).await
    }

    fn choose_lane(&self, filter: &Filter) -> &Lane {
        if filter.terms.is_empty() || filter.only_code().is_some() {
            &self.0.lookups
        } else {
            &self.0.questions
        }
    }
}

/// The number of calls that may wait for a thread; more are refused.
const MAX_WAITING_CALLS: usize = 256;

/// A call with the open file, or the reason why it is not open. Returns true if the file may stay open.
type Work = Box<dyn FnOnce(Result<&Reader, QueryError>) -> bool + Send>;

#[derive(Debug)]
struct Lane {
    /// The queue of calls; none once the lane ends.
    sender: Option<SyncSender<Work>>,
    threads: Vec<JoinHandle<()>>,
}

impl Lane {
    fn new(readers: &Readers, threads: usize, begin: fn()) -> Self {
        let (sender, receiver) = sync_channel(MAX_WAITING_CALLS);
        let receiver = Arc::new(Mutex::new(receiver));
        let spawn = |_| {
            let (readers, receiver) = (readers.clone(), Arc::clone(&receiver));
            let thread = std::thread::Builder::new().name("questions".to_owned());
            // Without any thread, callers get an error.
            thread
                .spawn(move || {
                    begin();
                    work_all(&readers, &receiver);
                })
                .ok()
        };
        Self {
            sender: Some(sender),
            threads: (0..threads).filter_map(spawn).collect(),
        }
    }

    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Reader) -> Result<T, QueryError> + Send + 'static,
    ) -> Result<T, QueryError> {
        let (done, answer) = oneshot::channel::<Result<T, QueryError>>();
        let work = move |reader: Result<&Reader, QueryError>| {
            // The caller has gone.
            if done.is_closed() {
                return true;
            }
            let result = reader.and_then(work);
            let usable = !matches!(result, Err(QueryError::Unavailable(_)));
            let _ = done.send(result);
            usable
        };
        let unavailable = |reason: &str| Err(QueryError::Unavailable(reason.to_owned()));
        let sent = self.sender.as_ref().map(|sender| sender.try_send(Box::new(work)));
        if !matches!(sent, Some(Ok(()))) {
            return unavailable("too many questions are waiting");
        }
        answer
            .await
            .unwrap_or_else(|_| unavailable("the thread that was to answer has failed"))
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.sender = None;
        for thread in self.threads.drain(..) {
            // The callers of a thread that panicked have got an error.
            let _ = thread.join();
        }
    }
}

fn work_all(readers: &Readers, receiver: &Mutex<Receiver<Work>>) {
    let mut open: Option<Reader> = None;
    loop {
        let work = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(work) = work else { return };
        let reader = match open.take() {
            Some(reader) => Ok(reader),
            None => readers.open(),
        };
        let given = reader
            .as_ref()
            .map_err(|error| QueryError::Unavailable(error.to_string()));
        let usable = catch_unwind(AssertUnwindSafe(|| work(given))).unwrap_or(false);
        open = reader.ok().filter(|_| usable);
    }
}

impl Store for FileStore {
    async fn ask(&self, question: &Query) -> Result<QueryResult, QueryError> {
        let question = question.clone();
        self.0.questions.with(move |reader| reader.ask(&question)).await
    }

    async fn find(&self, latest: &EventQuery) -> Result<EventPage, QueryError> {
        let latest = latest.clone();
        self.choose_lane(&latest.filter)
            .with(move |reader| reader.find(&latest))
            .await
    }

    async fn count(&self, filter: &Filter) -> Result<u64, QueryError> {
        let filter = filter.clone();
        let lane = match filter.only_code() {
            Some(_) => &self.0.lookups,
            None => &self.0.questions,
        };
        lane.with(move |reader| reader.count(&filter)).await
    }

    async fn follow(&self, place: &Position, _: &Filter) -> Result<FollowedEvents, QueryError> {
        let place = place.clone();
        self.0.lookups.with(move |reader| Ok(reader.follow(&place)?)).await
    }

    async fn changed(
        &self,
        change: CodeChange,
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<Vec<Changed>, QueryError> {
        let after = after.cloned();
        let changed = move |reader: &Reader| Ok(reader.changed(change, after.as_ref(), limit)?);
        self.0.lookups.with(changed).await
    }

    async fn code(&self, code: &str) -> Result<Option<ListedCode>, QueryError> {
        let code = code.to_owned();
        self.0.lookups.with(move |reader| Ok(reader.code(&code)?)).await
    }

    async fn codes(&self, after: Option<&Cursor>, limit: usize) -> Result<Vec<ListedCode>, QueryError> {
        let after = after.cloned();
        let codes = move |reader: &Reader| Ok(reader.codes(after.as_ref(), limit)?);
        self.0.lookups.with(codes).await
    }

    async fn add(&self, code: &ListedCode) -> Result<AddResult, QueryError> {
        let code = code.clone();
        self.0.lookups.with(move |reader| Ok(reader.add_code(&code)?)).await
    }

    async fn replace(&self, code: &ListedCode) -> Result<(), QueryError> {
        let code = code.clone();
        self.0.lookups.with(move |reader| Ok(reader.replace_code(&code)?)).await
    }

    async fn opt_out(&self, code: &str) -> Result<Option<OptOut>, QueryError> {
        let code = code.to_owned();
        self.0.lookups.with(move |reader| Ok(reader.opt_out(&code)?)).await
    }

    async fn token(&self, hash: &[u8; 32]) -> Result<Option<KeptToken>, QueryError> {
        let hash = *hash;
        self.0.lookups.with(move |reader| Ok(reader.token(&hash)?)).await
    }

    async fn add_token(&self, token: &KeptToken) -> Result<bool, QueryError> {
        let token = token.clone();
        self.0.lookups.with(move |reader| Ok(reader.add_token(&token)?)).await
    }

    async fn delete_token(&self, hash: &[u8; 32]) -> Result<bool, QueryError> {
        let hash = *hash;
        self.0.lookups.with(move |reader| Ok(reader.delete_token(&hash)?)).await
    }
}
