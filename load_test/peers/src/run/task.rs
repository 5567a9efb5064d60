//! Tasks that end with the one who waits for them: what a failed run leaves unfinished must not
//! go on beside the next.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::task::{JoinError, JoinHandle};

/// A task on this thread. Dropping it ends it.
pub struct Task<T>(JoinHandle<T>);

/// Must be called inside a `LocalSet`.
pub fn spawn<T: 'static>(work: impl Future<Output = T> + 'static) -> Task<T> {
    Task(tokio::task::spawn_local(work))
}

impl<T> Future for Task<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context)
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    #[tokio::test]
    async fn what_nobody_waits_for_ends() {
        let held = Rc::new(());
        let local = tokio::task::LocalSet::new();
        let work = async {
            let own = held.clone();
            let task = spawn(async move {
                std::future::pending::<()>().await;
                drop(own);
            });
            tokio::task::yield_now().await;
            assert_eq!(Rc::strong_count(&held), 2);
            drop(task);
            while Rc::strong_count(&held) > 1 {
                tokio::task::yield_now().await;
            }
            assert_eq!(spawn(async { 7 }).await.unwrap(), 7);
        };
        local.run_until(work).await;
    }
}
