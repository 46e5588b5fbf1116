//! Like work one after the other: what wakes another process waits for its turn.
//!
//! A busy worker is told of many sockets at once. If each exchange went all the way to its write before the next one
//! was looked at, the other end would be woken for each, and fall asleep again in between, which costs both sides more
//! than the write itself. So an exchange lets those that are ready go first before it writes: their requests are read
//! together, and then sent together. With nobody else ready it goes on at once.

use std::future::poll_fn;
use std::task::Poll;

/// Waits until every task that is ready now has had its turn.
pub async fn after_the_others() {
    let mut waited = false;
    poll_fn(|cx| {
        if waited {
            return Poll::Ready(());
        }
        waited = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[tokio::test]
    async fn what_is_ready_goes_first_and_nothing_is_lost() {
        let steps = RefCell::new(Vec::new());
        let exchange = async |name: &'static str| {
            steps.borrow_mut().push((name, "read"));
            after_the_others().await;
            steps.borrow_mut().push((name, "written"));
        };
        tokio::join!(exchange("a"), exchange("b"), exchange("c"));
        let kinds: Vec<_> = steps.borrow().iter().map(|step| step.1).collect();
        let together = ["read", "read", "read", "written", "written", "written"];
        assert_eq!(kinds, together);
    }
}
