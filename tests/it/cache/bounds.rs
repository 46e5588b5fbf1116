//! Memory is bounded by the file, not by traffic: by route and over all, and what is used stays longest.

use super::*;

fn held(proxy: &Proxy, route: &str) -> f64 {
    let labels = [("route", route)];
    proxy
        .metrics()
        .value("trunkline_cache_bytes", &labels)
        .unwrap()
}

#[test]
fn a_route_keeps_no_more_than_it_may_and_what_is_used_stays() {
    let body = "x".repeat(10_000);
    let up = Upstream::answering(&body);
    let proxy = keeping(&up, "ttl: 5m, max_bytes: 100KiB, max_entry: 20KiB");
    proxy.get("/used").whole();
    for number in 0..40 {
        proxy.get(&format!("/{number}")).whole();
        proxy.get("/used").whole();
        assert!(held(&proxy, "kept") <= 102_400.0);
    }
    assert_eq!(up.count(), 41, "what is used all the time was fetched once");
    assert!(held(&proxy, "kept") > 50_000.0);
    let labels = [("route", "kept")];
    let evicted = proxy
        .metrics()
        .value("trunkline_cache_evictions_total", &labels);
    assert!(evicted > Some(20.0), "{evicted:?}");
}

#[test]
fn all_routes_together_keep_no_more_than_they_may() {
    let up = Upstream::answering(&"x".repeat(10_000));
    let yaml = format!(
        "
cache: {{ max_bytes: 100KiB }}
upstreams: {{ up: {{ url: \"{}\" }} }}
routes:
  - {{ name: a, match: {{ path: \"/a/{{*rest}}\" }}, upstream: up, cache: {{ ttl: 5m }} }}
  - {{ name: b, match: {{ path: \"/b/{{*rest}}\" }}, upstream: up, cache: {{ ttl: 5m }} }}
",
        up.url()
    );
    let proxy = Proxy::start(yaml);
    for number in 0..20 {
        for route in ["a", "b"] {
            proxy.get(&format!("/{route}/{number}")).whole();
            assert!(held(&proxy, "a") + held(&proxy, "b") <= 102_400.0);
        }
    }
    assert!(held(&proxy, "a") > 20_000.0 && held(&proxy, "b") > 20_000.0);
}

#[test]
fn an_answer_above_the_bound_passes_and_is_not_kept() {
    let up = Upstream::choosing(|_, request| match request.target.as_str() {
        "/small" => reply(200).body("x".repeat(4096)),
        _ => reply(200).body("x".repeat(4097)),
    });
    let proxy = keeping(&up, "ttl: 5m, max_entry: 4KiB");
    for (path, count) in [("/small", 1), ("/small", 1), ("/large", 2), ("/large", 3)] {
        proxy.get(path).whole();
        assert_eq!(up.count(), count, "{path}");
    }
}

/// What `/proc` says of the proxy's memory, in bytes.
fn resident(proxy: &Proxy) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", proxy.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: f64 = line
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    kib * 1024.0
}

#[test]
fn what_is_kept_takes_no_more_memory_than_is_counted_for_it() {
    let up = Upstream::answering("x");
    let proxy = keeping(&up, "ttl: 5m");
    let mut client = proxy.connect();
    let mut fill = |from: usize, to: usize| {
        for number in from..to {
            client.send(&get(&format!("/{number}")));
        }
    };
    // What everything else takes is there before.
    fill(0, 500);
    let (held_before, before) = (held(&proxy, "kept"), resident(&proxy));
    fill(500, 5_500);
    let counted = held(&proxy, "kept") - held_before;
    let grown = resident(&proxy) - before;
    assert!(grown < 2.0 * counted, "{grown} for {counted}");
}
