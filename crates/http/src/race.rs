//! Two things waited for at once.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

/// Waits for either future; the left one is asked first.
pub(crate) async fn race(left: impl Future, right: impl Future) {
    let (mut left, mut right) = (pin!(left), pin!(right));
    poll_fn(|context| {
        if left.as_mut().poll(context).is_ready() || right.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        Poll::Pending
    })
    .await;
}
