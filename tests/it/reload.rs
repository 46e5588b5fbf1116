//! A new file takes the place of the old one whole, or not at all; what the policies have learnt stays.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::support::proxy::File;
use crate::support::*;

fn file(upstream: &Upstream, path: &str, threshold: usize) -> String {
    format!(
        "
rate_limits:
  tight: {{ requests: 2, per: 1h }}
upstreams:
  up: {{ url: \"{}\", breaker: {{ failure_threshold: {threshold}, recovery_timeout: 60s }} }}
routes:
  - {{ name: limited, match: {{ path: /limited }}, upstream: up, rate_limit: tight }}
  - {{ name: all, match: {{ path: \"{path}\" }}, upstream: up }}
",
        upstream.url()
    )
}

fn reloads(proxy: &Proxy, result: &str) -> f64 {
    proxy
        .metrics()
        .value("trunkline_config_reloads_total", &[("result", result)])
        .unwrap_or_default()
}

/// Puts `change` in the place of the text that it names, in the proxy's own file, and asks for a reload.
fn reload(proxy: &Proxy, from: &str, to: &str, result: &str) {
    let text = std::fs::read_to_string(proxy.config()).unwrap();
    assert!(text.contains(from), "{from} in\n{text}");
    let before = reloads(proxy, result);
    std::fs::write(proxy.config(), text.replace(from, to)).unwrap();
    proxy.signal("HUP");
    until(&format!("a reload with {result}"), || {
        reloads(proxy, result) > before
    });
}

#[test]
fn a_signal_brings_the_new_routes() {
    let upstream = Upstream::answering("");
    let proxy = Proxy::start(file(&upstream, "/old", 3));
    assert_eq!(
        (proxy.get("/old").status, proxy.get("/new").status),
        (200, 404)
    );
    reload(&proxy, "/old", "/new", "success");
    assert_eq!(
        (proxy.get("/old").status, proxy.get("/new").status),
        (404, 200)
    );
}

#[test]
fn a_bad_file_keeps_the_old_one_whole() {
    let upstream = Upstream::answering("");
    let proxy = Proxy::start(file(&upstream, "/old", 3));
    reload(&proxy, "upstream: up", "upstream: nobody", "failure");
    assert_eq!(proxy.get("/old").status, 200);
    let last_error =
        || proxy.ask(&get("/api/v1/status")).json()["config"]["last_error"].to_string();
    until("the status to tell what was wrong", || {
        last_error().contains("nobody")
    });
    assert_eq!(proxy.ask(&get("/readyz")).status, 200);
    reload(&proxy, "upstream: nobody", "upstream: up", "success");
    until("the status to forget it", || last_error() == "null");
}

#[test]
fn an_open_breaker_and_a_spent_limit_survive() {
    let upstream =
        Upstream::choosing(|_, received| reply(if received.target == "/old" { 500 } else { 200 }));
    let proxy = Proxy::start(file(&upstream, "/old", 3));
    assert_eq!(
        (proxy.get("/limited").status, proxy.get("/limited").status),
        (200, 200)
    );
    assert_eq!(proxy.get("/limited").status, 429);
    (0..3).for_each(|_| assert_eq!(proxy.get("/old").status, 500));
    proxy.wait_for_breaker("up", 2.0);
    let sent = upstream.count();
    reload(
        &proxy,
        "failure_threshold: 3",
        "failure_threshold: 5",
        "success",
    );
    assert_eq!(proxy.get("/old").status, 503);
    assert_eq!(proxy.get("/limited").status, 429);
    assert_eq!(upstream.count(), sent);
    let metrics = proxy.metrics();
    assert_eq!(
        metrics.value("circuit_breaker_opens_total", &[("service", "up")]),
        Some(1.0)
    );
}

#[test]
fn series_of_names_that_are_gone_disappear() {
    let upstream = Upstream::answering("");
    let proxy = Proxy::start(file(&upstream, "/old", 3));
    proxy.get("/limited");
    until("the route's series", || {
        proxy
            .metrics()
            .value("trunkline_requests_total", &[("route", "limited")])
            == Some(1.0)
    });
    reload(&proxy, "name: limited", "name: renamed", "success");
    until("the old name to be gone", || {
        proxy
            .metrics()
            .series
            .keys()
            .all(|(_, labels)| labels.get("route").is_none_or(|route| route != "limited"))
    });
}

#[test]
fn no_request_fails_while_files_come_and_go() {
    let upstream = Upstream::answering("ok");
    let proxy = Proxy::start(file(&upstream, "/{*rest}", 3));
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut statuses = Vec::new();
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        statuses.push(proxy.get("/x").status);
                    }
                    statuses
                })
            })
            .collect();
        for _ in 0..5 {
            reload(
                &proxy,
                "failure_threshold: 3",
                "failure_threshold: 4",
                "success",
            );
            reload(&proxy, "upstream: up", "upstream: nobody", "failure");
            reload(&proxy, "upstream: nobody", "upstream: up", "success");
            reload(
                &proxy,
                "failure_threshold: 4",
                "failure_threshold: 3",
                "success",
            );
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        for caller in callers {
            let statuses = caller.join().unwrap();
            assert!(
                !statuses.is_empty() && statuses.iter().all(|status| *status == 200),
                "{statuses:?}"
            );
        }
    });
}

#[test]
fn the_admin_listener_reloads_for_its_own_page_alone() {
    let upstream = Upstream::answering("");
    let proxy = Proxy::start(file(&upstream, "/old", 3));
    let ask = |request: Request| proxy.ask(&request).status;
    let json = || post("/-/reload", "{}").header("Content-Type", "application/json");
    assert_eq!(
        ask(post("/-/reload", "")) / 100,
        4,
        "a form can be sent across sites"
    );
    assert_eq!(ask(json().header("Origin", "http://evil.example")) / 100, 4);
    assert_eq!(ask(json().header("Host", "evil.example")) / 100, 4);
    assert_eq!(reloads(&proxy, "failure"), 0.0);
    let before = reloads(&proxy, "success");
    assert_eq!(ask(json()) / 100, 2);
    until("the reload", || reloads(&proxy, "success") > before);
}

/// The file as a mounted volume has it: a link to a link to a directory of which the next one takes the place.
#[test]
fn a_saved_a_renamed_and_a_swapped_file_are_loaded_by_themselves() {
    let upstream = Upstream::answering("");
    let written = File::write(&file(&upstream, "/one", 3));
    let text = std::fs::read_to_string(&written.path).unwrap();
    let volume = written.path.parent().unwrap().to_owned();
    let says = |path: &str| text.replace("/one", path);
    let proxy = Proxy::on(written, &[]);
    let comes = |path: &str| {
        until(&format!("{path} to be a route"), || {
            proxy.get(path).status == 200
        });
    };
    std::fs::write(volume.join("proxy.yaml"), says("/saved")).unwrap();
    comes("/saved");
    std::fs::write(volume.join("proxy.yaml~"), says("/renamed")).unwrap();
    std::fs::rename(volume.join("proxy.yaml~"), volume.join("proxy.yaml")).unwrap();
    comes("/renamed");
    for name in ["first", "second"] {
        std::fs::create_dir(volume.join(name)).unwrap();
        std::fs::write(
            volume.join(name).join("proxy.yaml"),
            says(&format!("/{name}")),
        )
        .unwrap();
        std::os::unix::fs::symlink(name, volume.join("..next")).unwrap();
        std::fs::rename(volume.join("..next"), volume.join("..data")).unwrap();
        if name == "first" {
            std::os::unix::fs::symlink("..data/proxy.yaml", volume.join("link")).unwrap();
            std::fs::rename(volume.join("link"), volume.join("proxy.yaml")).unwrap();
        }
        comes(&format!("/{name}"));
    }
    assert_eq!(reloads(&proxy, "failure"), 0.0);
}

#[test]
fn a_bad_file_that_comes_by_itself_changes_nothing_and_is_told_once() {
    let upstream = Upstream::answering("");
    let proxy = Proxy::start(file(&upstream, "/one", 3));
    let text = std::fs::read_to_string(proxy.config()).unwrap();
    std::fs::write(proxy.config(), &text).unwrap();
    std::fs::write(proxy.config(), "routes: [").unwrap();
    until("the bad file to be seen", || {
        reloads(&proxy, "failure") > 0.0
    });
    assert_eq!(proxy.get("/one").status, 200);
    std::fs::remove_file(proxy.config()).unwrap();
    until("the missing file to be seen", || {
        reloads(&proxy, "failure") > 1.0
    });
    assert_eq!(proxy.get("/one").status, 200);
    std::fs::write(proxy.config(), text.replace("/one", "/two")).unwrap();
    until("the good file", || proxy.get("/two").status == 200);
    assert_eq!(
        (reloads(&proxy, "failure"), reloads(&proxy, "success")),
        (2.0, 1.0)
    );
}

#[test]
fn a_thousand_reloads_under_load_fail_no_request() {
    let upstream = Upstream::answering("ok");
    let proxy = Proxy::start(file(&upstream, "/{*rest}", 3));
    let (good, path) = (
        std::fs::read_to_string(proxy.config()).unwrap(),
        proxy.config().to_owned(),
    );
    let over = AtomicBool::new(false);
    let asked = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut client = proxy.connect();
                while !over.load(Ordering::Relaxed) {
                    let answer = client.send(&get("/x")).whole();
                    assert_eq!(answer.status, 200);
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut told = Client::connect(proxy.admin());
        for round in 0..1000 {
            let bad = round % 4 == 3;
            let text = match bad {
                true => format!("{good}nonsense: {round}\n"),
                false => good.replace("requests: 2,", &format!("requests: {},", 2 + round % 5)),
            };
            std::fs::write(&path, text).unwrap();
            let ask = post("/-/reload", "{}").header("Content-Type", "application/json");
            assert_eq!(
                told.send(&ask).status,
                if bad { 422 } else { 200 },
                "round {round}"
            );
        }
        over.store(true, Ordering::Relaxed);
    });
    assert!(asked.load(Ordering::Relaxed) > 0);
    assert!(reloads(&proxy, "failure") >= 250.0 && reloads(&proxy, "success") >= 750.0);
}

/// What stands where the file was, and never ends or never begins.
#[test]
fn what_is_no_regular_file_is_a_problem_that_nothing_waits_for() {
    let upstream = Upstream::answering("");
    for thing in ["fifo", "device"] {
        let mut proxy = Proxy::start(file(&upstream, "/one", 3));
        let path = proxy.config().to_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        // In place of the file in one step: for no moment is there none.
        let made = path.with_extension("made");
        match thing {
            "fifo" => {
                let made = std::process::Command::new("mkfifo").arg(&made).status();
                assert!(made.unwrap().success());
            }
            _ => std::os::unix::fs::symlink("/dev/zero", &made).unwrap(),
        }
        std::fs::rename(&made, &path).unwrap();
        proxy.signal("HUP");
        until("the problem to be told", || {
            reloads(&proxy, "failure") > 0.0
        });
        let told = proxy.ask(&get("/api/v1/status")).json()["config"]["last_error"].to_string();
        assert!(told.contains("it is no regular file"), "{thing}: {told}");
        assert_eq!(proxy.get("/one").status, 200);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, text.replace("/one", "/two")).unwrap();
        until("the good file", || proxy.get("/two").status == 200);
        assert!(proxy.stop().success(), "{thing}");
    }
}
