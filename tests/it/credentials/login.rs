//! `login --device`: a person types a code elsewhere, and the refresh token is kept for its owner alone.

use std::os::unix::fs::PermissionsExt as _;

use crate::support::proxy::File;
use crate::support::verbs::verb_in;
use crate::support::*;

fn json(status: u16, body: &str) -> Step {
    reply(status)
        .header("Content-Type", "application/json")
        .body(body)
}

fn config(provider: &Upstream) -> File {
    let url = provider.url();
    File::write(&format!(
        "
credentials:
  c:
    oauth2:
      client_id: us
      refresh_token_file: refresh
      scopes: [one]
      token_url: {url}/token
      device_url: {url}/device
upstreams:
  up: {{ url: http://127.0.0.1:9, credential: c }}
routes:
  - {{ name: all, match: {{ path: \"/{{*rest}}\" }}, upstream: up }}
"
    ))
}

const CODE: &str = "{\"device_code\":\"d-canary\",\"user_code\":\"ABCD-EFGH\",\"verification_uri\":\"https://id.example/device\",\"interval\":1,\"expires_in\":60}";

#[test]
fn a_device_login_waits_for_the_person_and_keeps_the_token_for_its_owner() {
    let provider = Upstream::script([
        json(200, CODE),
        json(400, "{\"error\":\"authorization_pending\"}"),
        json(
            200,
            "{\"access_token\":\"t\",\"expires_in\":60,\"refresh_token\":\"r-canary\"}",
        ),
    ]);
    let file = config(&provider);
    let ended = verb_in(&file.path, &["login", "c", "--device"], &[]);
    assert_eq!(ended.code, Some(0), "{}", ended.text());
    assert!(
        ended.stdout.contains("https://id.example/device") && ended.stdout.contains("ABCD-EFGH"),
        "{}",
        ended.stdout
    );
    assert!(!ended.text().contains("canary"), "{}", ended.text());
    let kept = file.path.with_file_name("refresh");
    assert_eq!(std::fs::read_to_string(&kept).unwrap(), "r-canary\n");
    let mode = std::fs::metadata(&kept).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let asked = provider.requests();
    let targets: Vec<&str> = asked.iter().map(|r| r.target.as_str()).collect();
    assert_eq!(targets, ["/device", "/token", "/token"]);
    assert_eq!(asked[0].text(), "client_id=us&scope=one");
    assert_eq!(
        asked[2].text(),
        "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Adevice_code&device_code=d-canary&client_id=us"
    );
}

#[test]
fn a_device_login_that_is_refused_keeps_nothing() {
    let provider = Upstream::script([json(200, CODE), json(400, "{\"error\":\"access_denied\"}")]);
    let file = config(&provider);
    let ended = verb_in(&file.path, &["login", "c", "--device"], &[]);
    assert_eq!(ended.code, Some(1), "{}", ended.text());
    assert!(!ended.text().contains("canary"), "{}", ended.text());
    assert!(!file.path.with_file_name("refresh").exists());
}
