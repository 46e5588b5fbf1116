//! What the environment says is taken for what it is: bytes that are no text, a number of threads that is none, and a
//! state file that cannot be one.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::process::Stdio;

use crate::support::proxy::{File, command};
use crate::support::verbs::{Ended, verb_in, verb_saying};

const SOUND: &str = "routes: [{ name: a, match: { path: /a }, stub: {} }]\n";

#[track_caller]
fn with_bytes(yaml: &str, name: &str, value: &[u8], verb: &str) -> Ended {
    let file = File::write(yaml);
    let mut command = command(&file.path, &[]);
    command.env(name, OsStr::from_bytes(value));
    verb_saying(command, &[verb], (Stdio::piped(), Stdio::piped()))
}

#[test]
fn a_variable_that_is_not_utf_8_is_a_problem_that_names_it() {
    let yaml = format!("environment: ${{ENVIRONMENT:-development}}\n{SOUND}");
    for verb in ["check", "run"] {
        let ended = with_bytes(&yaml, "ENVIRONMENT", b"production\xff", verb);
        assert_eq!(ended.code, Some(2), "{ended:?}");
        let what = "proxy.yaml:1:14: ENVIRONMENT is set to bytes that are not UTF-8";
        assert!(ended.stderr.contains(what), "{ended:?}");
    }
    let ended = with_bytes(&yaml, "OTEL_SERVICE_NAME", b"\xff", "check");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let what = "the variable OTEL_SERVICE_NAME is not used: it is not UTF-8";
    assert!(ended.stderr.contains(what), "{ended:?}");
}

#[test]
fn a_number_of_threads_that_is_none_is_a_problem_at_once() {
    let file = File::write(SOUND);
    for wrong in ["-1", "2.5", "abc", "1025", "99999999999999999999999"] {
        for verb in ["check", "run"] {
            let ended = verb_in(&file.path, &[verb], &[("TRUNKLINE_THREADS", wrong)]);
            assert_eq!(ended.code, Some(2), "{wrong}: {ended:?}");
            let what = "TRUNKLINE_THREADS is set to what is no whole number from 0 to 1024";
            assert!(ended.stderr.contains(what), "{wrong}: {ended:?}");
        }
    }
    for right in ["0", "1", "1024", ""] {
        let ended = verb_in(&file.path, &["check"], &[("TRUNKLINE_THREADS", right)]);
        assert_eq!(ended.code, Some(0), "{right}: {ended:?}");
    }
}

#[test]
fn a_state_file_that_cannot_be_one_is_a_problem_and_nothing_is_made() {
    let at = |name: &str| {
        let file = File::write(&format!("state_file: {name}\n{SOUND}"));
        file.beside("notes", "no database");
        file.beside("empty", "");
        file
    };
    for (name, why) in [
        ("/", "it is not a file"),
        ("notes", "it holds something else than records"),
        ("notes/records", "ot a directory"),
    ] {
        let file = at(name);
        for verb in ["check", "run"] {
            let ended = verb_in(&file.path, &[verb], &[]);
            assert_eq!(ended.code, Some(2), "{name}: {ended:?}");
            let place = "proxy.yaml:1:13: the state file";
            let said = ended.stderr.contains(place) && ended.stderr.contains(why);
            assert!(said, "{name}: {ended:?}");
        }
    }
    // The last is on another machine.
    for name in ["new", "empty", "nowhere/records"] {
        let file = at(name);
        let there = || {
            let found = std::fs::read_dir(file.path.parent().unwrap()).unwrap();
            let mut names: Vec<_> = found.map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        let before = there();
        let ended = verb_in(&file.path, &["check"], &[]);
        assert_eq!(ended.code, Some(0), "{name}: {ended:?}");
        assert_eq!(there(), before, "{name}");
    }
}
