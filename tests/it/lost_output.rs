//! Nobody takes what the process says: its log's reader is gone, or the disk is full. Traffic, breakers, reload and
//! drain do not notice, what is lost is counted, and a verb that could not say what it was asked for does not end well.

use std::fs::OpenOptions;
use std::process::Stdio;

use crate::support::proxy::{File, command};
use crate::support::verbs::verb_saying;
use crate::support::*;

/// A disk without room: every write to it fails.
fn full() -> Stdio {
    OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap()
        .into()
}

/// A pipe whose reader has gone.
fn unread() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

/// An outage, a recovery, a reload and a stop, by a process whose log goes there.
fn everything_works(stderr: Stdio) {
    let upstream = Upstream::script([reply(500), reply(500), reply(200)]);
    let yaml = upstream_with(
        &upstream.url(),
        "breaker: { failure_threshold: 2, recovery_timeout: 1s, success_threshold: 1 }",
    );
    let file = File::write(&yaml);
    let mut proxy = Proxy::saying(file, &[], (Stdio::piped(), stderr));
    assert_eq!(proxy.get("/1").status, 500);
    assert_eq!(
        proxy.get("/2").status,
        500,
        "the call that opens the breaker"
    );
    assert_eq!(proxy.get("/3").status, 503);
    until("a probe to close the breaker", || {
        proxy.get("/4").status == 200
    });
    proxy.reload();
    let text = std::fs::read_to_string(proxy.config()).unwrap();
    let reloads = || {
        proxy
            .metrics()
            .value("trunkline_config_reloads_total", &[("result", "success")])
    };
    let before = reloads();
    std::fs::write(proxy.config(), format!("{text}\n# changed\n")).unwrap();
    until("a reload by the file", || reloads() > before);
    assert_eq!(proxy.stop().code(), Some(0));
}

#[test]
fn a_process_whose_log_has_no_reader_goes_on() {
    everything_works(unread());
}

#[test]
fn a_process_whose_log_has_no_room_goes_on() {
    everything_works(full());
}

/// Its agent hangs, with both pipes full: what is said is waited for by nobody.
#[test]
fn a_process_whose_log_is_not_read_goes_on_and_ends() {
    let upstream = Upstream::answering("");
    let file = File::write(&straight_to(&upstream));
    let (hung, writer) = std::io::pipe().unwrap();
    let stdout = writer.try_clone().unwrap();
    let mut proxy = Proxy::saying(file, &[], (stdout.into(), writer.into()));
    let path = format!("/{}", "x".repeat(3_000));
    for _ in 0..100 {
        assert_eq!(proxy.get(&path).status, 200);
        // Each is told on standard error.
        assert_eq!(proxy.ask(&request("PUT", &path)).status, 403);
    }
    assert_eq!(proxy.stop().code(), Some(0));
    drop(hung);
}

#[test]
fn access_lines_that_are_not_taken_are_counted() {
    for stdout in [full(), unread()] {
        let upstream = Upstream::answering("");
        let file = File::write(&straight_to(&upstream));
        let proxy = Proxy::saying(file, &[], (stdout, Stdio::piped()));
        for _ in 0..5 {
            assert_eq!(proxy.get("/x").status, 200);
        }
        until("five lost lines to be counted", || {
            let dropped = proxy
                .metrics()
                .value("trunkline_access_log_dropped_total", &[]);
            dropped == Some(5.0)
        });
    }
}

#[test]
fn a_verb_that_cannot_say_what_it_was_asked_for_ends_with_1() {
    let file = File::write("routes: [{ name: a, match: { path: /a }, stub: {} }]\n");
    let said = |arguments: &[&str], stdout| {
        let command = command(&file.path, &[]);
        verb_saying(command, arguments, (stdout, Stdio::piped()))
    };
    let verbs: [&[&str]; 7] = [
        &["schema"],
        &["check"],
        &["routes"],
        &["explain", "GET", "/a"],
        &["completions", "bash"],
        &["--help"],
        &["--version"],
    ];
    for arguments in verbs {
        let ended = said(arguments, full());
        assert_eq!(ended.code, Some(1), "{arguments:?}: {ended:?}");
        let sentence = "cannot write to standard output";
        assert!(ended.stderr.contains(sentence), "{arguments:?}: {ended:?}");
        let ended = said(arguments, unread());
        assert_eq!(ended.code, Some(0), "a reader that has enough: {ended:?}");
    }
}

#[test]
fn a_verb_whose_errors_are_not_taken_ends_as_it_would() {
    let sound = File::write("routes: [{ name: a, match: { path: /a }, stub: {} }]\n");
    let wrong = File::write("rotes: []\n");
    for (file, arguments, code) in [
        (&sound, &["check"][..], 0),
        (&wrong, &["check"], 2),
        (&wrong, &["run"], 2),
        (&sound, &["status"], 1),
        (&sound, &["no-verb"], 2),
    ] {
        for stderr in [full(), unread()] {
            let command = command(&file.path, &[]);
            let ended = verb_saying(command, arguments, (Stdio::piped(), stderr));
            assert_eq!(ended.code, Some(code), "{arguments:?}: {ended:?}");
        }
    }
}
