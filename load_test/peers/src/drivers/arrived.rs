//! Reading a client's stream: one wait, then what has come with it.

use std::fmt::Display;

use futures_util::{FutureExt, Stream, StreamExt};

use crate::driver::{DriverError, PATIENCE};

/// Waits for an item, [`PATIENCE`] at most, and hands it to `each` with all that have arrived
/// behind it.
pub async fn arrived<T, E: Display>(
    stream: &mut (impl Stream<Item = Result<T, E>> + Unpin),
    mut each: impl FnMut(T),
) -> Result<(), DriverError> {
    let Ok(first) = tokio::time::timeout(PATIENCE, stream.next()).await else { return Ok(()) };
    let mut next = Some(first);
    while let Some(item) = next {
        let item = item.ok_or(DriverError::Ended)?;
        each(item.map_err(DriverError::of("read"))?);
        next = stream.next().now_or_never();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use futures_util::stream::{self, BoxStream};

    use super::*;

    /// What is handed over of a stream that gives `items` at once and then stays open, or ends.
    async fn taken(
        items: Vec<Result<u8, &'static str>>,
        stays_open: bool,
    ) -> (Vec<u8>, Result<(), DriverError>) {
        let ready = stream::iter(items);
        let mut stream: BoxStream<'_, _> = match stays_open {
            true => ready.chain(stream::pending()).boxed(),
            false => ready.boxed(),
        };
        let mut all = Vec::new();
        let end = arrived(&mut stream, |item| all.push(item)).await;
        (all, end)
    }

    #[tokio::test]
    async fn all_that_is_there_is_taken_and_what_never_comes_is_not_waited_for() {
        let (all, end) = taken(vec![Ok(1), Ok(2), Ok(3)], true).await;
        assert_eq!((all, end.is_ok()), (vec![1, 2, 3], true));
        let (none, end) = taken(vec![], true).await;
        assert_eq!((none, end.is_ok()), (vec![], true));
    }

    #[tokio::test]
    async fn an_error_and_an_end_are_told_after_what_came_before_them() {
        let (all, end) = taken(vec![Ok(1), Err("broken")], true).await;
        assert_eq!((all, end.unwrap_err().to_string()), (vec![1], "cannot read: broken".into()));
        let (all, end) = taken(vec![Ok(1)], false).await;
        assert!(matches!((&all[..], end), ([1], Err(DriverError::Ended))));
    }
}
