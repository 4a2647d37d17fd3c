//! A thread that owns a connection to the database.

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::{Result, StoreError};

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// Jobs that may wait; whoever brings more waits too.
const QUEUE: usize = 16;

#[derive(Clone)]
pub(super) struct Thread(mpsc::Sender<Job>);

impl Thread {
    pub(super) fn start(name: &str, mut connection: Connection) -> Result<Self> {
        let (sender, mut jobs) = mpsc::channel::<Job>(QUEUE);
        let run = move || {
            while let Some(job) = jobs.blocking_recv() {
                job(&mut connection);
            }
        };
        std::thread::Builder::new().name(name.to_owned()).spawn(run).map_err(|_| StoreError::Ended)?;
        Ok(Self(sender))
    }

    pub(super) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |connection| drop(reply.send(job(connection))));
        self.0.send(job).await.map_err(|_| StoreError::Ended)?;
        answer.await.map_err(|_| StoreError::Ended)?
    }
}
