//! How long a hold lasts: its window, a reload, a stop, a crash.

use std::time::{Duration, Instant};

use super::*;

#[test]
fn the_window_ends() {
    let (upstream, proxy) = guarded(
        [reset(), reply(201)],
        "profile: twilio, duplicate_window: 600ms",
    );
    let begun = Instant::now();
    proxy.send(&call("first-1"));
    assert_refused(&proxy.send(&call("second-2")), "first-1");
    until("the window to end", || {
        proxy.send(&call("third-3")).status == 201
    });
    assert!(
        begun.elapsed() >= Duration::from_millis(600),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(upstream.count(), 2);
}

/// A directory for a state file, and the key that names it.
fn state() -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let key = format!(
        "\nstate_file: \"{}\"\n",
        directory.path().join("state").display()
    );
    (directory, key)
}

#[test]
fn a_proxy_that_was_killed_between_send_and_answer_holds_the_create_when_it_is_back() {
    let (_directory, key) = state();
    let upstream = Upstream::script([hang(), reply(201)]);
    let yaml = file(&upstream, "profile: twilio") + &key;
    let mut proxy = Proxy::start(&yaml);
    let mut client = proxy.connect();
    client.start(&call("first-1"));
    upstream.wait_for(1);
    proxy.signal("KILL");
    proxy.wait_for_exit();
    let proxy = Proxy::start(&yaml);
    assert_refused(&proxy.send(&call("second-2")), "first-1");
    assert_eq!(upstream.count(), 1);
    let right = call("third-3").header("Trunkline-Confirmed-Retry", "first-1");
    assert_eq!(proxy.send(&right).status, 201);
}

#[test]
fn a_hold_survives_and_a_success_leaves_none() {
    let (_directory, key) = state();
    let upstream = Upstream::choosing(|index, received| match (index, received.target.as_str()) {
        (0, CALLS) => reset(),
        _ => reply(201),
    });
    let yaml = file(&upstream, "profile: twilio") + &key;
    let mut proxy = Proxy::start(&yaml);
    proxy.send(&call("first-1"));
    let done = "/2010-04-01/Accounts/AC1/Messages.json";
    assert_eq!(proxy.send(&create(done, "done-1")).status, 201);
    proxy.stop();
    let proxy = Proxy::start(&yaml);
    assert_refused(&proxy.send(&call("second-2")), "first-1");
    assert_eq!(proxy.send(&create(done, "done-2")).status, 201);
    assert_eq!(held(&proxy).len(), 1);
    assert_eq!(upstream.count(), 3);
}

#[test]
fn without_a_state_file_a_killed_proxy_starts_afresh() {
    let upstream = Upstream::script([reset(), reply(201)]);
    let yaml = file(&upstream, "profile: twilio");
    let mut proxy = Proxy::start(&yaml);
    proxy.send(&call("first-1"));
    proxy.signal("KILL");
    proxy.wait_for_exit();
    let proxy = Proxy::start(&yaml);
    assert_eq!(proxy.send(&call("second-2")).status, 201);
}

#[test]
fn a_reload_keeps_the_hold() {
    let (upstream, proxy) = twilio([reset(), reply(201)]);
    proxy.send(&call("first-1"));
    let text = std::fs::read_to_string(proxy.config()).unwrap();
    std::fs::write(proxy.config(), text.replace("300ms", "400ms")).unwrap();
    proxy.reload();
    assert_refused(&proxy.send(&call("second-2")), "first-1");
    assert_eq!(upstream.count(), 1);
}

#[test]
fn all_workers_share_one_guard() {
    let upstream = Upstream::script([reset(), reply(201)]);
    let proxy = Proxy::start(format!(
        "threads: 2\n{}",
        file(&upstream, "profile: twilio")
    ));
    proxy.send(&call("first-1"));
    for _ in 0..20 {
        assert_refused(&proxy.send(&call("second-2")), "first-1");
    }
    assert_eq!(upstream.count(), 1);
}

#[test]
fn a_stop_while_a_create_is_followed_does_not_lose_it() {
    let (_directory, key) = state();
    let upstream = Upstream::script([hang(), reply(201)]);
    let yaml = file(&upstream, "profile: twilio") + &key + "drain: { grace: 200ms, quiet: 0s }\n";
    let mut proxy = Proxy::start(&yaml);
    let mut client = proxy.connect();
    client.start(&call("first-1"));
    upstream.wait_for(1);
    drop(client);
    wait_until_held(&proxy, |_| true);
    proxy.stop();
    let proxy = Proxy::start(&yaml);
    assert_refused(&proxy.send(&call("second-2")), "first-1");
    assert_eq!(upstream.count(), 1);
}

#[test]
fn a_stopping_proxy_waits_for_the_create_whose_client_has_left() {
    let (_directory, key) = state();
    let gate = Gate::default();
    let made = reply(201).body("{\"sid\":\"CA99\"}").behind(&gate);
    let upstream = Upstream::script([made]);
    let yaml = file(&upstream, "profile: twilio") + &key + "drain: { grace: 30s, quiet: 0s }\n";
    let mut proxy = Proxy::start(&yaml);
    let mut client = proxy.connect();
    client.start(&call("first-1"));
    upstream.wait_for(1);
    drop(client);
    wait_until_held(&proxy, |_| true);
    proxy.signal("TERM");
    until("the listener to be closed", || {
        Client::try_connect(proxy.address()).is_err()
    });
    gate.open();
    proxy.wait_for_exit();
    let proxy = Proxy::start(&yaml);
    let refused = proxy.send(&call("second-2"));
    assert_refused(&refused, "first-1");
    assert!(refused.text().contains("CA99"), "{}", refused.text());
}
