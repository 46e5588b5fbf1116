//! What a service manager hears: ready once requests are answered, a reload from its begin to its end, and the stop.

use std::os::unix::net::UnixDatagram;
use std::path::Path;

use crate::support::*;

/// The manager's end of the conversation.
struct Manager(UnixDatagram);

impl Manager {
    fn listen(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self(socket)
    }

    /// The next message, line by line.
    #[track_caller]
    fn hears(&self) -> Vec<String> {
        let mut room = [0; 1024];
        let length = until_some("a word to the service manager", || {
            self.0.recv(&mut room).ok()
        });
        let text = String::from_utf8_lossy(&room[..length]).into_owned();
        text.lines().map(str::to_owned).collect()
    }

    fn hears_nothing(&self) -> bool {
        self.0.recv(&mut [0; 1024]).is_err()
    }
}

#[test]
fn the_service_manager_hears_of_the_start_a_reload_and_the_stop() {
    let upstream = Upstream::answering("");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let manager = Manager::listen(&path);
    let environment = [("NOTIFY_SOCKET", path.to_str().unwrap())];
    let mut proxy = Proxy::with_env(straight_to(&upstream), &environment);
    assert_eq!(manager.hears(), ["READY=1"]);
    assert_eq!(proxy.get("/").status, 200);

    proxy.signal("HUP");
    let reloading = manager.hears();
    assert_eq!(reloading[0], "RELOADING=1");
    assert!(reloading[1].starts_with("MONOTONIC_USEC="), "{reloading:?}");
    assert_eq!(manager.hears(), ["READY=1"]);

    std::fs::write(proxy.config(), "routes: 7").unwrap();
    proxy.signal("HUP");
    assert_eq!(manager.hears()[0], "RELOADING=1");
    assert_eq!(
        manager.hears(),
        ["READY=1"],
        "a file that is refused ends a reload too"
    );

    assert!(manager.hears_nothing());
    proxy.signal("TERM");
    assert_eq!(manager.hears(), ["STOPPING=1"]);
    assert_eq!(proxy.wait_for_exit().code(), Some(0));
}

#[test]
fn a_manager_that_is_not_there_stops_nothing() {
    let upstream = Upstream::answering("");
    let environment = [("NOTIFY_SOCKET", "/nonexistent/notify")];
    let mut proxy = Proxy::with_env(straight_to(&upstream), &environment);
    assert_eq!(proxy.get("/").status, 200);
    assert_eq!(proxy.stop().code(), Some(0));
}
