//! What a client still sends when its answer is one of ours.
//!
//! It is read and dropped within bounds, so that the connection can go on; what has no end in sight
//! ends the connection, since nothing of it may be taken for the next request.

use crate::clock::Duration;
use bytes::Bytes;
use http_body::Body as _;
use hyper::body::Incoming;
use std::pin::pin;

/// How much of a request's body is read and dropped before one of our own answers, so that the
/// connection can go on; a larger one is cut off.
const DRAIN_BYTES: u64 = 64 * 1024;
/// How long that may take.
const DRAIN_TIME: Duration = Duration::from_millis(200);

/// Reads what is left of a request's body and drops it, within bounds, so that none of it can be
/// taken for the next request. `false`: it has no end in sight, and the connection must not go on.
pub(super) async fn is_spent(body: &mut Option<Incoming>, expects_continue: bool) -> bool {
    let Some(body) = body.as_mut().filter(|body| !body.is_end_stream()) else {
        return true;
    };
    let large = body.size_hint().lower() > DRAIN_BYTES;
    if expects_continue || large {
        return false;
    }
    let mut left = DRAIN_BYTES;
    let reading = std::future::poll_fn(|cx| {
        loop {
            match std::task::ready!(pin!(&mut *body).poll_frame(cx)) {
                None => return std::task::Poll::Ready(true),
                Some(Err(_)) => return std::task::Poll::Ready(false),
                Some(Ok(frame)) => {
                    let n = frame.data_ref().map_or(0, Bytes::len);
                    match left.checked_sub(u64::try_from(n).unwrap_or(u64::MAX)) {
                        Some(rest) => left = rest,
                        None => return std::task::Poll::Ready(false),
                    }
                }
            }
        }
    });
    tokio::time::timeout(DRAIN_TIME, reading)
        .await
        .unwrap_or(false)
}
