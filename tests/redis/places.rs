//! Where a store may be: behind a password, behind TLS with an authority of its own, in three parts of a cluster.

use std::time::Duration;

use crate::server::Redis;
use crate::support::proxy::File;
use crate::support::upstream::free_address;
use crate::support::wait::within;
use crate::support::*;
use crate::together::*;

const LIMITED: &str = "
rate_limits: { l: { requests: 3, per: 1h } }
clients: { identify_by: [header:X-Client-ID, ip] }
routes:
  - { name: all, match: { path: \"/{*rest}\" }, rate_limit: l, stub: { status: 200 } }
";

/// Three requests pass at two replicas together, the fourth does not.
#[track_caller]
fn count_together(proxies: &[Proxy], client: &str) {
    let request = get("/x").header("X-Client-ID", client);
    let statuses: Vec<u16> = (0..4)
        .map(|n| proxies[n % 2].send(&request).status)
        .collect();
    assert_eq!(statuses, [200, 200, 200, 429], "{client}");
}

#[test]
fn a_password_is_used_and_told_to_nobody() {
    let redis = Redis::with(&["--requirepass", "canary-7f3a"]);
    let start = || {
        let file = File::write(&format!(
            "redis: {{ url: \"{}\", timeout: 500ms, password_file: password }}\n{LIMITED}",
            redis.url()
        ));
        file.beside("password", "canary-7f3a\n");
        Proxy::on(file, &[("RUST_LOG", "trace")])
    };
    let proxies = [start(), start()];
    proxies.iter().for_each(|proxy| wait_for_store(proxy, 1.0));
    count_together(&proxies, "a");
    let wrong = replica(
        &redis.url().replace("//", "//:canary-wrong@"),
        &format!("redis: {{ url: \"@URL@\" }}\n{LIMITED}"),
    );
    until("a failed try", || {
        let status = wrong.ask(&get("/api/v1/status")).json();
        status["store"]["why"]
            .as_str()
            .is_some_and(|why| why.contains("WRONGPASS") || why.contains("assword"))
    });
    for proxy in proxies.iter().chain([&wrong]) {
        let pages = ["/api/v1/status", "/metrics", "/"].map(|page| proxy.ask(&get(page)).text());
        let all = format!(
            "{}{}{}",
            proxy.stderr(),
            proxy.log().join("\n"),
            pages.join("\n")
        );
        assert!(!all.contains("canary"), "the password is out");
    }
}

#[test]
fn a_password_that_is_changed_in_its_file_is_used_for_the_next_connection() {
    let redis = Redis::start();
    let user = |words: &[&str]| {
        let all: Vec<&str> = ["ACL", "SETUSER", "app"]
            .iter()
            .chain(words)
            .copied()
            .collect();
        assert_eq!(redis.ask(&all), "OK");
    };
    user(&["on", ">first", "~*", "&*", "+@all"]);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("password");
    std::fs::write(&file, "first\n").unwrap();
    let url = redis.url().replace("//", "//app@");
    let yaml = format!(
        "redis: {{ url: \"@URL@\", timeout: 500ms, password_file: {} }}\n{LIMITED}",
        file.display()
    );
    let proxies = replicas(2, &url, &yaml);
    user(&[">second", "<first"]);
    redis.ask(&["CLIENT", "KILL", "USER", "app"]);
    until("the old password to be refused", || {
        let status = proxies[0].ask(&get("/api/v1/status")).json();
        let why = status["store"]["why"].as_str();
        why.is_some_and(|why| why.contains("WRONGPASS") || why.contains("assword"))
    });
    std::fs::write(&file, "second\n").unwrap();
    proxies.iter().for_each(|proxy| wait_for_store(proxy, 1.0));
    count_together(&proxies, "a");
}

#[test]
fn tls_is_spoken_to_a_store_that_proves_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let place = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    let pair = rcgen::generate_simple_self_signed(names.clone()).unwrap();
    std::fs::write(place("cert.pem"), pair.cert.pem()).unwrap();
    std::fs::write(place("key.pem"), pair.signing_key.serialize_pem()).unwrap();
    let stranger = rcgen::generate_simple_self_signed(names)
        .unwrap()
        .cert
        .pem();
    let (cert, key) = (place("cert.pem"), place("key.pem"));
    let redis = Redis::with(&[
        "--port",
        "0",
        "--tls-port",
        "@PORT@",
        "--tls-auth-clients",
        "no",
        "--tls-cert-file",
        &cert,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &cert,
    ]);
    let start = |ca: &str| {
        let file = File::write(&format!(
            "redis: {{ url: \"rediss://{}\", timeout: 500ms, ca_file: ca.pem }}\n{LIMITED}",
            redis.address
        ));
        file.beside("ca.pem", ca);
        Proxy::on(file, &[])
    };
    let proxies = [start(&pair.cert.pem()), start(&pair.cert.pem())];
    proxies.iter().for_each(|proxy| wait_for_store(proxy, 1.0));
    count_together(&proxies, "a");
    let wary = start(&stranger);
    until("a refused certificate", || {
        let status = wary.ask(&get("/api/v1/status")).json();
        status["store"]["why"]
            .as_str()
            .is_some_and(|why| why.contains("ertificate"))
    });
    assert_eq!(store_up(&wary), 0.0);
    assert_eq!(wary.get("/x").status, 200);
}

/// Three servers that are one cluster.
fn cluster() -> Vec<Redis> {
    let node = |n: usize| {
        let bus = free_address().port().to_string();
        let words = [
            "--cluster-enabled",
            "yes",
            "--cluster-node-timeout",
            "2000",
            "--cluster-port",
            &bus,
        ];
        let redis = Redis::with(&words);
        let (first, last) = (n * 5461, if n == 2 { 16_383 } else { n * 5461 + 5460 });
        let range = [
            "CLUSTER",
            "ADDSLOTSRANGE",
            &first.to_string(),
            &last.to_string(),
        ];
        assert_eq!(redis.ask(&range), "OK");
        (redis, bus)
    };
    let nodes: Vec<(Redis, String)> = (0..3).map(node).collect();
    let (first, bus) = &nodes[0];
    let port = first.address.port().to_string();
    for (other, _) in &nodes[1..] {
        assert_eq!(
            other.ask(&["CLUSTER", "MEET", "127.0.0.1", &port, bus]),
            "OK"
        );
    }
    for (node, _) in &nodes {
        within(Duration::from_secs(30), "the cluster to be one", || {
            let info = node.ask(&["CLUSTER", "INFO"]);
            let joined = [
                "cluster_state:ok",
                "cluster_known_nodes:3",
                "cluster_slots_ok:16384",
            ];
            joined.iter().all(|word| info.contains(word)).then_some(())
        });
    }
    nodes.into_iter().map(|(node, _)| node).collect()
}

#[test]
fn a_cluster_of_three_is_one_store() {
    let mut nodes = cluster();
    let yaml = format!("redis: {{ url: \"@URL@\", cluster: true, timeout: 500ms }}\n{LIMITED}");
    let proxies = replicas(2, &nodes[0].url(), &yaml);
    for n in 0..20 {
        count_together(&proxies, &n.to_string());
    }
    let used = |node: &Redis| {
        node.keys()
            .iter()
            .filter(|key| key.contains(":limit:"))
            .count()
    };
    let spread: Vec<usize> = nodes.iter().map(used).collect();
    println!("buckets by node: {spread:?}");
    assert_eq!(spread.iter().sum::<usize>(), 20);
    assert!(spread.iter().all(|count| *count > 0), "{spread:?}");
    // A part that is missing is a store that is missing: who counts is never a matter of luck.
    nodes[2].kill();
    wait_for_store(&proxies[0], 0.0);
    assert_eq!(proxies[0].get("/x").status, 200);
}
